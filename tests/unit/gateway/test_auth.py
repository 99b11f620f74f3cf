"""Which keys open the gateway."""

from __future__ import annotations

from pathlib import Path

from llama_halo.gateway.auth import Keys
from llama_halo.gateway.http.errors import Failure

KEY, OTHER = "k" * 20, "o" * 20


def passes(keys: Keys, **headers: str) -> bool:
    try:
        keys.check({name.replace("_", "-"): value for name, value in headers.items()})
    except Failure as failure:
        assert failure.status == 401
        assert KEY not in failure.message
        return False
    return True


def test_any_key_of_the_folder_opens_in_any_of_the_apis_ways(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text(f"{KEY}\n")
    (tmp_path / "bob").write_text(OTHER)
    (tmp_path / "short").write_text("secret")
    (tmp_path / "..data").write_text("d" * 20)
    keys = Keys(tmp_path)
    assert passes(keys, authorization=f"Bearer {KEY}")
    assert passes(keys, x_api_key=OTHER)
    assert passes(keys, api_key=KEY)
    assert passes(keys, authorization="Bearer wrong", x_api_key=KEY), "any that is right will do"
    for wrong in ({}, {"x_api_key": "secret"}, {"x_api_key": KEY[:-1]}, {"x_api_key": "d" * 20}):
        assert not passes(keys, **wrong)
    assert not passes(keys, authorization=f"Basic {KEY}")
    assert not passes(keys, authorization="Bearer \udcff")


def test_keys_are_read_again_and_never_lost_to_a_folder_that_is_away(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "alice").write_text(KEY)
    keys = Keys(folder, reread_seconds=0)
    assert passes(keys, x_api_key=KEY)
    (folder / "alice").write_text(OTHER)
    assert passes(keys, x_api_key=OTHER)
    assert not passes(keys, x_api_key=KEY)
    folder.rename(tmp_path / "away")
    assert passes(keys, x_api_key=OTHER)


def test_without_any_usable_key_nobody_may(tmp_path: Path) -> None:
    assert not passes(Keys(tmp_path), x_api_key=KEY)
    assert not passes(Keys(tmp_path / "none"), x_api_key=KEY)
    assert passes(Keys(None))


def test_a_key_has_a_digest_of_its_own_and_no_key_none(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text(KEY)
    (tmp_path / "bob").write_text(OTHER)
    keys = Keys(tmp_path)
    alice, bob = keys.check({"x-api-key": KEY}), keys.check({"x-api-key": OTHER})
    assert len({alice, bob, ""}) == 3
    assert keys.check({"authorization": f"Bearer {KEY}"}) == alice
    assert KEY[:8] not in alice
    assert Keys(None).check({"x-api-key": KEY}) == ""

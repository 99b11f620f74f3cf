"""The door to a model: slots, a fair queue, and who may come in at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llama_halo.gateway import auth, ui
from llama_halo.gateway.admission import MOST_WAITING, Admission
from llama_halo.gateway.apis.errors import ANTHROPIC
from llama_halo.gateway.auth import Keys
from llama_halo.gateway.call import Call
from llama_halo.gateway.config import GatewayConfig
from llama_halo.gateway.failures import Failure
from llama_halo.gateway.models import Model
from llama_halo.gateway.routing import Target


def model(parallel: int = 1, replicas: int = 1) -> Model:
    servers = tuple(f"http://{each}" for each in range(replicas))
    return Model("m", "http://m", True, "Serving", parallel=parallel, serving=servers)


class Visitors:
    """Requests that come and stay until they are told to go."""

    def __init__(self, admission: Admission, which: Model) -> None:
        self.admission, self.model = admission, which
        self.order: list[str] = []
        self.go = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    async def come(self, session: str) -> None:
        async def visit() -> None:
            async with self.admission.slot(self.model, session):
                self.order.append(session)
                await self.go.wait()

        self.tasks.append(asyncio.create_task(visit()))
        await asyncio.sleep(0)

    async def all_go(self) -> None:
        self.go.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_as_many_come_in_as_there_are_slots_of_all_replicas() -> None:
    visitors = Visitors(Admission(), model(parallel=2, replicas=2))
    for _ in range(6):
        await visitors.come("a")
    assert (len(visitors.order), visitors.admission.waiting("m")) == (4, 2)
    await visitors.all_go()
    assert len(visitors.order) == 6
    assert visitors.admission.inside("m") == visitors.admission.waiting("m") == 0


async def test_sessions_take_turns() -> None:
    visitors = Visitors(Admission(), model())
    for session in ("a", "a", "a", "a", "b", "c"):
        await visitors.come(session)
    await visitors.all_go()
    assert visitors.order == ["a", "a", "b", "c", "a", "a"]


async def test_who_leaves_the_line_or_is_cut_keeps_nobody_out() -> None:
    visitors = Visitors(Admission(), model())
    for session in ("a", "b", "c", "d"):
        await visitors.come(session)
    visitors.tasks[1].cancel()
    visitors.tasks[0].cancel()
    await asyncio.sleep(0.01)
    assert visitors.order == ["a", "c"]
    visitors.tasks[3].cancel()
    await visitors.all_go()
    assert visitors.admission.inside("m") == visitors.admission.waiting("m") == 0


async def test_who_is_cancelled_as_it_is_let_in_gives_its_slot_on() -> None:
    visitors = Visitors(Admission(), model())
    for session in ("a", "b", "c"):
        await visitors.come(session)
    visitors.tasks[0].cancel()
    visitors.tasks[1].cancel()
    await asyncio.sleep(0.01)
    assert visitors.order == ["a", "c"]
    await visitors.all_go()
    assert visitors.admission.inside("m") == 0


async def test_a_queue_that_is_full_says_so() -> None:
    visitors = Visitors(Admission(), model())
    for _ in range(MOST_WAITING + 1):
        await visitors.come("a")
    with pytest.raises(Failure) as full:
        async with visitors.admission.slot(visitors.model, "b"):
            pass
    assert (full.value.status, full.value.retry_after_seconds) == (429, 5)
    await visitors.all_go()


async def test_the_status_page_is_told_what_there_is() -> None:
    config = GatewayConfig.model_validate(
        {
            "router": "main",
            "namespace": "llm",
            "models": [{"name": name, "llama_model": name} for name in ("m", "gone")],
            "routes": {"default": "m"},
        }
    )
    visitors = Visitors(Admission(), model(parallel=2))
    for _ in range(3):
        await visitors.come("a")
    call = Call(ANTHROPIC, "claude-code", target=Target("m", "m", "default"))
    seen = ui.snapshot(config, {"m": visitors.model}, visitors.admission, [call], {"m": 7})
    first, second = seen["models"]
    assert (first["working"], first["slots"], first["waiting"], first["answered"]) == (2, 2, 1, 7)
    assert second["state"] == "not there"
    (told,) = seen["calls"]
    assert (told["client"], told["model"], told["route"]) == ("claude-code", "m", "default")
    assert seen["routes"] == {"default": "m"}
    await visitors.all_go()


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = ui.page()
    assert "http" not in page.replace("http-equiv", "")
    assert "innerHTML" not in page, "names come from resources: they are text"


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


def test_keys_are_read_again_and_never_lost_to_a_folder_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "alice").write_text(KEY)
    monkeypatch.setattr(auth, "LOOK_SECONDS", 0.0)
    keys = Keys(folder)
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

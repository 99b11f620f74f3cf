"""`llama-halo inspect` as a process: what it says of sources, good and bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llama_halo.artifacts.report import MAX_BYTES
from llama_halo.artifacts.sources import read_model_header
from llama_halo.gguf import companions
from llama_halo.gguf.profile import from_json
from tests.support.gguf_files import header_bytes
from tests.support.gguf_models import model
from tests.support.gguf_projectors import adapter, gemma3, write
from tests.support.hub import COMMIT, Hub, serve, sha256_of
from tests.support.job_process import Job

F16 = 1
OTHER = "decade" + "0" * 34


def test_a_hub_source_is_pinned_to_commit_checksum_and_folder(hub: Hub, job: Job) -> None:
    status, value = job("inspect", "--repo", "o/r", "--file", "sub/x-Q4_K_M.gguf")
    assert status == 0, value
    path = hub.folder / "sub/x-Q4_K_M.gguf"
    assert value["revision"] == COMMIT
    assert value["sha256"] == sha256_of(path)
    assert value["folder"] == f"hf/o/r/{value['sha256'][:16]}"
    assert (value["file"], value["bytes"]) == ("sub/x-Q4_K_M.gguf", path.stat().st_size)
    profile = from_json(value["profile"])
    assert (profile.model.architecture, profile.quantization) == ("llama", "Q4_K_M")
    assert hub.sent_bytes < path.stat().st_size


def test_a_branch_that_moved_is_another_commit_and_the_same_bytes_the_same_folder(
    hub: Hub, job: Job
) -> None:
    arguments = ("inspect", "--repo", "o/r", "--file", "sub/x-Q4_K_M.gguf")
    before = job(*arguments)[1]
    hub.revisions["main"] = OTHER
    after = job(*arguments)[1]
    assert (before["revision"], after["revision"]) == (COMMIT, OTHER)
    assert before["folder"] == after["folder"]
    changed = hub.folder / OTHER / "sub"
    changed.mkdir(parents=True)
    data = (hub.folder / "sub/x-Q4_K_M.gguf").read_bytes()
    (changed / "x-Q4_K_M.gguf").write_bytes(data[:-1] + b"x")
    assert job(*arguments)[1]["folder"] != before["folder"]


def test_a_model_of_64_shards_and_126_layers_fits_the_last_words(hub: Hub, job: Job) -> None:
    """Its layers have sizes of their own, as mixed quantizations do."""
    of_405b = model("llama", (126, 16384, 128, 8), vocabulary=128256, feed_forward=53248)
    tensors, shards = [], 64
    for index in range(shards):
        of_shard, offset = [], 0
        for layer in range(index * 2, min(index * 2 + 2, 126)):
            of_shard.append((f"blk.{layer}.ffn_up.weight", [512 + 32 * (layer % 5)], F16, offset))
            offset += (512 + 32 * (layer % 5)) * 2
        tensors.append((of_shard, offset))
    count = sum(len(tensor) for tensor, _ in tensors)
    for index, (of_shard, size) in enumerate(tensors):
        split = {"split.no": index, "split.count": shards, "split.tensors.count": count}
        head = header_bytes({**of_405b, **split}, of_shard)
        path = hub.folder / f"big-{index + 1:05}-of-{shards:05}.gguf"
        path.write_bytes(head + bytes(-len(head) % 32 + size))
    status, value = job("inspect", "--repo", "o/r", "--file", f"big-00001-of-{shards:05}.gguf")
    assert status == 0, value
    assert value["shards"] == shards
    assert len(from_json(value["profile"]).layer_weights) == 126
    assert len(json.dumps(value)) < MAX_BYTES / 2


def test_a_file_in_the_store_is_read_where_it_is(hub: Hub, job: Job) -> None:
    arguments = ("--store", str(hub.folder))
    status, value = job("inspect", "--path", "sub/x-Q4_K_M.gguf", *arguments)
    assert (status, value["folder"], value["file"]) == (0, "", "sub/x-Q4_K_M.gguf")
    status, value = job("inspect", "--path", "none.gguf", *arguments)
    assert (status, value["error"]["reason"]) == (1, "SourceNotFound")
    (hub.folder / "out.gguf").symlink_to("/etc/passwd")
    status, value = job("inspect", "--path", "out.gguf", *arguments)
    assert "leads out of the store" in value["error"]["message"]


@pytest.mark.parametrize(
    ("trouble", "arguments", "status", "reason"),
    [
        ({"token": "secret"}, (), 1, "Unauthorized"),
        ({"fails_with": 403, "error_code": "GatedRepo"}, (), 1, "Unauthorized"),
        ({"fails_with": 404, "error_code": "RepoNotFound"}, (), 1, "SourceNotFound"),
        ({}, ("--revision", "none"), 1, "SourceNotFound"),
        ({}, ("--file", "none.gguf"), 1, "SourceNotFound"),
        ({"fails_with": 429}, (), 1, "SourceUnreachable"),
        ({"fails_with": 500}, (), 1, "SourceUnreachable"),
        ({"ranges": False}, (), 1, "SourceUnreachable"),
        ({}, ("--file", "text.gguf"), 0, "NotAGGUF"),
        ({}, ("--file", "cut.gguf"), 0, "NotAGGUF"),
        ({}, ("--file", "projector.gguf"), 0, "UnsupportedModel"),
        ({}, ("--kind", "projector"), 0, "UnsupportedModel"),
        ({}, ("--kind", "adapter"), 0, "UnsupportedModel"),
        ({}, ("--file", "projector.gguf", "--kind", "projector"), 0, "UnsupportedModel"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_source_has_its_reason(
    hub: Hub, job: Job, trouble: Any, arguments: tuple[str, ...], status: int, reason: str
) -> None:
    """Status 0 is an answer, which asking again would not better."""
    (hub.folder / "text.gguf").write_text("<html>" + "not found" * 1000)
    (hub.folder / "cut.gguf").write_bytes((hub.folder / "sub/x-Q4_K_M.gguf").read_bytes()[:900])
    (hub.folder / "projector.gguf").write_bytes(header_bytes({"general.architecture": "clip"}))
    with serve(Hub(hub.folder, **trouble)) as troubled:
        value = job(
            *("inspect", "--repo", "o/r", "--file", "sub/x-Q4_K_M.gguf", *arguments),
            HF_ENDPOINT=troubled.url,
        )
    assert (value[0], value[1].get("error", {}).get("reason")) == (status, reason), value
    assert len(value[1]["error"]["message"]) > 20


@pytest.mark.parametrize(
    "mirror",
    [
        {"paths_info": False},
        {"paths_info": False, "page_files": 1},
        {"moved": 301},
        {"moved": 302},
        {"moved": 307},
        {"moved": 308},
        {"moved": 301, "paths_info": False},
    ],
    ids=str,
)
def test_a_mirror_that_has_less_or_has_moved_is_as_good(hub: Hub, job: Job, mirror: Any) -> None:
    arguments = ("inspect", "--repo", "o/r", "--file", "sub/x-Q4_K_M.gguf")
    (hub.folder / "sub/a.gguf").write_bytes(b"another")
    expected = job(*arguments)
    with serve(Hub(hub.folder, **mirror)) as other:
        assert job(*arguments, HF_ENDPOINT=other.url) == expected
        status, value = job(*arguments[:-1], "sub/none.gguf", HF_ENDPOINT=other.url)
    assert (status, value["error"]["reason"]) == (1, "SourceNotFound")


def test_how_long_the_hub_asks_to_wait_is_told(hub: Hub, job: Job) -> None:
    hub.fails_with = 429
    status, value = job("inspect", "--repo", "o/r", "--file", "sub/x-Q4_K_M.gguf")
    assert status == 1
    assert "the server asks to wait 55 s" in value["error"]["message"]


@pytest.mark.parametrize(
    ("status", "says", "never"),
    [(403, "the URL has expired", "terms"), (401, "headersSecretRef", "HF_TOKEN")],
)
def test_a_url_that_is_refused_is_not_told_of_the_hub(
    hub: Hub, job: Job, status: int, says: str, never: str
) -> None:
    hub.fails_with = status
    message = job("inspect", "--url", f"{hub.url}/plain/x.gguf?signature=1")[1]["error"]["message"]
    assert says in message
    assert never not in message
    assert "signature" not in message


def test_the_token_goes_to_the_hub_and_nowhere_else(hub: Hub, job: Job) -> None:
    hub.token = "secret"
    arguments = ("inspect", "--repo", "o/r", "--file", "sub/x-Q4_K_M.gguf")
    assert job(*arguments, HF_TOKEN="secret")[0] == 0
    assert hub.authorized
    assert not [item for item in hub.authorized if item.startswith("/cdn/")]
    assert "secret" not in job.log


def test_a_url_is_told_by_its_checksum_or_its_version(hub: Hub, job: Job, tmp_path: Path) -> None:
    url = f"{hub.url}/plain/sub/x-Q4_K_M.gguf?key=1"
    status, value = job("inspect", "--url", url)
    assert status == 0, value
    assert value["file"] == "x-Q4_K_M.gguf"
    assert value["version"].startswith('"')
    assert value["sha256"] is None
    named = "ab" * 32
    status, value = job("inspect", "--url", url, "--sha256", named)
    assert (value["folder"], value["sha256"]) == (f"http/{named[:16]}", named)
    (tmp_path / "headers").mkdir()
    (tmp_path / "headers" / "Authorization").write_text("Bearer of mine\n")
    status, value = job("inspect", "--url", url, "--headers", str(tmp_path / "headers"))
    assert status == 0
    assert "/plain/sub/x-Q4_K_M.gguf" in hub.authorized


def test_secret_headers_go_to_no_other_host(hub: Hub, job: Job, tmp_path: Path) -> None:
    (tmp_path / "headers").mkdir()
    (tmp_path / "headers" / "X-Key").write_text("secret")
    arguments = ("--url", f"{hub.url}/elsewhere/sub/x-Q4_K_M.gguf")
    status, value = job("inspect", *arguments, "--headers", str(tmp_path / "headers"))
    assert status == 0, value
    assert set(hub.keyed) == {"/elsewhere/sub/x-Q4_K_M.gguf"}
    assert "secret" not in job.log


@pytest.mark.parametrize("kind", ["projector", "adapter"])
def test_what_goes_with_a_model_is_told_by_its_header(hub: Hub, job: Job, kind: str) -> None:
    file = hub.folder / f"{kind}.gguf"
    write(file, *gemma3()) if kind == "projector" else adapter(file)
    arguments = ("inspect", "--repo", "o/r", "--file", file.name, "--kind", kind)
    status, value = job(*arguments)
    assert status == 0, value
    parsed = companions.from_json(value["companion"])
    size = sum(read_model_header(str(file)).tensors.values())
    assert (parsed.kind, parsed.weights, value["bytes"]) == (kind, size, file.stat().st_size)
    assert parsed.has_vision == (kind == "projector")

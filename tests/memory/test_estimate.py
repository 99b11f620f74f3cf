"""`llama-halo estimate` as it is called: files, shards, HTTP ranges, the Hub, what it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.testbed import llama_server
from llama_halo.gguf.header import read_header
from llama_halo.gguf.layers import dimensions
from llama_halo.gguf.memory import Estimate, Serving
from llama_halo.gguf.memory import estimate as in_bytes
from tests.support.gguf_files import header_bytes
from tests.support.gguf_models import MODELS
from tests.support.hub import Hub, serve

DATA_BYTES = 50 * 2**20
F16 = 1


def estimate(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the command, and return its exit status and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "llama_halo", "estimate", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def write_model(path: Path, name: str = "qwen3-next-80b") -> Path:
    """Write a model of true dimensions whose 50 MB of data are a hole."""
    rows = DATA_BYTES // 2 // 1024
    head = header_bytes(MODELS[name], [("output.weight", [1024, rows], F16, 0)])
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + -len(head) % 32 + DATA_BYTES)
    return path


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serve(Hub(tmp_path)) as value:
        yield value


def test_a_file_is_told_in_a_table_for_a_person(tmp_path: Path) -> None:
    status, text = estimate(str(write_model(tmp_path / "x.gguf")), "--context", "65536")
    assert status == 0
    assert "qwen3next" in text
    assert "KV cache        1536.0 MiB" in text
    assert "state             75.4 MiB" in text
    assert "131072 (all)" in text
    assert "Exact" in text


def test_json_has_every_part_unrounded(tmp_path: Path) -> None:
    path = str(write_model(tmp_path / "x.gguf"))
    status, text = estimate(path, "-o", "json", "--cache-type-k", "q8_0", "--cache-type-v", "q8_0")
    assert status == 0
    value = json.loads(text)
    assert value["kv_cache_mib"] == 408.0
    assert value["state_mib"] == 75.375
    assert value["weights_mib"] == 50.0
    assert value["method"] == "Exact"
    parts = ("weights", "kv_cache", "state", "compute", "host")
    assert value["total_mib"] == sum(value[f"{part}_mib"] for part in parts)


def test_settings_reach_the_arithmetic(tmp_path: Path) -> None:
    path = str(write_model(tmp_path / "x.gguf", "gpt-oss-20b"))
    cache = {
        arguments: json.loads(estimate(path, "-o", "json", *arguments.split())[1])["kv_cache_mib"]
        for arguments in ("", "--parallel 4", "--swa-full", "--ubatch 2048", "--context 8192")
    }
    assert cache == {
        "": 786.0,
        "--parallel 4": 792.0,
        "--swa-full": 1536.0,
        "--ubatch 2048": 822.0,
        "--context 8192": 210.0,
    }


def test_a_model_too_large_for_a_machine_gets_a_hint(tmp_path: Path) -> None:
    path = str(write_model(tmp_path / "x.gguf", "hermes-4-70b"))
    _, text = estimate(path, "--context", "131072", "--parallel", "1")
    assert "It needs more" not in text
    _, text = estimate(path, "--context", "393216")
    assert "--cache-type-k q8_0 --cache-type-v q8_0 needs" in text
    _, text = estimate(path, "--context", "1048576")
    assert "--context 131072 fits" in text


def test_the_real_model_weighs_what_llama_server_logs_for_it_on_vulkan() -> None:
    """`Vulkan0 model buffer size = 92.10 MiB`, `Vulkan_Host model buffer size = 28.69 MiB`: its
    embeddings are its output, too."""
    status, text = estimate(str(llama_server.model_file()), "-o", "json", "--context", "4096")
    assert status == 0
    value = json.loads(text)
    assert value["kv_cache_mib"] == 90.0
    assert value["weights_mib"] == pytest.approx(92.10 + 28.69, abs=0.01)


def test_of_a_model_on_the_hub_only_the_header_is_fetched(hub: Hub, tmp_path: Path) -> None:
    write_model(tmp_path / "x.gguf")
    status, text = estimate("hf:owner/repo/x.gguf@main", "-o", "json", HF_ENDPOINT=hub.url)
    assert status == 0, text
    assert json.loads(text)["weights_mib"] == 50.0
    assert hub.sent_bytes < 3 * 2**20
    assert hub.asked[0] == "/owner/repo/resolve/main/x.gguf"


def test_shards_are_read_by_name_wherever_they_are(hub: Hub, tmp_path: Path) -> None:
    for index in range(3):
        split = {"split.no": index, "split.count": 3, "split.tensors.count": 3}
        head = header_bytes({**MODELS["llama-3.2-3b"], **split}, [(f"t{index}", [512], F16, 0)])
        path = tmp_path / f"m-{index + 1:05}-of-00003.gguf"
        path.write_bytes(head + bytes(-len(head) % 32 + 1024))
    first = "m-00001-of-00003.gguf"
    for source in (str(tmp_path / first), f"hf:o/r/{first}", f"{hub.url}/plain/{first}"):
        status, text = estimate(source, "-o", "json", HF_ENDPOINT=hub.url)
        assert status == 0, text
        assert json.loads(text)["weights_mib"] == 3 / 1024
    (tmp_path / "m-00002-of-00003.gguf").unlink()
    status, text = estimate(str(tmp_path / first))
    assert status == 1
    assert "m-00002-of-00003.gguf: No such file" in text


@pytest.mark.parametrize(
    ("trouble", "arguments"),
    [
        ({"fails_with": 404}, "hf:o/r/x.gguf: there is no such file (404)"),
        ({"fails_with": 403}, "accept the model's terms"),
        ({"fails_with": 429}, "too many requests (429)"),
        ({"fails_with": 503}, "the server answered 503"),
        ({"token": "secret"}, "set HF_TOKEN"),
        ({"ranges": False}, "ignores ranges"),
        ({"shifts": 7}, "does not send the range asked for"),
        ({"encoding": "gzip"}, "does not send the range asked for"),
        ({"endless": True}, "does not start with GGUF"),
    ],
)
def test_what_the_hub_refuses_is_told_with_what_to_do(
    trouble: dict[str, object], arguments: str, tmp_path: Path
) -> None:
    write_model(tmp_path / "x.gguf")
    with serve(Hub(tmp_path, **trouble)) as hub:  # type: ignore[arg-type]
        status, text = estimate("hf:o/r/x.gguf", HF_ENDPOINT=hub.url, HF_TOKEN="wrong")
    assert status == 1
    assert arguments in text
    assert "wrong" not in text
    assert "Traceback" not in text


def test_a_token_is_sent_to_the_hub_and_never_printed(tmp_path: Path) -> None:
    write_model(tmp_path / "x.gguf")
    with serve(Hub(tmp_path, token="secret")) as hub:
        status, text = estimate("hf:o/r/x.gguf", HF_ENDPOINT=hub.url, HF_TOKEN="secret\n")
        assert status == 0, text
        status, text = estimate("hf:o/r/x.gguf", HF_ENDPOINT=hub.url, HF_TOKEN="sec ret")
    assert status == 1
    assert "HF_TOKEN contains characters" in text
    assert "sec ret" not in text


def test_what_is_secret_in_a_url_is_not_printed(hub: Hub) -> None:
    url = hub.url.replace("http://", "http://user:password@")
    status, text = estimate(f"{url}/plain/none.gguf?key=hidden")
    assert status == 1
    assert "none.gguf: there is no such file" in text
    assert "password" not in text
    assert "hidden" not in text


def test_a_name_that_would_command_the_terminal_does_not(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    named = {**MODELS["llama-3.2-3b"], "general.name": "\x1b[2J\nall is well"}
    path.write_bytes(header_bytes(named, [("token_embd.weight", [32], 0, 0)]) + bytes(256))
    status, text = estimate(str(path))
    assert status == 0
    assert "\x1b" not in text
    assert text.startswith("[2Jall is well: llama")


def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    status, text = estimate(str(tmp_path / "pipe"))
    assert status == 1
    assert "not a regular file" in text


def heads_of(metadata: dict[str, Any]) -> object:
    return metadata[f"{metadata['general.architecture']}.attention.head_count"]


@pytest.mark.parametrize("name", [name for name, value in MODELS.items() if heads_of(value)])
def test_what_is_not_known_is_bounded_from_above(name: str) -> None:
    """A model under another architecture's name needs no more than is estimated for it."""
    expected, data = MODELS[name], {}
    architecture = expected["general.architecture"]
    for key, value in expected.items():
        data[key.replace(f"{architecture}.", "unheard-of.", 1)] = value
    data["general.architecture"] = "unheard-of"
    serving = Serving(32768, parallel=4)
    result, bound = (estimated(item, serving) for item in (expected, data))
    assert (result.method, bound.method) == ("Exact", "UpperBound")
    assert bound.kv_cache >= result.kv_cache
    assert bound.state >= result.state


def estimated(metadata: dict[str, Any], serving: Serving) -> Estimate:
    data = header_bytes(metadata)
    header = read_header(lambda offset, count: data[offset : offset + count], len(data))
    return in_bytes(header, dimensions(header), serving)


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (("{path}", "--flash-attention", "off", "--cache-type-v", "q8_0"), "needs flash attention"),
        (("{path}", "--parallel", "300"), "300 is more than llama.cpp takes"),
        (("{path}", "--context", "0"), "0 is not a number from 1"),
        (("hf:repo",), "write hf:OWNER/REPO/FILE"),
        (("/etc/passwd",), "/etc/passwd: the file does not start with GGUF"),
        (("http://127.0.0.1:1/x.gguf",), "http://127.0.0.1:1/x.gguf: "),
    ],
)
def test_bad_input_is_refused_in_a_sentence(
    arguments: tuple[str, ...], output: str, tmp_path: Path
) -> None:
    path = write_model(tmp_path / "x.gguf")
    status, text = estimate(*(argument.format(path=path) for argument in arguments))
    assert status != 0
    assert output in text
    assert "Traceback" not in text

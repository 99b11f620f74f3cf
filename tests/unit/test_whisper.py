"""Models of whisper.cpp: what their header says, what they need, and what they cannot have."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.artifacts.inspect import MODEL
from llama_halo.errors import GGUFError, NotAGGUF
from llama_halo.gguf import whisper
from llama_halo.gguf.companions import Companion, from_json, to_json
from llama_halo.plan.facts import Inspection
from llama_halo.plan.sizing import Sizing, size
from llama_halo.plan.whisper import refusal

MB = 10**6
# n_vocab, audio context, state, heads and layers, text context, state, heads and layers, mels, type
TINY = (51864, 1500, 384, 6, 4, 448, 384, 6, 4, 80, 1)
BASE = (51865, 1500, 512, 8, 6, 448, 512, 8, 6, 80, 1)
LARGE = (51866, 1500, 1280, 20, 32, 448, 1280, 20, 32, 128, 1)
# Caches for one decoder, and the four compute buffers, as whisper-server of 1.8.5 prints them.
PRINTED_MB = {TINY: 14.95 + 130.73, BASE: 28.31 + 140.40}
SPEC: dict[str, Any] = {"source": {"local": {"path": "a.bin"}}, "mode": "Transcription"}


def read(data: bytes, length: int | None = None) -> Companion:
    return whisper.companion(lambda at, count: data[at : at + count], length or len(data))


def header(numbers: tuple[int, ...], magic: int = 0x67676D6C) -> bytes:
    return struct.pack("<12i", magic, *numbers)


@pytest.mark.parametrize("numbers", PRINTED_MB)
def test_what_the_server_prints_is_within_the_bound(numbers: tuple[int, ...]) -> None:
    found = read(header(numbers), 100 * MB)
    more = found.bound_bytes(flash_attention=True) - found.weights
    assert PRINTED_MB[numbers] * MB < more < 3 * PRINTED_MB[numbers] * MB
    assert found.weights == 100 * MB
    assert from_json(to_json(found)) == found


def test_a_large_model_has_room_for_all_its_decoders() -> None:
    found = read(header(LARGE), 3095 * MB)
    # Five times 84 MB of its own cache, 252 MB of what it heard, and its graphs.
    assert 3095 + 670 < found.bound_bytes(flash_attention=True) / MB < 3095 + 1400


@given(st.binary(max_size=200))
def test_any_bytes_are_a_model_or_a_named_error(data: bytes) -> None:
    try:
        read(data)
    except GGUFError:
        return
    assert data.startswith(struct.pack("<i", 0x67676D6C))


@pytest.mark.parametrize("data", [b"", b"GGUF" + bytes(60), header(TINY, magic=7)])
def test_another_kind_of_file_is_told(data: bytes) -> None:
    with pytest.raises(NotAGGUF, match="no model of whisper"):
        read(data)


@pytest.mark.parametrize(("backend", "on_gpu"), [("Vulkan", True), ("CPU", False)])
def test_its_memory_is_where_it_runs(backend: str, on_gpu: bool) -> None:
    spec = LlamaModelSpec.model_validate({**SPEC, "backend": backend})
    companion = read(header(BASE), 148 * MB)
    known = {MODEL: Inspection(MODEL, "", "a.bin", 148 * MB, 1, companion=companion)}
    found = size(spec, known)
    assert isinstance(found, Sizing)
    assert found.method == "UpperBound"
    assert (found.gpu_mib > 300) == on_gpu
    assert found.host_mib >= 1024
    own = LlamaModelSpec.model_validate({**SPEC, "memory": {"gpu": "1Gi", "host": "2Gi"}})
    given_all = size(own, known)
    assert isinstance(given_all, Sizing)
    assert (given_all.gpu_mib, given_all.host_mib) == (1024, 2048)


REFUSED = {
    "a context": ({"contextSize": 4096}, "spec.contextSize is llama-server's"),
    "slots": ({"parallel": 2}, "spec.parallel is llama-server's"),
    "a prompt cache": ({"promptCacheMiB": 1}, "spec.promptCacheMiB is llama-server's"),
    "thoughts": ({"reasoning": {"format": "Auto"}}, "spec.reasoning is llama-server's"),
    "a backend without an image": ({"backend": "ROCm"}, "no image for backend ROCm"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_its_server_does_not_have_is_refused_by_name(case: str) -> None:
    more, words = REFUSED[case]
    found = refusal(LlamaModelSpec.model_validate({**SPEC, **more}))
    assert found is not None
    assert words in found.message


def test_what_it_has_is_taken() -> None:
    more = {"backend": "ROCm", "image": "i", "command": ["whisper-server"], "threads": 4}
    assert refusal(LlamaModelSpec.model_validate({**SPEC, **more})) is None
    assert refusal(LlamaModelSpec.model_validate({"source": SPEC["source"]})) is None

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
from llama_halo.gateway.apis.openai_audio import for_whisper
from llama_halo.gateway.apis.upstream_request import UpstreamRequest
from llama_halo.gateway.http.bodies import FormField
from llama_halo.gguf import whisper
from llama_halo.gguf.companions import Companion, from_json, to_json
from llama_halo.plan.facts import FileFacts, Inspection
from llama_halo.plan.model_files import inspection_of, parts
from llama_halo.plan.modes import mode_refusal
from llama_halo.plan.sizing import Sizing, batch_sizes, size

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
    result = read(header(numbers), 100 * MB)
    more = result.bound_bytes(flash_attention=True) - result.weights
    assert PRINTED_MB[numbers] * MB < more < 3 * PRINTED_MB[numbers] * MB
    assert result.weights == 100 * MB
    assert from_json(to_json(result)) == result


def test_a_large_model_has_room_for_all_its_decoders() -> None:
    result = read(header(LARGE), 3095 * MB)
    # Five times 84 MB of its own cache, 252 MB of what it heard, and its graphs.
    assert 3095 + 670 < result.bound_bytes(flash_attention=True) / MB < 3095 + 1400


@given(st.binary(max_size=200))
def test_any_bytes_are_a_model_or_a_named_error(data: bytes) -> None:
    try:
        read(data)
    except GGUFError:
        return
    assert data.startswith(struct.pack("<i", 0x67676D6C))


@pytest.mark.parametrize("data", [b"", b"GGUF" + bytes(60), header(TINY, magic=7)])
def test_another_kind_of_file_is_told(data: bytes) -> None:
    with pytest.raises(NotAGGUF, match="not a whisper"):
        read(data)


@pytest.mark.parametrize(("backend", "on_gpu"), [("Vulkan", True), ("CPU", False)])
def test_its_memory_is_where_it_runs(backend: str, on_gpu: bool) -> None:
    spec = LlamaModelSpec.model_validate({**SPEC, "backend": backend})
    companion = read(header(BASE), 148 * MB)
    expected = {MODEL: Inspection(MODEL, "", "a.bin", 148 * MB, 1, companion=companion)}
    sizing = size(spec, expected)
    assert isinstance(sizing, Sizing)
    assert sizing.method == "UpperBound"
    assert (sizing.gpu_mib > 300) == on_gpu
    assert sizing.host_mib >= 2048
    own = LlamaModelSpec.model_validate({**SPEC, "memory": {"gpu": "1Gi", "host": "2Gi"}})
    given_all = size(own, expected)
    assert isinstance(given_all, Sizing)
    assert (given_all.gpu_mib, given_all.host_mib) == (1024, 2048)


REFUSED = {
    "a context": (
        {"contextSize": 4096},
        "spec.contextSize: mode Transcription",
    ),
    "slots": ({"parallel": 2}, "spec.parallel: mode Transcription runs whisper-server"),
    "a prompt cache": (
        {"promptCacheMiB": 1},
        "spec.promptCacheMiB: mode Transcription",
    ),
    "thoughts": (
        {"reasoning": {"format": "Auto"}},
        "spec.reasoning: mode Transcription",
    ),
    "a template for vectors": (
        {"mode": "Embedding", "chatTemplate": {"configMapKeyRef": {"name": "t", "key": "k"}}},
        "spec.chatTemplate: mode Embedding generates no text: delete it",
    ),
    "drafts for vectors": (
        {"mode": "Embedding", "draft": {"mtp": {}}},
        "spec.draft: mode Embedding generates no text: delete it",
    ),
    "thoughts of a judge": (
        {"mode": "Rerank", "reasoning": {"format": "Auto"}},
        "spec.reasoning: mode Rerank generates no text: delete it",
    ),
    "a backend without an image": ({"backend": "ROCm"}, "no whisper-server image for ROCm"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_its_server_does_not_have_is_refused_by_name(case: str) -> None:
    more, arguments = REFUSED[case]
    refusal = mode_refusal(LlamaModelSpec.model_validate({**SPEC, **more}))
    assert refusal is not None
    assert arguments in refusal.message


def test_what_it_has_is_taken() -> None:
    more = {"backend": "ROCm", "image": "i", "command": ["whisper-server"], "threads": 4}
    assert mode_refusal(LlamaModelSpec.model_validate({**SPEC, **more})) is None
    assert mode_refusal(LlamaModelSpec.model_validate({"source": SPEC["source"]})) is None


@pytest.mark.parametrize(("mode", "value"), [("Transcription", True), ("Chat", False)])
def test_what_was_read_for_another_mode_is_read_again(mode: str, value: bool) -> None:
    """A file that is whisper.cpp's model is none for llama-server, and the other way around."""
    spec = LlamaModelSpec.model_validate({**SPEC, "mode": mode})
    (part,) = parts(spec)
    as_whisper = Inspection(MODEL, part.key, "a.bin", 1, 1, companion=read(header(TINY)))
    as_gguf = Inspection(MODEL, part.key, "a.bin", 1, 1)
    assert (inspection_of(part, FileFacts((as_whisper,))) is not None) == value
    assert (inspection_of(part, FileFacts((as_gguf,))) is not None) != value


@pytest.mark.parametrize(
    ("more", "sizes"),
    [
        ({}, (8192, 8192)),
        ({"batchSize": 512}, (512, 512)),
        ({"microBatchSize": 256}, (2048, 256)),
        ({"mode": "Chat"}, (2048, 512)),
        ({"mode": "Chat", "batchSize": 4096, "microBatchSize": 1024}, (4096, 1024)),
    ],
)
def test_a_text_fits_in_one_batch(more: dict[str, Any], sizes: tuple[int, int]) -> None:
    spec = LlamaModelSpec.model_validate({**SPEC, "mode": "Embedding", **more})
    assert batch_sizes(spec, 32768) == sizes


def test_how_hard_it_tries_is_not_a_clients_to_say() -> None:
    form = (
        FormField("file", b"x", "a.wav"),
        FormField("beam_size", b"100"),
        FormField("language", b"de"),
    )
    plain = for_whisper(UpstreamRequest("/v1/audio/transcriptions", form=form))
    assert [item.name for item in plain] == ["file", "language"]
    translated = for_whisper(UpstreamRequest("/v1/audio/translations", form=form))
    assert [item.name for item in translated] == ["file", "language", "translate"]

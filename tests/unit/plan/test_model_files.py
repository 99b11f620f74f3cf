"""Which inspections of a file still count."""

from __future__ import annotations

import pytest

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.artifacts.inspect import MODEL
from llama_halo.plan.facts import FileFacts, Inspection
from llama_halo.plan.model_files import inspection_of, parts
from tests.support.whisper_headers import SPEC, TINY, header, read


@pytest.mark.parametrize(("mode", "value"), [("Transcription", True), ("Chat", False)])
def test_what_was_read_for_another_mode_is_read_again(mode: str, value: bool) -> None:
    """A file that is whisper.cpp's model is none for llama-server, and the other way around."""
    spec = LlamaModelSpec.model_validate({**SPEC, "mode": mode})
    (part,) = parts(spec)
    as_whisper = Inspection(MODEL, part.key, "a.bin", 1, 1, companion=read(header(TINY)))
    as_gguf = Inspection(MODEL, part.key, "a.bin", 1, 1)
    assert (inspection_of(part, FileFacts((as_whisper,))) is not None) == value
    assert (inspection_of(part, FileFacts((as_gguf,))) is not None) != value

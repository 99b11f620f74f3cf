"""What the Jobs say of files: inspections of a small model and of a projector."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llama_halo.api.llamamodel import Source
from llama_halo.gguf.companions import Companion
from llama_halo.gguf.header import read_header
from llama_halo.gguf.profile import profile
from llama_halo.plan.facts import Inspection
from llama_halo.plan.model_files import source_key
from tests.support.gguf_files import header_bytes
from tests.support.gguf_models import MODELS

HUB = {"huggingFace": {"repo": "o/r", "file": "x-Q4_K_M.gguf"}}
LOCAL = {"local": {"path": "x.gguf"}}
COMMIT, SHA = "c" * 40, "a" * 64


def inspection(source: dict[str, Any] | None = None, **more: Any) -> Inspection:
    """Return what an inspection says of a file of the Hub, or of another source."""
    data = header_bytes(MODELS["llama-3.2-3b"], [("output.weight", [2**20], 1, 0)])
    header = read_header(lambda offset, count: data[offset : offset + count])
    expected = Inspection(
        role="model",
        source=source_key(Source.model_validate(source or HUB)),
        file="x-Q4_K_M.gguf",
        bytes=2**21,
        shards=1,
        folder="" if source == LOCAL else f"hf/o/r/{SHA[:16]}",
        sha256=SHA,
        revision=COMMIT,
        profile=profile(header, "x-Q4_K_M.gguf"),
    )
    return replace(expected, **more)


VISION_PROJECTOR = Companion(
    "projector", "gemma3", 2**20, positions=4096, values=11216, has_vision=True
)

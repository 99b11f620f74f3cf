"""LlamaModel of mode Transcription -> whisper-server's argv."""

from __future__ import annotations

from collections.abc import Mapping

from llama_halo.api.llamamodel import Backend, LlamaModelSpec
from llama_halo.plan.model_files import MODEL

PATH = "/v1/audio/transcriptions"
"""The path that OpenAI's clients use; whisper-server serves one path only."""


def arguments(
    spec: LlamaModelSpec, paths: Mapping[str, str], *, mount: str, port: int, threads: int | None
) -> list[str]:
    """Return whisper-server's argv; extraArgs come last, so they win."""
    return [
        *("--host", "0.0.0.0"),
        *("--port", str(port)),
        *("--model", f"{mount}/{paths[MODEL]}"),
        *("--inference-path", PATH),
        *("--tmp-dir", "/tmp"),  # noqa: S108  (an emptyDir, for --convert)
        *("--language", "auto"),
        *(("--threads", str(threads)) if threads else ()),
        *(("--no-gpu",) if spec.backend is Backend.CPU else ()),
        *(spec.extra_args or ()),
    ]

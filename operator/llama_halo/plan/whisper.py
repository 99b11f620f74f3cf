"""LlamaModel of mode Transcription -> whisper-server's argv, and what such a model cannot have."""

from __future__ import annotations

from collections.abc import Mapping

from llama_halo.api.llamamodel import Backend, LlamaModelSpec
from llama_halo.api.reasons import Reason
from llama_halo.plan.outcome import Invalid
from llama_halo.plan.parts import MODEL, hears

PATH = "/v1/audio/transcriptions"
"""Where OpenAI's clients ask; the server has one path."""
_LLAMA_SERVERS_OWN = (
    *("context_size", "parallel", "cache_type", "gpu_layers", "batch_size", "micro_batch_size"),
    *("prompt_cache_mib", "flash_attention", "projector", "draft", "adapters", "reasoning"),
)


def refusal(spec: LlamaModelSpec) -> Invalid | None:
    """Refuse what only llama-server has, and the backend that no image is known for."""
    if not hears(spec):
        return None
    for name in _LLAMA_SERVERS_OWN:
        if getattr(spec, name) is not None:
            field = type(spec).model_fields[name].alias or name
            return _invalid(
                f"spec.{field} is llama-server's, and mode Transcription runs"
                " whisper-server: delete it"
            )
    if spec.backend is Backend.ROCM and not spec.image:
        return _invalid(
            "mode Transcription has no image for backend ROCm: give spec.image and"
            " spec.command, or use backend Vulkan"
        )
    return None


def arguments(
    spec: LlamaModelSpec, paths: Mapping[str, str], *, mount: str, port: int, threads: int | None
) -> list[str]:
    """Return whisper-server's argv; extraArgs come last, so they win."""
    return [
        *("--host", "0.0.0.0"),
        *("--port", str(port)),
        *("--model", f"{mount}/{paths[MODEL]}"),
        *("--inference-path", PATH),
        *("--language", "auto"),
        *(("--threads", str(threads)) if threads else ()),
        *(("--no-gpu",) if spec.backend is Backend.CPU else ()),
        *(spec.extra_args or ()),
    ]


def _invalid(message: str) -> Invalid:
    return Invalid(Reason.INVALID_SPEC, message)

"""Which fields a mode has no use for: they are refused by name, and never ignored."""

from __future__ import annotations

from llama_halo.api.llamamodel import Backend, LlamaModelSpec, Mode
from llama_halo.contract.reasons import Reason
from llama_halo.plan.outcome import Invalid

_LLAMA_SERVERS_OWN = (
    *("context_size", "parallel", "cache_type", "gpu_layers", "batch_size", "micro_batch_size"),
    *("prompt_cache_mib", "flash_attention", "projector", "draft", "adapters", "reasoning"),
    "chat_template",
)
_OF_WHAT_IS_WRITTEN = ("draft", "reasoning", "chat_template")
_USELESS = {
    Mode.TRANSCRIPTION: (_LLAMA_SERVERS_OWN, "runs whisper-server, and that is llama-server's"),
    Mode.EMBEDDING: (_OF_WHAT_IS_WRITTEN, "writes no text"),
    Mode.RERANK: (_OF_WHAT_IS_WRITTEN, "writes no text"),
}


def mode_refusal(spec: LlamaModelSpec) -> Invalid | None:
    """Return the refusal of the first field that means nothing in a model's mode, and of a backend
    for which no image is known."""
    fields, reason = _USELESS.get(spec.mode or Mode.CHAT, ((), ""))
    for name in fields:
        if getattr(spec, name) is not None:
            field = type(spec).model_fields[name].alias or name
            return _invalid(f"spec.{field}: mode {spec.mode} {reason}: delete it")
    if spec.mode is Mode.TRANSCRIPTION and spec.backend is Backend.ROCM and not spec.image:
        return _invalid(
            "mode Transcription has no image for backend ROCm: give spec.image and spec.command,"
            " or use backend Vulkan"
        )
    return None


def _invalid(message: str) -> Invalid:
    return Invalid(Reason.INVALID_SPEC, message)

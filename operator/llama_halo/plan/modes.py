"""Refuses the fields that have no meaning in a model's mode."""

from __future__ import annotations

from llama_halo.api.llamamodel import Backend, LlamaModelSpec
from llama_halo.contract.model import Mode
from llama_halo.contract.reasons import Reason
from llama_halo.plan.outcome import Invalid

_LLAMA_SERVERS_OWN = (
    *("context_size", "parallel", "cache_type", "gpu_layers", "batch_size", "micro_batch_size"),
    *("prompt_cache_mib", "flash_attention", "projector", "draft", "adapters", "reasoning"),
    "chat_template",
)
_OF_WHAT_IS_WRITTEN = ("draft", "reasoning", "chat_template")
_USELESS = {
    Mode.TRANSCRIPTION: (_LLAMA_SERVERS_OWN, "runs whisper-server, which has no such setting"),
    Mode.EMBEDDING: (_OF_WHAT_IS_WRITTEN, "generates no text"),
    Mode.RERANK: (_OF_WHAT_IS_WRITTEN, "generates no text"),
}


def mode_refusal(spec: LlamaModelSpec) -> Invalid | None:
    """Refuse the first field that has no meaning in the model's mode, or a backend without an
    image."""
    fields, reason = _USELESS.get(spec.mode or Mode.CHAT, ((), ""))
    for name in fields:
        if getattr(spec, name) is not None:
            field = type(spec).model_fields[name].alias or name
            return _invalid(f"spec.{field}: mode {spec.mode} {reason}: delete it")
    if spec.mode is Mode.TRANSCRIPTION and spec.backend is Backend.ROCM and not spec.image:
        return _invalid(
            "spec.backend: there is no whisper-server image for ROCm: set spec.image and"
            " spec.command, or use backend Vulkan"
        )
    return None


def _invalid(message: str) -> Invalid:
    return Invalid(Reason.INVALID_SPEC, message)

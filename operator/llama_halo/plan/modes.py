"""Refuses the fields that have no meaning in a model's mode."""

from __future__ import annotations

from llama_halo.api.llamamodel import Backend, LlamaModelSpec
from llama_halo.contract.model import Mode
from llama_halo.contract.reasons import Reason
from llama_halo.gguf.profile import NO_POOLING, RANKS
from llama_halo.plan.outcome import Invalid

_LLAMA_SERVERS_OWN = (
    *("context_size", "parallel", "cache_type", "gpu_layers", "batch_size", "micro_batch_size"),
    *("prompt_cache_mib", "flash_attention", "projector", "draft", "adapters", "reasoning"),
    *("chat_template", "pooling"),
)
_OF_WHAT_IS_WRITTEN = ("draft", "reasoning", "chat_template")
_USELESS = {
    Mode.TRANSCRIPTION: (_LLAMA_SERVERS_OWN, "runs whisper-server, which has no such setting"),
    Mode.EMBEDDING: (_OF_WHAT_IS_WRITTEN, "generates no text"),
    Mode.RERANK: ((*_OF_WHAT_IS_WRITTEN, "pooling"), "generates no text and no vector"),
    Mode.CHAT: (("pooling",), "generates no vectors"),
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


def pooling_refusal(spec: LlamaModelSpec, pooling: str) -> Invalid | None:
    """Refuse a file that cannot do what the mode asks: llama-server would be ready, and refuse
    every request. `pooling` is the file's (`gguf.profile`)."""
    arguments, environment = spec.extra_args or (), spec.env or ()
    is_given = (
        spec.pooling is not None
        or any(word.split("=")[0] == "--pooling" for word in arguments)
        or any(variable.name == "LLAMA_ARG_POOLING" for variable in environment)
    )
    if not pooling or is_given:
        return None
    if spec.mode is Mode.EMBEDDING and pooling == RANKS:
        return _unsupported("mode Embedding: the file is a reranker: use mode Rerank")
    if spec.mode is Mode.EMBEDDING and pooling in ("none", NO_POOLING):
        return _unsupported(
            "mode Embedding: the file names no pooling, and llama-server would refuse every"
            " request: set spec.pooling to what the model's page says (Last for most models made"
            " from a decoder, Mean or Cls for BERT and its kind)"
        )
    if spec.mode is Mode.RERANK and pooling != RANKS:
        return _unsupported(
            "mode Rerank: the file has no classifier that ranks: name a reranker's file, or use"
            " mode Embedding"
        )
    return None


def _unsupported(message: str) -> Invalid:
    return Invalid(Reason.UNSUPPORTED_MODEL, message)


def _invalid(message: str) -> Invalid:
    return Invalid(Reason.INVALID_SPEC, message)

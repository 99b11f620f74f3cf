"""Computes a model's context size and memory from its header and its spec."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from llama_halo.api.llamamodel import Backend, LlamaModelSpec, Memory
from llama_halo.contract.model import Mode
from llama_halo.contract.reasons import Reason
from llama_halo.errors import UnsupportedModel
from llama_halo.gguf.bundle import DRAFTED_TOKENS, MTP, Bundle, draft_type
from llama_halo.gguf.companions import PROJECTOR, Companion
from llama_halo.gguf.memory import MIB, Estimate, Method, Serving
from llama_halo.gguf.profile import Profile
from llama_halo.plan.facts import FileFacts, Inspection, Sizing
from llama_halo.plan.model_files import (
    DRAFT,
    MODEL,
    adapter_role,
    all_inspected,
    inspections_by_role,
    is_transcription,
)
from llama_halo.plan.modes import pooling_refusal
from llama_halo.plan.outcome import Invalid
from llama_halo.plan.quantity import mebibytes

DEFAULT_CONTEXT_SIZE = 32768
"""The default, unless the trained context is shorter."""
DEFAULT_PROMPT_CACHE_MIB = 2048
WHISPER_HOST_MIB = 2048
"""Host memory of whisper-server. The longest recording that a gateway accepts is three hours of
speech (32 MiB): 0.7 GB of samples, and 0.6 GB of data computed from them."""
MAX_WHOLE_INPUT_TOKENS = 8192
"""Default limit of a text that is embedded or ranked, which must fit into one batch."""
MIN_MIB = 16


def sizing_of(spec: LlamaModelSpec, files: FileFacts) -> Sizing | Invalid | None:
    """Return the sizing of a model, None until every required header has been read.

    The controllers compute it when a model or its files change; demand, plan and status share it.
    """
    if not all_inspected(spec, files):
        return None
    return size(spec, inspections_by_role(spec, files))


def size(spec: LlamaModelSpec, inspections: Mapping[str, Inspection]) -> Sizing | Invalid:
    """Return the sizing of a model from its inspections, by role.

    Without an inspection of the model itself, the spec must give context and memory.
    """
    model = inspections.get(MODEL)
    if is_transcription(spec) and model and model.companion:
        return _whisper(spec, model.companion)
    bundle = bundle_of(spec, inspections)
    if bundle is None:
        gpu, host = _specified_mib(spec, "gpu"), _specified_mib(spec, "host")
        return Sizing(spec.context_size or 0, gpu, host, _draft_type(spec, inspections))
    if problem := pooling_refusal(spec, bundle.model.pooling):
        return problem
    serving = serving_of(spec, bundle.model)
    try:
        estimate = bundle.estimate(serving)
    except UnsupportedModel as error:
        return Invalid(Reason.UNSUPPORTED_MODEL, f"llama-server cannot load this model: {error}")
    gpu, host, method = _split(spec, bundle.model, serving, estimate)
    estimate = replace(estimate, method=method)
    sizing = _overridden(spec, gpu, host, estimate)
    return replace(sizing, context_size=serving.context_size, draft_type=bundle.draft_type)


def _whisper(spec: LlamaModelSpec, model: Companion) -> Sizing:
    whole = model.bound_bytes(flash_attention=True)
    estimate = Estimate(
        architecture=model.architecture,
        weights=model.weights,
        kv_cache=0,
        state=0,
        compute=whole - model.weights,
        host=WHISPER_HOST_MIB * MIB,
        method=Method.UPPER_BOUND,
    )
    if spec.backend is Backend.CPU:
        return _overridden(spec, 0, _mib(estimate.total), estimate)
    return _overridden(spec, _mib(estimate.gpu), _mib(estimate.host), estimate)


def _overridden(spec: LlamaModelSpec, gpu_mib: int, host_mib: int, estimate: Estimate) -> Sizing:
    """Return the estimated sizes, overridden by those of the spec; `context_size` is left 0."""
    memory = spec.memory or Memory()
    return Sizing(
        context_size=0,
        gpu_mib=gpu_mib if memory.gpu is None else mebibytes(memory.gpu),
        host_mib=host_mib if memory.host is None else mebibytes(memory.host),
        estimate=estimate,
        overridden=memory.gpu is not None or memory.host is not None,
    )


def bundle_of(spec: LlamaModelSpec, inspections: Mapping[str, Inspection]) -> Bundle | None:
    """Return the profiles of all files that the server loads, None until the model is inspected."""
    model = inspections.get(MODEL)
    if model is None or model.profile is None:
        return None
    projector, draft = inspections.get(PROJECTOR), inspections.get(DRAFT)
    adapters = {
        adapter.name: inspections.get(adapter_role(adapter.name)) for adapter in spec.adapters or ()
    }
    return Bundle(
        model=model.profile,
        projector=projector.companion if projector else None,
        draft=draft.profile if draft else None,
        adapters={
            name: adapter.companion
            for name, adapter in adapters.items()
            if adapter and adapter.companion
        },
        uses_mtp=bool(spec.draft and spec.draft.mtp),
    )


def drafted_tokens(spec: LlamaModelSpec) -> int:
    """Return how many tokens are drafted at once, 0 when none are."""
    draft = spec.draft and (spec.draft.model or spec.draft.mtp)
    return (draft.max_tokens or DRAFTED_TOKENS) if draft else 0


def serving_of(spec: LlamaModelSpec, profile: Profile) -> Serving:
    """Return the settings of llama-server that determine its memory."""
    cache = spec.cache_type
    trained = profile.model.context_length
    context_size = spec.context_size or min(trained, DEFAULT_CONTEXT_SIZE)
    batch, micro_batch = batch_sizes(spec, context_size)
    return Serving(
        context_size=context_size,
        parallel=spec.parallel or 1,
        k_type=(cache and cache.k) or "f16",
        v_type=(cache and cache.v) or "f16",
        batch=batch,
        micro_batch=micro_batch,
        flash_attention=spec.flash_attention != "Off",
        full_window_cache="--swa-full" in (spec.extra_args or ()),
        image_tokens=_image_tokens(spec.extra_args or ()),
        drafted_tokens=drafted_tokens(spec),
        prompt_cache_mib=prompt_cache_mib(spec),
    )


def prompt_cache_mib(spec: LlamaModelSpec) -> int:
    """Return the size of llama-server's prompt cache; by default only mode Chat has one."""
    if spec.prompt_cache_mib is not None:
        return spec.prompt_cache_mib
    return DEFAULT_PROMPT_CACHE_MIB if spec.mode in (None, Mode.CHAT) else 0


def batch_sizes(spec: LlamaModelSpec, context_size: int) -> tuple[int, int]:
    """Return the logical and the physical batch size, in tokens.

    A text to embed or rank must fit into one physical batch: llama-server refuses a longer one,
    whatever the context size.
    """
    whole = spec.mode in (Mode.EMBEDDING, Mode.RERANK)
    usual = min(context_size, MAX_WHOLE_INPUT_TOKENS) if whole else 512
    batch = spec.batch_size or max(2048, spec.micro_batch_size or usual)
    return batch, spec.micro_batch_size or min(max(usual, 16), batch)


def _image_tokens(arguments: Sequence[str]) -> int:
    """Return the value of --image-max-tokens, 0 when the flag is absent."""
    argv = [word for argument in arguments for word in argument.split("=", 1)]
    for flag, value in pairwise(argv):
        if flag == "--image-max-tokens" and value.isdecimal():
            return int(value)
    return 0


def _split(
    spec: LlamaModelSpec, profile: Profile, serving: Serving, estimate: Estimate
) -> tuple[int, int, Method]:
    """Return GPU and host memory, MiB, and how exact they are."""
    if spec.backend is Backend.CPU:
        return 0, _mib(estimate.total), estimate.method
    if spec.gpu_layers in (None, "All"):
        return _mib(estimate.gpu), _mib(estimate.host), estimate.method
    rest = profile.on_host(serving, int(spec.gpu_layers))
    return _mib(max(estimate.gpu - rest, 0)), _mib(estimate.host + rest), Method.UPPER_BOUND


def _mib(size_bytes: int) -> int:
    return math.ceil(size_bytes / MIB)


def _draft_type(spec: LlamaModelSpec, inspections: Mapping[str, Inspection]) -> str:
    """Return llama-server's --spec-type for a model whose own header was not read."""
    if spec.draft and spec.draft.mtp:
        return MTP
    draft = inspections.get(DRAFT)
    return draft_type(draft.profile, None) if draft and draft.profile else ""


def _specified_mib(spec: LlamaModelSpec, side: str) -> int:
    return mebibytes(getattr(spec.memory, side) or 0) if spec.memory else 0


def memory_refusal(spec: LlamaModelSpec) -> Invalid | None:
    """Refuse an amount of memory that no server can start with: it most likely lacks a unit."""
    memory = spec.memory or Memory()
    for field, amount in (("memory.host", memory.host), ("memory.gpu", memory.gpu)):
        if amount is not None and mebibytes(amount) < MIN_MIB:
            return Invalid(
                Reason.INVALID_SPEC,
                f"spec.{field}: {amount} is less than {MIN_MIB}Mi: give a unit, for example 24Gi",
            )
    return None

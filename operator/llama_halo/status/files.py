"""The parts of a LlamaModel's status about its files: model, memory, stored files, downloads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from pathlib import PurePosixPath
from typing import Any

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract.model import VISION
from llama_halo.contract.reasons import ConditionType
from llama_halo.gguf.companions import PROJECTOR
from llama_halo.gguf.memory import MIB, Estimate
from llama_halo.gguf.profile import mentions_tools
from llama_halo.plan.facts import FileFacts, Inspection, Sizing
from llama_halo.plan.model_files import (
    MODEL,
    Part,
    inspection_of,
    inspections_by_role,
    parts,
    still_relevant,
)
from llama_halo.plan.quantity import human_gib
from llama_halo.status.conditions import Detail
from llama_halo.status.jobs import inspection_entry
from llama_halo.status.pods import PodState

Json = dict[str, Any]


def model_status(
    spec: LlamaModelSpec, files: FileFacts, sizing: Sizing | None, *, in_use_on: Set[str]
) -> Json:
    """Return the fields model, memory, files and inspected, as far as they are known.

    `in_use_on` are the nodes where an earlier version of the model runs, with files of its own.
    """
    inspections = inspections_by_role(spec, files)
    kept = still_relevant(spec, files, in_use_on=in_use_on)
    status: Json = {"model": _model(spec, files, inspections, sizing)}
    if sizing and sizing.gpu_mib + sizing.host_mib:
        status["memory"] = _memory(sizing)
    if kept.stored:
        status["files"] = [
            {"node": stored.node, "path": stored.path, "bytes": stored.bytes}
            | ({"sha256": stored.sha256} if stored.sha256 else {})
            | ({"requestedAt": stored.requested_at} if stored.requested_at else {})
            for stored in kept.stored
        ]
    if kept.inspections:
        status["inspected"] = [inspection_entry(inspection) for inspection in kept.inspections]
    return status


def files_verified(spec: LlamaModelSpec, files: FileFacts) -> Detail:
    """Return the condition FilesVerified: whether the model's files are stored and verified."""
    kind = ConditionType.FILES_VERIFIED
    states = [_verified(part, inspection_of(part, files), files) for part in parts(spec)]
    status, reason, _ = min(states, key=lambda state: ("False", "Unknown", "True").index(state[0]))
    return kind, status, reason, "; ".join(message for _, _, message in states)


def _verified(part: Part, inspection: Inspection | None, files: FileFacts) -> tuple[str, str, str]:
    """Return status, reason and message of one part."""
    if part.source.local:
        message = (
            f"{part.source.local.path} is used without verification: a local source has no checksum"
        )
        return "Unknown", "LocalFile", message
    if inspection is None:
        return "Unknown", "NotInspected", f"the {part.role}'s source has not been inspected yet"
    size = human_gib(math.ceil(inspection.bytes / MIB))
    stored = [file for file in files.stored if file.path == inspection.path]
    if not stored:
        return "False", "NotStored", f"{inspection.file} ({size}) is on no node yet"
    where = ", ".join(file.node or "the claim" for file in stored)
    if not inspection.sha256:
        message = f"{inspection.file} ({size}) is on {where}; its source gives no checksum"
        return "Unknown", "NoChecksum", message
    return "True", "Verified", f"{inspection.file} ({size}, SHA-256 matches) is on {where}"


def memory_reserved(pods: Sequence[PodState]) -> Detail:
    """Return the condition MemoryReserved: the memory that the model's pods hold, by node."""
    kind = ConditionType.MEMORY_RESERVED
    held: dict[str, int] = {}
    for pod in pods:
        if pod.node:
            held[pod.node] = held.get(pod.node, 0) + pod.memory_mib
    if not held:
        return kind, "False", "NotHeld", "no pod holds memory"
    by_node = ", ".join(f"{human_gib(mib)} on {node}" for node, mib in sorted(held.items()))
    return kind, "True", "Held", by_node


def download_status(downloads: Sequence[Mapping[str, int]]) -> Json:
    """Return the sum of a model's downloads, with the remaining time of the slowest."""
    received = sum(download["bytes"] for download in downloads)
    total = sum(download["totalBytes"] for download in downloads)
    download = {"bytes": received, "totalBytes": total, "percent": 100 * received // max(total, 1)}
    rate = sum(download.get("bytesPerSecond", 0) for download in downloads)
    if rate:
        download["bytesPerSecond"] = rate
    rest = [
        download["remainingSeconds"] for download in downloads if "remainingSeconds" in download
    ]
    if rest:
        download["remainingSeconds"] = max(rest)
    return download


def progress(download: Mapping[str, int]) -> str:
    """Return a download as text for a person: `32% of 21.3Gi, 85.1 MiB/s, 2m10s left`."""
    total = human_gib(math.ceil(download["totalBytes"] / MIB))
    figures = [f"{download['percent']}% of {total}"]
    if "bytesPerSecond" in download:
        figures.append(f"{download['bytesPerSecond'] / MIB:.1f} MiB/s")
    if "remainingSeconds" in download:
        figures.append(f"{_duration(download['remainingSeconds'])} left")
    return ", ".join(figures)


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _model(
    spec: LlamaModelSpec,
    files: FileFacts,
    inspections: Mapping[str, Inspection],
    sizing: Sizing | None,
) -> Json:
    model_inspection = inspections.get(MODEL)
    model: Json = {"summary": _summary(spec)}
    context = sizing.context_size if sizing else spec.context_size
    if context:
        model["contextSize"] = context
    if model_inspection and model_inspection.companion:
        audio = {"capabilities": ["Audio"]} if model_inspection.companion.has_audio else {}
        size = {"sizeMiB": math.ceil(model_inspection.bytes / MIB)}
        return model | {"architecture": model_inspection.companion.architecture} | size | audio
    if model_inspection is None or model_inspection.profile is None:
        return model
    model |= {
        "architecture": model_inspection.profile.model.architecture,
        "parameters": _parameters(model_inspection.profile.parameters),
        "trainedContext": model_inspection.profile.model.context_length,
        "sizeMiB": math.ceil(model_inspection.bytes / MIB),
    }
    if model_inspection.profile.quantization:
        model["quantization"] = model_inspection.profile.quantization
    if model_inspection.sha256:
        model["sha256"] = model_inspection.sha256
    if model_inspection.revision:
        model["revision"] = model_inspection.revision
    tools = model_inspection.profile.tools
    if spec.chat_template and files.chat_template.text:
        tools = mentions_tools(files.chat_template.text)
    capabilities = _capabilities(tools, inspections.get(PROJECTOR))
    if capabilities:
        model["capabilities"] = capabilities
    return model


def _capabilities(tools: bool, projector: Inspection | None) -> list[str]:
    companion = projector.companion if projector else None
    capabilities = {
        "Tools": tools,
        VISION: companion and companion.has_vision,
        "Audio": companion and companion.has_audio,
    }
    return [name for name, has in capabilities.items() if has]


def _summary(spec: LlamaModelSpec) -> str:
    source = spec.source
    if source.hugging_face:
        path = source.hugging_face.file
    elif source.http:
        path = source.http.url.partition("?")[0]
    else:
        path = source.local.path if source.local else ""
    return PurePosixPath(path).name.removesuffix(".gguf").removesuffix(".bin")


def _parameters(count: int) -> str:
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.0f}M"


def _memory(sizing: Sizing) -> Json:
    memory: Json = {
        "gpuMiB": sizing.gpu_mib,
        "hostMiB": sizing.host_mib,
        "totalMiB": sizing.gpu_mib + sizing.host_mib,
        "method": sizing.method,
        "summary": human_gib(sizing.gpu_mib + sizing.host_mib),
    }
    return memory | (_parts(sizing.estimate) if sizing.estimate else {})


def _parts(estimate: Estimate) -> Json:
    parts = {
        "weightsMiB": estimate.weights,
        "kvCacheMiB": estimate.kv_cache,
        "stateMiB": estimate.state,
        "computeMiB": estimate.compute,
        "projectorMiB": estimate.projector,
        "draftMiB": estimate.draft,
        "adaptersMiB": estimate.adapters,
    }
    return {name: math.ceil(part / MIB) for name, part in parts.items() if part}

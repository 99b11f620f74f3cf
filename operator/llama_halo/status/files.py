"""The parts of a LlamaModel's status that tell of its files: which model, how large, how far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from pathlib import PurePosixPath
from typing import Any

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.api.reasons import ConditionType
from llama_halo.gguf.companions import PROJECTOR
from llama_halo.gguf.memory import MIB, Estimate
from llama_halo.gguf.profile import speaks_of_tools
from llama_halo.plan.facts import FileFacts, Inspection
from llama_halo.plan.model_files import MODEL, Part, all_known, current, inspection_of, known, parts
from llama_halo.plan.quantity import human_gib
from llama_halo.plan.sizing import Sizing, size
from llama_halo.status.conditions import Detail
from llama_halo.status.jobs import inspection_entry
from llama_halo.status.pods import PodState

Json = dict[str, Any]


def model_status(spec: LlamaModelSpec, files: FileFacts, *, in_use_on: Set[str]) -> Json:
    """Return model, memory, files and inspected, as far as they are known.

    `in_use_on` are the nodes where an earlier version of the model runs, with files of its own.
    """
    found = known(spec, files)
    sizing = size(spec, found) if all_known(spec, files) else None
    kept = current(spec, files, in_use_on=in_use_on)
    status: Json = {
        "model": _model(spec, files, found, sizing if isinstance(sizing, Sizing) else None)
    }
    if isinstance(sizing, Sizing) and sizing.gpu_mib + sizing.host_mib:
        status["memory"] = _memory(sizing)
    if kept.stored:
        status["files"] = [
            {"node": each.node, "path": each.path, "bytes": each.bytes}
            | ({"sha256": each.sha256} if each.sha256 else {})
            | ({"requestedAt": each.requested_at} if each.requested_at else {})
            for each in kept.stored
        ]
    if kept.inspections:
        status["inspected"] = [inspection_entry(each) for each in kept.inspections]
    return status


def files_verified(spec: LlamaModelSpec, files: FileFacts) -> Detail:
    """Return the condition that tells whether the model's bytes are those that were promised."""
    kind = ConditionType.FILES_VERIFIED
    told = [_verified(each, inspection_of(each, files), files) for each in parts(spec)]
    status, reason, _ = min(told, key=lambda each: ("False", "Unknown", "True").index(each[0]))
    return kind, status, reason, "; ".join(message for _, _, message in told)


def _verified(part: Part, found: Inspection | None, files: FileFacts) -> tuple[str, str, str]:
    """Return status, reason and message of one part."""
    if part.source.local:
        told = f"{part.source.local.path} is used as it is: nothing says what it should be"
        return "Unknown", "LocalFile", told
    if found is None:
        return "Unknown", "NotInspected", f"the {part.role}'s source has not been looked at yet"
    size = human_gib(math.ceil(found.bytes / MIB))
    there = [each for each in files.stored if each.path == found.path]
    if not there:
        return "False", "NotStored", f"{found.file} ({size}) is nowhere yet"
    where = ", ".join(each.node or "the claim" for each in there)
    checked = "SHA-256 as promised" if found.sha256 else "no checksum was promised"
    return "True", "Verified", f"{found.file} ({size}, {checked}) is on {where}"


def memory_reserved(pods: Sequence[PodState]) -> Detail:
    """Return the condition that tells what memory the model's pods hold, whatever they do."""
    kind = ConditionType.MEMORY_RESERVED
    held: dict[str, int] = {}
    for each in pods:
        if each.node:
            held[each.node] = held.get(each.node, 0) + each.memory_mib
    if not held:
        return kind, "False", "NotHeld", "no pod holds memory"
    told = ", ".join(f"{human_gib(mib)} on {node}" for node, mib in sorted(held.items()))
    return kind, "True", "Held", told


def download_status(downloads: Sequence[Mapping[str, int]]) -> Json:
    """Return all downloads of a model as one: the slowest says when it is over."""
    received = sum(each["bytes"] for each in downloads)
    total = sum(each["totalBytes"] for each in downloads)
    found = {"bytes": received, "totalBytes": total, "percent": 100 * received // max(total, 1)}
    rate = sum(each.get("bytesPerSecond", 0) for each in downloads)
    if rate:
        found["bytesPerSecond"] = rate
    rest = [each["remainingSeconds"] for each in downloads if "remainingSeconds" in each]
    if rest:
        found["remainingSeconds"] = max(rest)
    return found


def progress(download: Mapping[str, int]) -> str:
    """Return a download for a person: `32% of 21.3Gi, 85.1 MiB/s, 2m10s left`."""
    total = human_gib(math.ceil(download["totalBytes"] / MIB))
    words = [f"{download['percent']}% of {total}"]
    if "bytesPerSecond" in download:
        words.append(f"{download['bytesPerSecond'] / MIB:.1f} MiB/s")
    if "remainingSeconds" in download:
        words.append(f"{_duration(download['remainingSeconds'])} left")
    return ", ".join(words)


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _model(
    spec: LlamaModelSpec,
    files: FileFacts,
    known: Mapping[str, Inspection],
    sizing: Sizing | None,
) -> Json:
    found = known.get(MODEL)
    model: Json = {"summary": _summary(spec)}
    context = sizing.context_tokens if sizing else spec.context_size
    if context:
        model["contextSize"] = context
    if found and found.companion:
        hears = {"capabilities": ["Audio"]} if found.companion.hears else {}
        size = {"sizeMiB": math.ceil(found.bytes / MIB)}
        return model | {"architecture": found.companion.architecture} | size | hears
    if found is None or found.profile is None:
        return model
    model |= {
        "architecture": found.profile.model.architecture,
        "parameters": _parameters(found.profile.parameters),
        "trainedContext": found.profile.model.context_length,
        "sizeMiB": math.ceil(found.bytes / MIB),
    }
    if found.profile.quantization:
        model["quantization"] = found.profile.quantization
    if found.sha256:
        model["sha256"] = found.sha256
    if found.revision:
        model["revision"] = found.revision
    tools = found.profile.tools
    if spec.chat_template and files.chat_template.text:
        tools = speaks_of_tools(files.chat_template.text)
    capabilities = _capabilities(tools, known.get(PROJECTOR))
    if capabilities:
        model["capabilities"] = capabilities
    return model


def _capabilities(tools: bool, projector: Inspection | None) -> list[str]:
    sees_hears = projector.companion if projector else None
    told = {
        "Tools": tools,
        "Vision": sees_hears and sees_hears.sees,
        "Audio": sees_hears and sees_hears.hears,
    }
    return [name for name, has in told.items() if has]


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
    found: Json = {
        "gpuMiB": sizing.gpu_mib,
        "hostMiB": sizing.host_mib,
        "totalMiB": sizing.gpu_mib + sizing.host_mib,
        "method": sizing.method,
        "summary": human_gib(sizing.gpu_mib + sizing.host_mib),
    }
    return found | (_parts(sizing.estimate) if sizing.estimate else {})


def _parts(found: Estimate) -> Json:
    parts = {
        "weightsMiB": found.weights,
        "kvCacheMiB": found.kv_cache,
        "stateMiB": found.state,
        "computeMiB": found.compute,
        "projectorMiB": found.projector,
        "draftMiB": found.draft,
        "adaptersMiB": found.adapters,
    }
    return {name: math.ceil(part / MIB) for name, part in parts.items() if part}

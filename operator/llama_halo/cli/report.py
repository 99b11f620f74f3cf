"""Builds the report of `llama-halo status` from the objects of a cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from textwrap import wrap
from typing import Any

from llama_halo.contract import labels
from llama_halo.contract.reasons import ConditionType
from llama_halo.plan.quantity import human_gib, mebibytes
from llama_halo.settings import Settings
from llama_halo.status.conditions import condition
from llama_halo.status.files import progress
from llama_halo.status.pods import has_ended

Json = dict[str, Any]
BAR_CELLS = 24
NEWEST_EVENTS = 6


@dataclass(frozen=True)
class ClusterSnapshot:
    """The cluster's objects, by kind."""

    models: Sequence[Json] = ()
    routers: Sequence[Json] = ()
    nodes: Sequence[Json] = ()
    pods: Sequence[Json] = ()
    events: Sequence[Json] = ()


def report(snapshot: ClusterSnapshot) -> Json:
    """Return the report as JSON."""
    return {
        "nodes": [_node(node, snapshot.pods) for node in snapshot.nodes],
        "models": [_model(model) for model in snapshot.models],
        "routers": [_router(router) for router in snapshot.routers],
        "events": [_event(event) for event in _newest(snapshot.events)],
    }


def _node(node: Json, pods: Sequence[Json]) -> Json:
    metadata = node["metadata"]
    annotations, status = metadata.get("annotations") or {}, node.get("status") or {}
    allocatable = mebibytes(status.get("allocatable", {}).get("memory", 0))
    own = [
        pod
        for pod in pods
        if pod.get("spec", {}).get("nodeName") == metadata["name"] and not has_ended(pod)
    ]
    annotated = annotations.get(labels.GPU_MEMORY, "")
    return {
        "name": metadata["name"],
        "strixHalo": (metadata.get("labels") or {}).get(labels.STRIX_HALO) == "true",
        "ready": any(
            item["type"] == "Ready" and item["status"] == "True"
            for item in status.get("conditions", ())
        ),
        "cordoned": bool(node.get("spec", {}).get("unschedulable")),
        "gpuBudgetMiB": _budget(annotated, allocatable),
        "gpuBudgetIsAssumed": not annotated,
        "gpuHeldMiB": _held(own, labels.GPU_MIB),
        "allocatableMiB": allocatable,
        "heldMiB": _held(own, labels.GPU_MIB) + _held(own, labels.HOST_MIB),
        "models": sorted({(pod["metadata"]["labels"] or {}).get(labels.MODEL, "") for pod in own}),
    }


def _budget(annotated: str, allocatable_mib: int) -> int:
    """Return a node's GPU budget in MiB: the annotation's, or 0 if that is invalid.

    Without an annotation, it is the operator's assumption with the default reserve.
    """
    if not annotated:
        return max(allocatable_mib - Settings.gpu_reserve_mib, 0)
    try:
        return mebibytes(annotated)
    except (ArithmeticError, ValueError):
        return 0


def _held(pods: Sequence[Json], annotation: str) -> int:
    texts = [(pod["metadata"].get("annotations") or {}).get(annotation, "0") for pod in pods]
    return sum(int(amount) for amount in texts if amount.isdecimal())


def _model(model: Json) -> Json:
    metadata, status = model["metadata"], model.get("status") or {}
    ready = condition(status, ConditionType.READY)
    tools = condition(status, ConditionType.TOOL_CALLING)
    about, speed = status.get("model") or {}, status.get("speed") or {}
    row: Json = {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "ready": ready.get("status", "Unknown"),
        "state": ready.get("reason", "NotSeenYet"),
        "message": ready.get("message", "no operator has reconciled it yet"),
        "model": about.get("summary", ""),
        "contextSize": about.get("contextSize"),
        "memory": (status.get("memory") or {}).get("summary", ""),
        "node": status.get("nodeSummary", ""),
        "tools": tools.get("status", ""),
        "toolsMessage": tools.get("message", ""),
        "tokensPerSecond": speed.get("tokensPerSecond", ""),
    }
    if status.get("download"):
        row["download"] = status["download"]
    return row


def _router(router: Json) -> Json:
    metadata, status = router["metadata"], router.get("status") or {}
    ready = condition(status, ConditionType.READY)
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "ready": ready.get("status", "Unknown"),
        "state": ready.get("reason", "NotSeenYet"),
        "message": ready.get("message", "no operator has reconciled it yet"),
        "engine": status.get("engine", ""),
        "models": status.get("modelSummary", ""),
        "url": status.get("url", ""),
    }


def _newest(events: Sequence[Json]) -> list[Json]:
    return sorted(events, key=_at, reverse=True)[:NEWEST_EVENTS]


def _at(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("eventTime") or "")


def _event(event: Json) -> Json:
    about = event.get("regarding") or {}
    return {
        "time": _at(event),
        "type": event.get("type", ""),
        "reason": event.get("reason", ""),
        "kind": about.get("kind", ""),
        "namespace": about.get("namespace", ""),
        "name": about.get("name", ""),
        "note": event.get("note", ""),
    }


def text(summary: Json, *, now: datetime, columns: int) -> str:
    """Return the report as text; lines longer than `columns` are wrapped."""
    parts = [_nodes_text(summary["nodes"]), _models_text(summary["models"])]
    parts += [_routers_text(summary["routers"]), _events_text(summary["events"], now)]
    lines = "\n\n".join(part for part in parts if part).splitlines()
    return "\n".join(part for line in lines for part in _wrapped(line, columns))


def _nodes_text(nodes: Sequence[Json]) -> str:
    lines = []
    for node in nodes:
        state = "" if node["ready"] else "  NOT READY"
        state += "  cordoned" if node["cordoned"] else ""
        held, of = node["heldMiB"], node["allocatableMiB"]
        usage = f"{human_gib(held)} of {human_gib(of)} memory{state}"
        if node["strixHalo"] or node["gpuHeldMiB"] or not node["gpuBudgetIsAssumed"]:
            held, of = node["gpuHeldMiB"], node["gpuBudgetMiB"]
            assumed = " (assumed)" if node["gpuBudgetIsAssumed"] else ""
            usage = f"{human_gib(held)} of {human_gib(of)} GPU{assumed}, {usage}"
        lines.append(f"{node['name']}  {bar(held, of)}  {usage}")
    return "\n".join(["NODES", *lines]) if lines else ""


def bar(part: int, whole: int, *, cells: int = BAR_CELLS) -> str:
    """Return a bar of `cells` cells; any part above 0 fills at least one."""
    full = min(math.ceil(cells * part / whole), cells) if whole else 0
    return "█" * full + "░" * (cells - full)


def _models_text(models: Sequence[Json]) -> str:
    if not models:
        return "There are no LlamaModels: deploy/samples has some to begin with."
    head = ("MODEL", "STATE", "FILE", "CTX", "MEMORY", "NODE", "TOOLS", "TOK/S")
    rows = [
        (
            f"{model['namespace']}/{model['name']}",
            model["state"],
            model["model"],
            str(model["contextSize"] or ""),
            model["memory"],
            model["node"],
            model["tools"],
            model["tokensPerSecond"],
        )
        for model in models
    ]
    lines = _table(head, rows)
    return "\n".join(
        [lines[0]]
        + [
            "\n    ".join([line, *_remarks(model)])
            for line, model in zip(lines[1:], models, strict=True)
        ]
    )


def _remarks(model: Json) -> list[str]:
    """Return the lines to print below a model's row."""
    remarks = []
    if "download" in model:
        download = model["download"]
        remarks.append(f"{bar(download['percent'], 100)}  {progress(download)}")
    elif model["ready"] != "True":
        remarks.append(model["message"])
    if model["tools"] == "False":
        remarks.append(f"tools: {model['toolsMessage']}")
    return remarks


def _routers_text(routers: Sequence[Json]) -> str:
    head = ("ROUTER", "STATE", "ENGINE", "MODELS", "URL")
    rows = [
        (f"{router['namespace']}/{router['name']}", *(router[name] for name in _ROUTER_FIELDS))
        for router in routers
    ]
    return "\n".join(_table(head, rows)) if rows else ""


_ROUTER_FIELDS = ("state", "engine", "models", "url")


def _events_text(events: Sequence[Json], now: datetime) -> str:
    rows = [
        f"{_ago(event['time'], now):>4}  {event['kind']} {event['namespace']}/{event['name']}:"
        f" {event['reason']}: {event['note']}"
        for event in events
    ]
    return "\n".join(["EVENTS", *rows]) if rows else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]


def _ago(time: str, now: datetime) -> str:
    """Return the age of a time in kubectl's format: 42s, 7m, 3h, 2d; empty if it is invalid."""
    try:
        seconds = int((now - datetime.fromisoformat(time).astimezone(UTC)).total_seconds())
    except ValueError:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{max(seconds, 0)}s"


def _wrapped(line: str, columns: int) -> list[str]:
    """Return a line wrapped to `columns`; continuation lines are indented two columns deeper."""
    if len(line) <= columns:
        return [line]
    inset = " " * (len(line) - len(line.lstrip()) + 2)
    return wrap(line, columns, subsequent_indent=inset, break_on_hyphens=False) or [line]

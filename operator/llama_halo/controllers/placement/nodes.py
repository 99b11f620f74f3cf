"""An index of the nodes as placement sees them, updated with each change of the cache.

A node that cannot be read gets no model until it changes; the others are not affected.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from llama_halo.contract import labels
from llama_halo.kube.cache import Key, Object
from llama_halo.plan.facts import NodeFacts, Taint
from llama_halo.plan.quantity import amount, mebibytes

log = logging.getLogger(__name__)

NOT_READY_GRACE_SECONDS = 60
MAX_QUANTITY_CHARACTERS = 32
_COVERED_TAINTS = tuple(
    f"node.kubernetes.io/{name}" for name in ("unschedulable", "not-ready", "unreachable")
)
"""Taints that `accepts_new_pods` covers, with a grace period."""


@dataclass(frozen=True)
class _Node:
    facts: NodeFacts
    not_ready_since: float | None
    """Unix time at which the node stopped being ready; None while it is."""


class NodeIndex:
    """The nodes that can be read."""

    def __init__(self, *, gpu_reserve_mib: int, clock: Callable[[], float] = time.time) -> None:
        self._gpu_reserve_mib = gpu_reserve_mib
        self._clock = clock
        self._nodes: dict[Key, _Node] = {}

    def note(self, key: Key, obj: Object | None) -> None:
        """Record a node, None when it was deleted; raises an error for one that cannot be read."""
        self._nodes.pop(key, None)
        if obj is not None:
            self._nodes[key] = _Node(_facts(obj, self._gpu_reserve_mib), _not_ready_since(obj))

    def facts(self) -> list[NodeFacts]:
        """Return the facts of every node, sorted by name.

        A node that has been NotReady for longer than the grace period takes no new pods.
        """
        nodes = sorted(self._nodes.values(), key=lambda node: node.facts.name)
        return [
            replace(node.facts, accepts_new_pods=False) if self._is_lost(node) else node.facts
            for node in nodes
        ]

    def next_grace_end_seconds(self) -> float | None:
        """Return the seconds until the next NotReady node exceeds its grace period, or None."""
        now = self._clock()
        left = [
            node.not_ready_since + NOT_READY_GRACE_SECONDS - now
            for node in self._nodes.values()
            if node.not_ready_since is not None and not self._is_lost(node)
        ]
        return min(left) + 1 if left else None

    def _is_lost(self, node: _Node) -> bool:
        since = node.not_ready_since
        return since is not None and self._clock() - since >= NOT_READY_GRACE_SECONDS


def _facts(node: Object, gpu_reserve_mib: int) -> NodeFacts:
    metadata, spec = node["metadata"], node.get("spec", {})
    allocatable = _memory_mib(node.get("status", {}).get("allocatable", {}).get("memory", 0))
    annotated = (metadata.get("annotations") or {}).get(labels.GPU_MEMORY)
    budget = max(allocatable - gpu_reserve_mib, 0)
    if annotated:
        budget = _budget(metadata["name"], annotated)
    return NodeFacts(
        name=metadata["name"],
        allocatable_mib=allocatable,
        gpu_budget_mib=budget,
        labels=metadata.get("labels") or {},
        taints=tuple(
            Taint(key=taint["key"], value=taint.get("value") or "", effect=taint["effect"])
            for taint in spec.get("taints") or ()
            if taint["key"] not in _COVERED_TAINTS
        ),
        accepts_new_pods=not spec.get("unschedulable", False),
    )


def _not_ready_since(node: Object) -> float | None:
    for condition in node.get("status", {}).get("conditions", ()):
        if condition["type"] == "Ready" and condition["status"] != "True":
            since = condition.get("lastTransitionTime") or node["metadata"]["creationTimestamp"]
            return datetime.fromisoformat(since).timestamp()
    return None


def _budget(node: str, annotated: str) -> int:
    """Return a node's GPU memory budget in MiB; log a malformed annotation and return 0."""
    try:
        return _memory_mib(annotated)
    except (ArithmeticError, ValueError):
        log.warning(
            "annotation is not a quantity such as 104Gi: the node gets no GPU model; correct it",
            extra={
                "node": node,
                "annotation": labels.GPU_MEMORY,
                "value": annotated[:MAX_QUANTITY_CHARACTERS],
            },
        )
        return 0


def _memory_mib(quantity: int | str) -> int:
    """Return a quantity of memory in MiB; raises `ValueError` for more than 2^63 bytes."""
    if len(str(quantity)) > MAX_QUANTITY_CHARACTERS or not 0 <= amount(quantity) < 2**63:
        raise ValueError(f"{str(quantity)[:MAX_QUANTITY_CHARACTERS]} is no amount of memory")
    return mebibytes(quantity)

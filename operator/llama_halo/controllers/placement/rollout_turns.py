"""Rollout turns: one model at a time rolls on a node, because a load saturates disk and memory.

A model holds its turn from the plan that rolls it until its Deployment there has settled. A rollout
that fails or exceeds `MAX_TURN_SECONDS` releases its turn.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Set

from llama_halo.contract import labels
from llama_halo.contract.reasons import FAILED_REASONS, STALLED_REASONS, ConditionType
from llama_halo.kube.cache import Key, Object, ObjectCache, owner_key
from llama_halo.status.conditions import condition

MAX_TURN_SECONDS = 900
"""The longest time for which one model may hold the turn on a node."""
CLAIM_SECONDS = 10
"""The longest time from a plan that rolls to the write of its Deployment."""


class RolloutTurns:
    """The Deployments that roll out, the claimed turns and the waiting models, by node."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[Key, tuple[str, Key, float]] = {}
        """Deployment -> node, model, and the time since which it has not settled."""
        self._on: dict[str, set[Key]] = defaultdict(set)
        """Node -> Deployments that are rolling out."""
        self._generations: dict[Key, int] = {}
        self._claims: dict[str, tuple[Key, float]] = {}
        self._waiting: dict[str, set[Key]] = defaultdict(set)

    def note(self, key: Key, obj: Object | None) -> Set[Key]:
        """Record a changed Deployment; return the models whose turn may have come."""
        if key.kind != "Deployment":
            return frozenset()
        owner, node = (owner_key(obj), _node(obj)) if obj else (None, "")
        written = self._is_written(key, obj)
        if written and owner and self._claims.get(node, (None, 0))[0] == owner:
            del self._claims[node]  # the planned Deployment is written
        if obj is not None and owner is not None and node and is_rolling_out(obj):
            self._since.setdefault(key, (node, owner, self._clock()))
            self._on[node].add(key)
            return frozenset()
        ended = self._since.pop(key, None)
        if ended is None:
            return self._waiting.pop(node, frozenset()) if written else frozenset()
        self._on[ended[0]].discard(key)
        return self._waiting.pop(ended[0], frozenset())

    def _is_written(self, key: Key, obj: Object | None) -> bool:
        """Tell whether a Deployment's generation changed since the last call."""
        before = self._generations.pop(key, None)
        if obj is None:
            return False
        now = self._generations[key] = obj["metadata"].get("generation", 0)
        return bool(before != now)

    def nodes_taken(self, model: Key, nodes: Iterable[str], cache: ObjectCache) -> frozenset[str]:
        """Return the nodes where another model holds the turn."""
        return frozenset(node for node in nodes if self._is_taken(model, node, cache))

    def request(self, model: Key, *, rolls: Iterable[str], waits: Iterable[str]) -> None:
        """Claim the turn for a model on the nodes where it rolls; let it wait on the others."""
        now = self._clock()
        for node in rolls:
            claimed_by, claimed_at = self._claims.get(node, (None, 0.0))
            # A claim that has expired is not renewed at once, so that others can claim the turn.
            if claimed_by != model or now - claimed_at > 3 * CLAIM_SECONDS:
                self._claims[node] = (model, now)
        for node in waits:
            self._waiting[node].add(model)

    def _is_taken(self, model: Key, node: str, cache: ObjectCache) -> bool:
        now = self._clock()
        claimed_by, claimed_at = self._claims.get(node, (model, now))
        if claimed_by != model and now - claimed_at < CLAIM_SECONDS:
            return True
        return any(
            owner != model and now - since < MAX_TURN_SECONDS and not _fails(cache.get(owner))
            for _, owner, since in (
                self._since[deployment] for deployment in self._on.get(node, ())
            )
        )


def is_rolling_out(deployment: Object) -> bool:
    """Tell whether a Deployment is rolling out: not all of its pods are updated and available.

    A Deployment that its controller has never observed does not count.
    """
    replicas, status = deployment["spec"].get("replicas", 0), deployment.get("status") or {}
    observed_generation = status.get("observedGeneration")
    if not replicas or observed_generation is None:
        return False
    ready = min(status.get("updatedReplicas", 0), status.get("availableReplicas", 0))
    return bool(
        observed_generation < deployment["metadata"].get("generation", 0) or ready < replicas
    )


def _node(deployment: Object) -> str:
    return str((deployment["metadata"].get("annotations") or {}).get(labels.NODE, ""))


def _fails(model: Object | None) -> bool:
    if model is None:
        return True
    reason = condition(model.get("status") or {}, ConditionType.READY).get("reason")
    return reason in FAILED_REASONS | STALLED_REASONS

"""The nodes that the scheduler refused a model's pods of late.

The pod of a refused node is deleted when the model goes elsewhere. Without a memory, two nodes that
both refuse it would get it in turn, without end.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from llama_halo.kube.cache import Key

AVOIDED_SECONDS = 300.0
"""How long a node is avoided where another one has room."""


class Refusals:
    """When the scheduler refused each node last, by model."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._refused: dict[Key, dict[str, float]] = {}

    def note(self, model: Key, nodes: frozenset[str]) -> None:
        """Record the nodes that refuse a model now."""
        if nodes:
            self._refused.setdefault(model, {}).update(dict.fromkeys(nodes, self._clock()))

    def of_late(self, model: Key) -> frozenset[str]:
        """Return the nodes that refused a model within `AVOIDED_SECONDS`."""
        refused, now = self._refused.get(model), self._clock()
        if not refused:
            return frozenset()
        for node in [node for node, since in refused.items() if now - since > AVOIDED_SECONDS]:
            del refused[node]
        if not refused:
            del self._refused[model]
        return frozenset(refused)

    def next_end_seconds(self) -> float | None:
        """Return the seconds until a node is no longer avoided, None when none is."""
        now = self._clock()
        left = [
            since + AVOIDED_SECONDS - now
            for refused in self._refused.values()
            for since in refused.values()
        ]
        ahead = [seconds for seconds in left if seconds > 0]
        return min(ahead) + 1 if ahead else None

    def forget(self, model: Key) -> None:
        self._refused.pop(model, None)

"""The entries that gateways write on models' Leases, and when the operator saw them change.

Each gateway writes an annotation of its own: a counter and its requests in flight, `17/2`. All
times are the operator's own clock when it saw a change, so it never compares the clocks of two
machines. A restarted operator treats every entry as just written.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from llama_halo.contract.lease import (
    BUSY_SECONDS,
    GATEWAY_PREFIX,
    PHASE_ANNOTATION,
    Phase,
    has_requests,
)
from llama_halo.kube.cache import Key, Object
from llama_halo.plan.facts import ModelUsage


@dataclass
class _Lease:
    """One model's Lease as last observed; times are monotonic."""

    phase: Phase = Phase.NEW
    entries: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By annotation: a gateway's last entry, and when it changed."""
    changed_at: float = 0.0
    wanted_at: float | None = None
    loaded_at: float = 0.0
    seen_busy_at: float = float("-inf")
    """When its server was last seen busy with requests that bypassed the gateways."""


class LeaseActivity:
    """The activity on every model's Lease, updated with each change of the cache."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._leases: dict[Key, _Lease] = {}
        self._healthy_since: float | None = None
        self._broken: set[str | None] = set()

    def note(self, key: Key, obj: Object | None) -> bool:
        """Record a model's Lease, None when it was deleted; tell whether that matters to placement.

        It does if the Lease is new or deleted, the phase changed, or the model became busy or idle.
        """
        if obj is None:
            return self._leases.pop(key, None) is not None
        now, annotations = self._clock(), obj["metadata"].get("annotations") or {}
        new = key not in self._leases
        lease = self._leases.setdefault(key, _Lease(changed_at=now, loaded_at=now))
        before = (lease.phase, self._busy(lease, now))
        entries = {
            name: text for name, text in annotations.items() if name.startswith(GATEWAY_PREFIX)
        }
        for name, text in entries.items():
            if lease.entries.get(name, ("",))[0] != text:
                lease.entries[name] = (text, now)
                lease.changed_at = now
        for name in lease.entries.keys() - entries.keys():
            del lease.entries[name]
        phase = annotations.get(PHASE_ANNOTATION, "")
        lease.phase = Phase(phase) if phase in set(Phase) else Phase.NEW
        if lease.phase is Phase.LOADED and before[0] in (Phase.NEW, Phase.IDLE):
            lease.loaded_at = lease.changed_at = now
        after = (lease.phase, self._busy(lease, now))
        if not after[1]:
            lease.wanted_at = None
        elif lease.wanted_at is None:
            lease.wanted_at = now
        return new or before != after

    def phase(self, key: Key) -> Phase:
        """Return the phase of a model, NEW when it has no Lease."""
        lease = self._leases.get(key)
        return lease.phase if lease else Phase.NEW

    def usage(self, key: Key) -> ModelUsage:
        """Return how a model is used now; untrusted if it has no Lease."""
        lease, now = self._leases.get(key), self._clock()
        if lease is None:
            return ModelUsage(trusted=False)
        busy = self._busy(lease, now)
        in_flight_at = [at for text, at in lease.entries.values() if has_requests(text)]
        ends = max([*in_flight_at, lease.seen_busy_at]) + BUSY_SECONDS - now
        return ModelUsage(
            phase=lease.phase,
            busy=busy,
            wanted_since=lease.wanted_at or 0.0,
            idle_seconds=0.0 if busy else now - lease.changed_at,
            resident_seconds=now - lease.loaded_at,
            trusted=self.trusted,
            next_change_seconds=ends if busy else None if self.trusted else BUSY_SECONDS,
        )

    def record_busy(self, key: Key) -> None:
        """Record that a model's server is busy with requests that bypassed the gateways."""
        lease = self._leases.get(key)
        if lease:
            lease.seen_busy_at = lease.changed_at = self._clock()

    def record_watch(self, namespace: str | None, *, healthy: bool) -> None:
        """Record whether the watch on a namespace's Leases works; None is the watch on all.

        While one is broken, no model counts as reliably idle.
        """
        self._broken.discard(namespace)
        if not healthy:
            self._broken.add(namespace)
        if self._broken:
            self._healthy_since = None
        elif self._healthy_since is None:
            self._healthy_since = self._clock()

    @property
    def trusted(self) -> bool:
        """Whether all watches have worked for `BUSY_SECONDS`, so that no entry was missed."""
        return (
            self._healthy_since is not None and self._clock() - self._healthy_since >= BUSY_SECONDS
        )

    @staticmethod
    def _busy(lease: _Lease, now: float) -> bool:
        if now - lease.seen_busy_at < BUSY_SECONDS:
            return True
        return any(
            has_requests(text) and now - at < BUSY_SECONDS for text, at in lease.entries.values()
        )

"""The state that the controllers share: the API client, the cache, and each part's decisions.

`wiring` creates one `OperatorState`. Each part owns its fields and has a `forget` of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llama_halo.controllers.placement.lease_activity import LeaseActivity
from llama_halo.controllers.placement.nodes import NodeIndex
from llama_halo.controllers.placement.refusals import Refusals
from llama_halo.controllers.placement.reservations import ReservationIndex
from llama_halo.controllers.placement.rollout_turns import RolloutTurns
from llama_halo.kube.cache import Key, ObjectCache
from llama_halo.kube.changes import Change, ChangeFeed
from llama_halo.kube.pods import PodClient
from llama_halo.kube.protocol import KubeApi
from llama_halo.kube.repair_limiter import RepairLimiter
from llama_halo.kube.workqueue import Queue
from llama_halo.metrics import OperatorMetrics
from llama_halo.plan.facts import Assignment, ClaimFacts, Inspection, ResourceDemand, Sizing
from llama_halo.plan.outcome import Invalid
from llama_halo.settings import Settings
from llama_halo.status.verification import Verification

PLACEMENT = Key("Placement", "", "placement")
"""The key of placement, which is one decision over all models and nodes."""
POLL_TIMEOUT_SECONDS = 5
UNLOAD_TIMEOUT_SECONDS = 15
VERIFY_TIMEOUT_SECONDS = 150


@dataclass
class PlacementState:
    """Assignments, and the indexes that placement reads; owned by `controllers.placement`."""

    nodes: NodeIndex
    assignments: dict[Key, Assignment] = field(default_factory=dict)
    demands: dict[Key, ResourceDemand | None] = field(default_factory=dict)
    """By model; None while the model has no demand yet, for example before its inspection."""
    sizings: dict[Key, Sizing | Invalid | None] = field(default_factory=dict)
    """By model; None until every required header has been read."""
    reservations: ReservationIndex = field(default_factory=ReservationIndex)
    refusals: Refusals = field(default_factory=Refusals)
    lease_activity: LeaseActivity = field(default_factory=LeaseActivity)
    rollout_turns: RolloutTurns = field(default_factory=RolloutTurns)
    unload_queue: Queue = field(
        default_factory=lambda: Queue("unload", timeout_seconds=UNLOAD_TIMEOUT_SECONDS)
    )
    """Models to unload. An unload sends requests to their servers, so no reconcile does it."""
    awaiting_idle: dict[Key, float] = field(default_factory=dict)
    """Models whose change waits until they are idle; monotonic time of the first wait."""
    not_before: float = 0.0
    """Monotonic time before which placement does not run again."""

    def forget(self, key: Key) -> None:
        self.assignments.pop(key, None)
        self.refusals.forget(key)
        self.awaiting_idle.pop(key, None)


@dataclass
class PollerState:
    """Results of the pollers, by the polled object; owned by `controllers.pollers`."""

    queue: Queue = field(
        default_factory=lambda: Queue("poll", timeout_seconds=POLL_TIMEOUT_SECONDS)
    )
    claims: dict[Key, ClaimFacts] = field(default_factory=dict)
    templates: dict[Key, Mapping[str, str] | str | None] = field(default_factory=dict)
    """ConfigMaps with chat templates: their data, None when absent, or why they are not read."""
    templates_read: dict[Key, tuple[str, int, str]] = field(default_factory=dict)
    """By model: uid, generation and reconcile request for which its template was read last."""
    downloads: dict[Key, dict[str, int]] = field(default_factory=dict)
    """Progress by the pod of a fetch Job."""
    creation_warnings: dict[Key, str] = field(default_factory=dict)
    """Newest warning Event of pods and Jobs that are stuck in creation."""

    def forget(self, key: Key) -> None:
        self.templates_read.pop(key, None)


@dataclass(frozen=True)
class Attempts:
    """Tool-calling checks of one pod that have brought no result yet."""

    pod: str = ""
    failed: int = 0
    """Checks without an answer."""
    silent: int = 0
    """Consecutive times that the pod did not even report whether it was busy."""
    not_before: float = 0.0
    """Monotonic time of the next check: a reconcile must not bring it forward."""

    def later(self, seconds: float, *, silent: int = 0) -> Attempts:
        """Return a copy whose next check is due in `seconds`."""
        return replace(self, silent=silent, not_before=time.monotonic() + seconds)


@dataclass
class VerificationState:
    """Tool-calling checks; owned by `controllers.verification`."""

    queue: Queue = field(
        default_factory=lambda: Queue("verification", timeout_seconds=VERIFY_TIMEOUT_SECONDS)
    )
    results: dict[Key, Verification] = field(default_factory=dict)
    attempts: dict[Key, Attempts] = field(default_factory=dict)

    def forget(self, key: Key) -> None:
        self.results.pop(key, None)
        self.attempts.pop(key, None)


@dataclass
class ReportingState:
    """Status writes that are held back; owned by `controllers.reconcile` and `write_status`."""

    unreported: set[Key] = field(default_factory=set)
    """Resources whose children were written and whose status was not."""
    written_at: dict[Key, float] = field(default_factory=dict)
    """Monotonic time of the last status write."""

    def forget(self, key: Key) -> None:
        self.unreported.discard(key)
        self.written_at.pop(key, None)


def _ignore(_: OperatorState, __: Change) -> None:
    return


@dataclass
class OperatorState:
    """The API client, the cache, the queue, and the state of each part of the controllers."""

    cluster: KubeApi
    cache: ObjectCache
    queue: Queue
    pods: PodClient
    """Sends requests to pods; a reconcile must not use it."""
    settings: Settings
    metrics: OperatorMetrics
    handle_change: Callable[[OperatorState, Change], None] = _ignore
    """Handles one change of the cache; `wiring` sets it to `triggers.handle`."""
    pollers: PollerState = field(default_factory=PollerState)
    verification: VerificationState = field(default_factory=VerificationState)
    reporting: ReportingState = field(default_factory=ReportingState)
    repair_limiter: RepairLimiter = field(default_factory=RepairLimiter)
    specs: dict[Key, tuple[tuple[Any, ...], Any]] = field(default_factory=dict)
    """Validated specs by resource, with what they were validated at: uid, generation, too large."""
    inspected: dict[Key, tuple[Any, tuple[Inspection, ...]]] = field(default_factory=dict)
    """Inspections by model, with the status entries they were parsed from."""

    placement_fails_since: float | None = None
    """Monotonic time of the first of the failures in a row of placement; None after a success."""

    def __post_init__(self) -> None:
        nodes = NodeIndex(gpu_reserve_mib=self.settings.gpu_reserve_mib)
        self._placement = PlacementState(nodes)
        self.changes = ChangeFeed(lambda change: self.handle_change(self, change))

    @property
    def placement(self) -> PlacementState:
        """The state of placement, after every pending change of the cache is handled."""
        self.changes.drain()
        return self._placement

    @property
    def lease_activity(self) -> LeaseActivity:
        """The Leases' activity, for a watch: it handles no pending change."""
        return self._placement.lease_activity

    @property
    def unload_queue(self) -> Queue:
        """The unloader's queue, for a watch: it handles no pending change."""
        return self._placement.unload_queue

    def forget(self, key: Key) -> None:
        """Drop everything about a resource that is gone."""
        self.queue.forget(key)
        self.metrics.forget(key)
        self.placement.forget(key)
        self.pollers.forget(key)
        self.verification.forget(key)
        self.reporting.forget(key)
        self.specs.pop(key, None)
        self.inspected.pop(key, None)

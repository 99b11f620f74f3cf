"""What every reconcile shares; made once, by `wiring`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llama_halo.controllers.placement.lease_activity import Activity
from llama_halo.controllers.placement.reservations import Stakes
from llama_halo.controllers.placement.rollout_turns import Rolls
from llama_halo.kube.cache import Key, Store
from llama_halo.kube.pods import PodClient
from llama_halo.kube.protocol import Cluster
from llama_halo.kube.repair_limiter import Repairs
from llama_halo.kube.workqueue import Queue
from llama_halo.metrics import OperatorMetrics
from llama_halo.plan.facts import Assignment, ClaimFacts, Demand, Inspection
from llama_halo.settings import Settings
from llama_halo.status.verification import Verification

PLACEMENT = Key("Placement", "", "placement")
"""The one key of the decision over all models and nodes."""
UNLOAD_SECONDS = 15
VERIFY_SECONDS = 150


@dataclass(frozen=True)
class Tries:
    """What came of checking one pod of a model so far."""

    pod: str = ""
    failed: int = 0
    """Checks that got no answer."""
    silent: int = 0
    """Times in a row that it did not even say whether it was busy."""
    not_before: float = 0.0
    """When to look again, by the monotonic clock: a reconcile must not make it sooner."""

    def later(self, seconds: float, *, silent: int = 0) -> Tries:
        """Return the same, to be looked at again in so many seconds."""
        return replace(self, silent=silent, not_before=time.monotonic() + seconds)


@dataclass
class Context:
    """The cluster, what is known of it, and what has been decided."""

    cluster: Cluster
    store: Store
    queue: Queue
    probes: Queue
    """Looks at pods and their Events, apart from the reconciles."""
    pods: PodClient
    """Asks pods themselves; never from a reconcile."""
    settings: Settings
    metrics: OperatorMetrics
    assignments: dict[Key, Assignment] = field(default_factory=dict)
    specs: dict[Key, tuple[tuple[str, int], Any]] = field(default_factory=dict)
    """Validated specs, with the uid and generation that they are of."""
    activity: Activity = field(default_factory=Activity)
    """What gateways say of the models that have Leases."""
    unloads: Queue = field(default_factory=lambda: Queue(timeout_seconds=UNLOAD_SECONDS))
    """Models that are asked to leave, apart from the reconciles: their pods are asked, too."""
    verifications: Queue = field(default_factory=lambda: Queue(timeout_seconds=VERIFY_SECONDS))
    """Models that are tried, apart from everything else: an answer takes its time."""
    verified: dict[Key, Verification] = field(default_factory=dict)
    """What the models showed that were tried."""
    tries: dict[Key, Tries] = field(default_factory=dict)
    """Checks of models that came to nothing yet."""
    demands: dict[Key, Demand | None] = field(default_factory=dict)
    """What each model asks of the nodes, kept as the store changes."""
    inspected: dict[Key, tuple[Any, tuple[Inspection, ...]]] = field(default_factory=dict)
    """What the status has of each model's files, with the entries that it was parsed from."""
    claims: dict[Key, ClaimFacts] = field(default_factory=dict)
    """Claims that models have their files on."""
    awaiting_idle: dict[Key, float] = field(default_factory=dict)
    """Models that are to roll when idle, and since when, by the monotonic clock."""
    templates: dict[Key, Mapping[str, str] | str | None] = field(default_factory=dict)
    """ConfigMaps with chat templates: their texts, None when not there, or why not read."""
    templates_read: dict[Key, tuple[str, int, str]] = field(default_factory=dict)
    """For which uid, generation and request of each model its template was read last."""
    downloads: dict[Key, dict[str, int]] = field(default_factory=dict)
    """How far the downloads of Jobs' pods are, by the pod."""
    unreported: set[Key] = field(default_factory=set)
    """Resources whose children were written and whose status is still to be told."""
    told_at: dict[Key, float] = field(default_factory=dict)
    """When each status was last written, by the monotonic clock."""
    repairs: Repairs = field(default_factory=Repairs)
    findings: dict[Key, str] = field(default_factory=dict)
    """What the Events of pods say whose creation hangs."""
    stakes: Stakes = field(default_factory=Stakes)
    """What pods and Deployments have to do with nodes."""
    rolls: Rolls = field(default_factory=Rolls)
    """Whose turn it is to roll on each node."""
    next_placement_at: float = 0.0
    """When placement may run again, by the monotonic clock."""

    def forget(self, key: Key) -> None:
        """Drop what is known of a resource that is gone."""
        self.queue.forget(key)
        self.metrics.forget(key)
        self.unreported.discard(key)
        for cache in (self.assignments, self.specs, self.inspected, self.told_at):
            cache.pop(key, None)
        for waiting in (self.templates_read, self.awaiting_idle):
            waiting.pop(key, None)
        for results in (self.verified, self.tries):
            results.pop(key, None)

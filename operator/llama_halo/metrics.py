"""The operator's metrics: made once by `wiring`, written by the loop, served by `health`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from llama_halo import __version__
from llama_halo.cluster.store import Key


class OperatorMetrics:
    """All series of the operator, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        Info("llama_halo_build", "Version of the operator.", registry=self.registry).info(
            {"version": __version__}
        )
        self._reconciles = Counter(
            "llama_halo_reconcile",
            "Reconciles by kind and resulting reason.",
            ["kind", "reason"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "llama_halo_reconcile_duration_seconds",
            "Duration of a reconcile.",
            ["kind"],
            registry=self.registry,
        )
        self._ready = Gauge(
            "llama_halo_resource_ready",
            "1 when the resource's Ready condition is True.",
            ["kind", "namespace", "name"],
            registry=self.registry,
        )

    def observe_queue(
        self, depth: Callable[[], float], oldest_seconds: Callable[[], float]
    ) -> None:
        """Publish the queue's depth and the age of its oldest key, read at each scrape."""
        Gauge(
            "llama_halo_queue_depth", "Keys that wait for a worker.", registry=self.registry
        ).set_function(depth)
        Gauge(
            "llama_halo_queue_oldest_seconds",
            "How long the oldest key has waited.",
            registry=self.registry,
        ).set_function(oldest_seconds)

    def observe_tasks(self, tasks: Callable[[], float]) -> None:
        """Publish how many asyncio tasks there are: a number that grows is a leak."""
        Gauge(
            "llama_halo_tasks", "asyncio tasks of the operator.", registry=self.registry
        ).set_function(tasks)

    def reconciled(self, key: Key, ready: Mapping[str, Any], seconds: float) -> None:
        """Count one reconcile and publish whether the resource is ready."""
        self._reconciles.labels(key.kind, ready["reason"]).inc()
        self._seconds.labels(key.kind).observe(seconds)
        self._ready.labels(key.kind, key.namespace, key.name).set(ready["status"] == "True")

    def forget(self, key: Key) -> None:
        """Drop the series of a resource that is gone."""
        try:
            self._ready.remove(key.kind, key.namespace, key.name)
        except KeyError:
            return

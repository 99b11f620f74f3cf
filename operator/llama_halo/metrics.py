"""The operator's metrics: made once by `wiring`, written by the controllers, served by `health`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from llama_halo import __version__
from llama_halo.api import llamamodel
from llama_halo.kube.cache import Key
from llama_halo.kube.resources import OWNERS, WATCHED


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
        self._failures = Counter(
            "llama_halo_reconcile_failures",
            "Reconciles that ended with an error and are tried again, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self._rejected = Counter(
            "llama_halo_rejected_objects",
            "Objects of a list or watch that could not be read, by kind.",
            ["kind"],
            registry=self.registry,
        )
        # A series that begins at 1 shows no increase, and no alert would notice its first event.
        for kind in ("Placement", *(resource.kind for resource in OWNERS)):
            self._failures.labels(kind)
        for resource in WATCHED:
            self._rejected.labels(resource.kind)
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

        self._state = Gauge(
            "llama_halo_model_state",
            "1 for the state that a model is in, the reason of its Ready condition.",
            ["namespace", "name", "state"],
            registry=self.registry,
        )
        self._states: dict[Key, str] = {}
        self._memory = Gauge(
            "llama_halo_node_gpu_memory_bytes",
            "GPU memory of a node: its budget, and what models hold.",
            ["node", "what"],
            registry=self.registry,
        )
        self._nodes: set[str] = set()
        self._unloads = Counter(
            "llama_halo_model_unloads",
            "How often a model on demand was unloaded.",
            ["namespace", "name"],
            registry=self.registry,
        )
        self._downloaded = Gauge(
            "llama_halo_download_bytes",
            "Bytes of a model's files that a download has brought so far.",
            ["namespace", "name"],
            registry=self.registry,
        )

    def record_failure(self, key: Key) -> None:
        """Count a reconcile that ended with an error."""
        self._failures.labels(key.kind).inc()

    def record_rejection(self, kind: str) -> None:
        """Count an object that could not be read."""
        self._rejected.labels(kind).inc()

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
        """Publish the number of asyncio tasks; steady growth means a leak."""
        Gauge(
            "llama_halo_tasks", "asyncio tasks of the operator.", registry=self.registry
        ).set_function(tasks)

    def record_reconcile(self, key: Key, ready: Mapping[str, Any], seconds: float) -> None:
        """Count one reconcile and publish whether the resource is ready."""
        self._reconciles.labels(key.kind, ready["reason"]).inc()
        self._seconds.labels(key.kind).observe(seconds)
        self._ready.labels(key.kind, key.namespace, key.name).set(ready["status"] == "True")
        if key.kind == llamamodel.KIND:
            self._set_state(key, ready["reason"])

    def _set_state(self, key: Key, reason: str) -> None:
        old = self._states.get(key)
        if old != reason:
            if old is not None:
                self._state.remove(key.namespace, key.name, old)
            self._state.labels(key.namespace, key.name, reason).set(1)
            self._states[key] = reason

    def set_node_memory(self, nodes: Mapping[str, tuple[int, int]]) -> None:
        """Publish the GPU memory of each node; `nodes` maps a name to (budget, held) in MiB."""
        for name in self._nodes - nodes.keys():
            for kind in ("budget", "held"):
                self._memory.remove(name, kind)
        for name, amounts in nodes.items():
            for kind, mib in zip(("budget", "held"), amounts, strict=True):
                self._memory.labels(name, kind).set(mib * 2**20)
        self._nodes = set(nodes)

    def record_unload(self, key: Key) -> None:
        """Count one unload of an on-demand model."""
        self._unloads.labels(key.namespace, key.name).inc()

    def set_downloaded_bytes(self, key: Key, received: int) -> None:
        """Publish the bytes that a model's download has received so far."""
        self._downloaded.labels(key.namespace, key.name).set(received)

    def forget(self, key: Key) -> None:
        """Drop the series of a deleted resource."""
        with suppress(KeyError):
            self._ready.remove(key.kind, key.namespace, key.name)
        if key.kind != llamamodel.KIND:
            return  # the series below are a model's, and a router may have the same name
        state = self._states.pop(key, None)
        if state is not None:
            self._state.remove(key.namespace, key.name, state)
        for series in (self._unloads, self._downloaded):
            with suppress(KeyError):
                series.remove(key.namespace, key.name)

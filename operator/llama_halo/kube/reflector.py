"""Keeps the cache in step with the API server: lists a kind, then watches it.

One reflector runs for each watched kind, and for each namespace if the operator serves only some. A
watch that restarts after a gap replays the existing objects but does not report those that were
deleted meanwhile. Only a list finds them, so the reflector lists after every error answer, and
whenever the last list is older than ten minutes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from llama_halo.errors import ClusterError
from llama_halo.kube.cache import ObjectCache
from llama_halo.kube.client import REQUEST_ERRORS
from llama_halo.kube.protocol import Json, KubeApi
from llama_halo.kube.resources import Resource

log = logging.getLogger(__name__)

LIST_SECONDS = 600
HEALTHY_SECONDS = 5.0
"""A watch that lasts this long, or that delivers an event, counts as healthy."""
RETRY_FIRST_SECONDS = 0.2
RETRY_MAX_SECONDS = 5.0


class Reflector:
    """Reflects one kind; `failure` is the current failure, empty while the watch works."""

    def __init__(  # noqa: PLR0913  (what it reflects, and its callbacks, by name)
        self,
        cluster: KubeApi,
        cache: ObjectCache,
        resource: Resource,
        namespace: str | None,
        *,
        selector: str = "",
        on_health: Callable[[str], None],
        on_recovery: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reflect one kind into the cache.

        `on_health` receives `failure` whenever it is set. `on_recovery` is called when the API
        server answers again after a failure.
        """
        self._cluster = cluster
        self._cache = cache
        self._resource = resource
        self._namespace = namespace
        self._selector = selector
        self._on_health = on_health
        self._on_recovery = on_recovery
        self._clock = clock
        self._version: int | None = None
        self._listed_at = 0.0
        self._failures = 0
        self.failure = "not listed yet"

    async def list(self) -> None:
        """List the kind and replace its objects in the cache."""
        self._version = None
        items, version = await self._cluster.list(
            self._resource, namespace=self._namespace, selector=self._selector
        )
        self._cache.replace(self._resource.kind, items, version, namespace=self._namespace)
        self._version = version
        self._listed_at = self._clock()

    async def run(self) -> None:
        """Watch for ever; list first without a version to resume at, or after an old list."""
        while True:
            try:
                if self._version is None or self._is_old():
                    await self.list()
                await self._watch()
            except (ClusterError, *REQUEST_ERRORS) as error:
                await self._pause(error)

    async def _watch(self) -> None:
        """Follow one watch to its end.

        An early end counts as a failure. Raises `ConnectionError` for an early end without an event
        right after another failure.
        """
        opened = self._clock()
        events = self._cluster.watch(
            self._resource,
            namespace=self._namespace,
            selector=self._selector,
            version=self._version,
        )
        async for kind, obj in events:
            if kind == "OPENED":
                self._mark_healthy()
                continue
            self._failures = 0
            if kind != "BOOKMARK":
                self._apply_event(kind, obj)
            self._version = int(obj["metadata"]["resourceVersion"])
        if self._clock() - opened < HEALTHY_SECONDS and self._failures:
            raise ConnectionError("the API server ended the watch right after it began")
        self._failures = 0 if self._clock() - opened >= HEALTHY_SECONDS else 1

    def _apply_event(self, kind: str, obj: Json) -> None:
        if kind == "DELETED":
            self._cache.forget(obj)
        else:
            self._cache.observe(obj)

    def _is_old(self) -> bool:
        return self._clock() - self._listed_at > LIST_SECONDS

    def _mark_healthy(self) -> None:
        self._set_failure("")
        if self._failures:
            log.info("the API server answers again", extra={"kind": self._resource.kind})
            self._on_recovery()

    def _set_failure(self, reason: str) -> None:
        self.failure = reason
        self._on_health(reason)

    async def _pause(self, error: Exception) -> None:
        """Record and log the error, then sleep with backoff."""
        if isinstance(error, ClusterError):
            self._version = None  # a new list recovers from any refusal
        delay = min(RETRY_FIRST_SECONDS * 2 ** min(self._failures, 10), RETRY_MAX_SECONDS)
        self._failures += 1
        reason = str(error) or type(error).__name__
        self._set_failure(f"the watch of {self._resource.plural} is broken: {reason}")
        level = logging.DEBUG if self._failures == 1 else logging.WARNING
        log.log(
            level,
            "watch failed; retrying",
            extra={"kind": self._resource.kind, "reason": reason, "retry_seconds": delay},
        )
        await asyncio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311

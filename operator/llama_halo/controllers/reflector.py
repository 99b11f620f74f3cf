"""Keeps the store like the cluster: list, watch from there on, list again after a gap; for ever.

One of these runs for each watched kind (and namespace, where the operator serves only some). A
watch that resumes after a gap replays what exists and says nothing of what was deleted meanwhile;
only a list finds those, so a gap is always followed by one, and there is one every ten minutes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time

from llama_halo.controllers.state import OperatorState
from llama_halo.controllers.triggers import enqueue_dependents, list_kind, selector_of
from llama_halo.errors import ClusterError
from llama_halo.kube.client import UNREACHABLE
from llama_halo.kube.protocol import Json
from llama_halo.kube.resources import LEASE, WATCHED, Resource

log = logging.getLogger(__name__)

LIST_SECONDS = 600
SOUND_SECONDS = 5.0
"""A watch that lived for so long, or told something, was sound."""
RETRY_FIRST_SECONDS = 0.2
RETRY_MOST_SECONDS = 5.0


class Reflector:
    """Reflects one kind; `broken` says why it does not at the moment, empty when it does."""

    def __init__(self, state: OperatorState, resource: Resource, namespace: str | None) -> None:
        self._state = state
        self._resource = resource
        self._namespace = namespace
        self._version: int | None = None
        self._listed_at = 0.0
        self._failures = 0
        self.broken = "not listed yet"

    async def list(self) -> None:
        """Read everything; what differs from the store is enqueued."""
        self._version = None
        self._version = await list_kind(self._state, self._resource, self._namespace)
        self._listed_at = time.monotonic()

    async def run(self) -> None:
        """List when there is a reason to, and watch, for ever."""
        while True:
            try:
                if self._version is None or self._is_old():
                    await self.list()
                await self._watch()
            except (ClusterError, *UNREACHABLE) as error:
                await self._pause(error)

    async def _watch(self) -> None:
        """Follow one watch to its end; one that ends at once is a failure, whatever it says."""
        opened, resource = time.monotonic(), self._resource
        events = self._state.cluster.watch(
            resource,
            namespace=self._namespace,
            selector=selector_of(resource),
            version=self._version,
        )
        async for kind, obj in events:
            if kind == "OPENED":
                self._mended()
                continue
            self._failures = 0
            if kind != "BOOKMARK":
                self._take_in(kind, obj)
            self._version = int(obj["metadata"]["resourceVersion"])
        if time.monotonic() - opened < SOUND_SECONDS and self._failures:
            raise ConnectionError("the watch ends as soon as it begins")
        self._failures = 0 if time.monotonic() - opened >= SOUND_SECONDS else 1

    def _take_in(self, kind: str, obj: Json) -> None:
        cache = self._state.cache
        news = cache.forget(obj) if kind == "DELETED" else cache.observe(obj)
        for changed in news:
            enqueue_dependents(self._state, changed)

    def _is_old(self) -> bool:
        return time.monotonic() - self._listed_at > LIST_SECONDS

    def _mended(self) -> None:
        self._set_broken("")
        if self._failures:
            log.info("the API server answers again", extra={"kind": self._resource.kind})
            self._state.queue.retry_failed()
            self._state.pollers.queue.retry_failed()

    def _set_broken(self, reason: str) -> None:
        self.broken = reason
        if self._resource.kind == LEASE.kind:
            self._state.placement.lease_activity.watched(self._namespace, sound=not reason)

    async def _pause(self, error: Exception) -> None:
        """Say why, and wait longer each time; the first time hardly at all."""
        if isinstance(error, ClusterError):
            self._version = None  # whatever it was, a list is the safe way on
        delay = min(RETRY_FIRST_SECONDS * 2 ** min(self._failures, 10), RETRY_MOST_SECONDS)
        self._failures += 1
        reason = str(error) or type(error).__name__
        self._set_broken(f"the watch of {self._resource.plural} is broken: {reason}")
        level = logging.DEBUG if self._failures == 1 else logging.WARNING
        log.log(
            level,
            "watch broke, trying again",
            extra={"kind": self._resource.kind, "reason": reason, "retry_seconds": delay},
        )
        await asyncio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311


def reflectors(state: OperatorState) -> list[Reflector]:
    """Return one for each watched kind and served namespace."""
    return [
        Reflector(state, resource, namespace)
        for resource in WATCHED
        for namespace in ((resource.namespaced and state.settings.namespaces) or (None,))
    ]

"""The operator process: a reflector for each watched kind, the queue's workers, the health server.

It starts in this order: check CRDs and permissions, list all kinds, claim the identity Lease, work.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from functools import partial

from llama_halo import garbage_collection, selfcheck
from llama_halo.contract.labels import MANAGED_BY, PART_OF
from llama_halo.controllers import triggers
from llama_halo.controllers.file_facts import template_key
from llama_halo.controllers.placement.controller import refresh_demand
from llama_halo.controllers.placement.unloader import unload
from llama_halo.controllers.pollers import dispatch
from llama_halo.controllers.reconcile import reconcile
from llama_halo.controllers.state import OperatorState
from llama_halo.controllers.verification import verify
from llama_halo.errors import ClusterError, StartupError
from llama_halo.health import serve_health
from llama_halo.kube import leader
from llama_halo.kube.cache import ObjectCache, key_of
from llama_halo.kube.client import REQUEST_ERRORS, KubeClient
from llama_halo.kube.pods import PodClient
from llama_halo.kube.reflector import Reflector
from llama_halo.kube.resources import LABELLED, LEASE, LLAMAMODEL, WATCHED, Resource
from llama_halo.kube.workqueue import Queue
from llama_halo.metrics import OperatorMetrics
from llama_halo.settings import Settings

log = logging.getLogger(__name__)

START_RETRY_SECONDS = 5
POLL_WORKERS = 4
VERIFY_WORKERS = 2
PLACEMENT_FAILURE_SECONDS = 60
OWN_LABEL = f"{MANAGED_BY}={PART_OF}"


class Operator:
    """One run of the operator, from the startup checks until it stops."""

    def __init__(self, cluster: KubeClient, settings: Settings) -> None:
        self._settings = settings
        self._metrics = OperatorMetrics()
        self._queue = Queue(on_failure=self._metrics.record_failure)
        cluster.on_rejected = self._metrics.record_rejection
        self._metrics.observe_queue(lambda: self._queue.depth, lambda: self._queue.oldest_seconds)
        self._metrics.observe_tasks(lambda: len(asyncio.all_tasks()))
        self._state = OperatorState(
            cluster=cluster,
            cache=ObjectCache(),
            queue=self._queue,
            pods=PodClient(),
            settings=settings,
            metrics=self._metrics,
            handle_change=triggers.handle,
        )
        triggers.listen(self._state)
        self._identity_lease = leader.IdentityLease(
            cluster, settings.own_namespace, settings.identity, on_holder=self._note_leader
        )
        self._reflectors: list[Reflector] = []
        self._start_failure = "starting"
        self._other = ""

    def why_not_ready(self) -> str:
        """Return why the operator does not work; empty while it does."""
        if self._other:
            return (
                f"another instance holds the identity Lease: {self._other}; this one takes over"
                " within a minute when that pod has ended, or at once after kubectl -n"
                f" {self._settings.own_namespace} delete lease {leader.NAME}"
            )
        return (
            self._start_failure
            or self._placement_failure()
            or next((reflector.failure for reflector in self._reflectors if reflector.failure), "")
        )

    def _placement_failure(self) -> str:
        since = self._state.placement_fails_since
        seconds = 0.0 if since is None else time.monotonic() - since
        if seconds < PLACEMENT_FAILURE_SECONDS:
            return ""
        return (
            f"placement has failed for {seconds:.0f} s, and no model gets a node: the operator's"
            " log has the reason (reconcile failed, key Placement)"
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. If a task fails, cancel the others and raise its error."""
        health = await serve_health(
            self._settings.port,
            registry=self._metrics.registry,
            stuck_seconds=lambda: self._queue.stuck_seconds,
            not_ready=self.why_not_ready,
        )
        main, stopping = asyncio.create_task(self._work()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({main, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if main.done():
                main.result()
        finally:
            for task in (main, stopping):
                task.cancel()
            await asyncio.gather(main, stopping, return_exceptions=True)
            await self._state.pods.close()
            await health.cleanup()

    async def _work(self) -> None:
        await self._start_with_retries()
        self._start_failure = ""
        garbage_collection.reduce()
        log.info("operator started", extra={"models": len(self._state.cache.all("LlamaModel"))})
        settings = self._settings
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._state.changes.run())
            for reflector in self._reflectors:
                tasks.create_task(reflector.run())
            for _ in range(settings.workers):
                tasks.create_task(self._queue.work(lambda key: reconcile(self._state, key)))
            for _ in range(POLL_WORKERS):
                polls = self._state.pollers.queue
                tasks.create_task(polls.work(lambda key: dispatch.poll(self._state, key)))
                unloads = self._state.unload_queue
                tasks.create_task(unloads.work(lambda key: unload(self._state, key)))
            for _ in range(VERIFY_WORKERS):
                verifications = self._state.verification.queue
                tasks.create_task(verifications.work(lambda key: verify(self._state, key)))
            tasks.create_task(self._identity_lease.watch())
            tasks.create_task(self._identity_lease.reclaim())

    async def _start_with_retries(self) -> None:
        """Retry the start until it succeeds; log each new reason and report it on `/readyz`."""
        while True:
            try:
                await self._start()
            except StartupError as error:
                reason = str(error)
            except (ClusterError, *REQUEST_ERRORS) as error:
                reason = f"the request to the API server failed: {error or type(error).__name__}"
            else:
                return
            if reason != self._start_failure:
                log.error("cannot start yet", extra={"reason": reason})
            self._start_failure = reason
            await asyncio.sleep(START_RETRY_SECONDS)

    async def _start(self) -> None:
        state, settings = self._state, self._settings
        await selfcheck.check_crds(state.cluster)
        for namespace in settings.namespaces or (settings.own_namespace,):
            await selfcheck.check_permissions(state.cluster, namespace)
        self._reflectors = self._make_reflectors()
        for reflector in self._reflectors:
            await reflector.list()
            # Handle models before routers are listed. A model enqueues the routers of its namespace
            # that are in the cache, and they would be reconciled before most of the models.
            state.changes.drain()
        # The demand of a model with a chat template depends on its pods and Jobs, which may have
        # been listed after it.
        for cr in state.cache.all(LLAMAMODEL.kind):
            if template_key(cr):
                refresh_demand(state, key_of(cr))
        # Claim last: an operator that cannot start must not put a working one on standby.
        await self._identity_lease.claim()

    def _make_reflectors(self) -> list[Reflector]:
        """Return one reflector for each watched kind and served namespace."""
        return [
            Reflector(
                self._state.cluster,
                self._state.cache,
                resource,
                namespace,
                selector=OWN_LABEL if resource.kind in LABELLED else "",
                on_health=partial(self._note_health, resource, namespace),
                on_recovery=self._retry_failed,
            )
            for resource in WATCHED
            for namespace in ((resource.namespaced and self._settings.namespaces) or (None,))
        ]

    def _note_health(self, resource: Resource, namespace: str | None, failure: str) -> None:
        if resource.kind == LEASE.kind:
            self._state.lease_activity.record_watch(namespace, healthy=not failure)

    def _retry_failed(self) -> None:
        self._queue.retry_failed()
        self._state.pollers.queue.retry_failed()

    def _note_leader(self, other: str | None) -> None:
        """Pause the queues while `other` holds the identity Lease; resume when it is None."""
        queues = (self._queue, self._state.unload_queue, self._state.verification.queue)
        if other is not None and not self._queue.paused:
            for queue in queues:
                queue.paused = True
            log.warning(
                "another instance holds the identity Lease; standing by", extra={"holder": other}
            )
        elif other is None and self._queue.paused:
            for queue in queues:
                queue.resume()
            log.warning("this instance holds the identity Lease again; resuming")
        self._other = other or ""


async def run_operator(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; raise `StartupError` when no cluster is configured."""
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    cluster = await KubeClient.connect()
    try:
        await Operator(cluster, settings).run(stop)
    finally:
        await cluster.close()

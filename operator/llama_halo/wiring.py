"""The operator process: kopf as the watcher, the queue's workers, the health server.

This is the only module that imports kopf, and it uses kopf for watching alone: no stateful
handlers, no finalizers, nothing written to the resources' metadata.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any

import kopf

from llama_halo import selfcheck
from llama_halo.cluster.resources import WATCHED, Resource
from llama_halo.cluster.rest import RestCluster
from llama_halo.cluster.store import Store
from llama_halo.health import serve_health
from llama_halo.metrics import OperatorMetrics
from llama_halo.reconcile import identity
from llama_halo.reconcile.context import Context
from llama_halo.reconcile.loop import reconcile
from llama_halo.reconcile.queue import Queue
from llama_halo.reconcile.sync import Relister, list_all, selector_of, wake
from llama_halo.settings import Settings

log = logging.getLogger(__name__)

_STARTING = "starting"


async def run_operator(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; raise `StartupError` when the cluster is not fit to start."""
    cluster = await RestCluster.connect()
    queue, metrics = Queue(), OperatorMetrics()
    metrics.observe_queue(lambda: queue.depth, lambda: queue.oldest_seconds)
    context = Context(
        cluster=cluster, store=Store(), queue=queue, settings=settings, metrics=metrics
    )
    state = _State()
    health = await serve_health(
        settings.port,
        registry=metrics.registry,
        oldest_seconds=lambda: 0.0 if queue.paused else queue.oldest_seconds,
        not_ready=lambda: state.why_not_ready,
    )
    try:
        await selfcheck.check_crds(cluster)
        await selfcheck.check_permissions(
            cluster, (*settings.namespaces, settings.own_namespace)[0]
        )
        await identity.claim(cluster, settings.own_namespace, settings.identity)
        await list_all(context)
        await _run(context, state)
    finally:
        await health.cleanup()
        await cluster.close()


class _State:
    """Why the operator is not ready; empty when it is."""

    def __init__(self) -> None:
        self.why_not_ready = _STARTING


async def _run(context: Context, state: _State) -> None:
    """Run the workers and the watches side by side; the end of one ends all."""
    settings, stop = context.settings, asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)

    def acts(other: str | None) -> None:
        if other is not None and not context.queue.paused:
            context.queue.paused = True
            state.why_not_ready = f"another operator acts: {other}"
            log.warning("another operator acts, this one rests", extra={"holder": other})
        elif other is None and context.queue.paused:
            state.why_not_ready = ""
            context.queue.resume()
            log.warning("the identity Lease is ours again, this operator acts")

    relister, watching = Relister(context), asyncio.Event()
    tasks = [
        asyncio.create_task(context.queue.work(lambda key: reconcile(context, key)))
        for _ in range(settings.workers)
    ]
    tasks += [
        asyncio.create_task(relister.run()),
        asyncio.create_task(
            identity.watch_claim(
                context.cluster,
                settings.own_namespace,
                settings.identity,
                acts=acts,
            )
        ),
    ]
    started = asyncio.create_task(_note_watching(watching, state, relister))
    # kopf takes tasks that were there before it for somebody else's, and leaves them alone.
    watcher = asyncio.create_task(
        kopf.operator(
            registry=_registry(context, relister),
            settings=_kopf_settings(),
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            standalone=True,
            # Its own guess asks for the user's name, which a container's bare uid has not.
            identity=settings.identity,  # type: ignore[arg-type]
            stop_flag=stop,
            ready_flag=watching,
        )
    )
    try:
        done, _ = await asyncio.wait({watcher, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # raises what ended it: the process ends, and is started anew
    finally:
        stop.set()
        for task in (started, *tasks):
            task.cancel()
        await asyncio.gather(watcher, started, *tasks, return_exceptions=True)


async def _note_watching(watching: asyncio.Event, state: _State, relister: Relister) -> None:
    """Once kopf watches, list again: for what changed between the first list and the watches."""
    await watching.wait()
    if state.why_not_ready == _STARTING:
        state.why_not_ready = ""
    for resource in WATCHED:
        relister.gap(resource)


def _registry(context: Context, relister: Relister) -> kopf.OperatorRegistry:
    """Every wake-up there is: one handler for each watched kind."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login)
    for resource in WATCHED:
        kopf.on.event(
            resource.group, resource.version, resource.plural, id=resource.kind, registry=registry
        )(_handler(context, relister, resource))
    return registry


def _handler(context: Context, relister: Relister, resource: Resource) -> Any:
    async def seen(event: kopf.RawEvent, **_: Any) -> None:
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, **event["object"]}
        if event["type"] is None:
            relister.gap(resource)
        deleted = event["type"] == "DELETED"
        if context.store.forget(obj) if deleted else context.store.observe(obj):
            wake(context, obj)

    return seen


async def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    for resource in WATCHED:
        selector = selector_of(resource)
        if selector:
            name = f"{resource.api_version}/{resource.plural}"
            settings.watching.label_selectors[name] = selector
    return settings

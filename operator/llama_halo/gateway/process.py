"""Runs the gateway process: start, serve, and drain on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from aiohttp import web

from llama_halo import garbage_collection
from llama_halo.api_server import ApiServer
from llama_halo.contract.gateway_config import GatewayConfig
from llama_halo.gateway.admin import LEAVE_SECONDS, admin_application
from llama_halo.gateway.app import Gateway
from llama_halo.gateway.auth import Keys
from llama_halo.gateway.dispatch.credentials import Credentials
from llama_halo.gateway.dispatch.dispatcher import RequestDispatcher
from llama_halo.gateway.dispatch.queue import AdmissionQueue
from llama_halo.gateway.dispatch.upstream import Upstream
from llama_halo.gateway.http.connections import IDLE_SECONDS, Connections
from llama_halo.gateway.metrics import GatewayMetrics
from llama_halo.gateway.models.leases import Leases
from llama_halo.gateway.models.model import provider_models
from llama_halo.gateway.models.registry import ModelRegistry

log = logging.getLogger(__name__)

# For aborted requests, after the grace period. aiohttp's shutdown may wait twice as long.
SHUTDOWN_SECONDS = 2.0
LINGERING_SECONDS = 2.0
"""How long the rest of a refused body is read, so that the client gets to the answer."""


async def serve(  # noqa: PLR0913  (a process's settings, by keyword)
    config: GatewayConfig,
    api_server: ApiServer,
    *,
    pod: str,
    host: str,
    port: int,
    admin_port: int | None,
    grace_seconds: float,
    keys: Keys,
    credentials: Credentials,
) -> None:
    """Serve until SIGTERM or SIGINT, then let open requests finish for the grace period.

    With an `admin_port`, probes and metrics listen on every address of the pod, whatever `host` is.
    """
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    upstream = Upstream(credentials, config.silence_seconds)
    registry = ModelRegistry(api_server, config.namespace, provider_models(config))
    leases = Leases(api_server, config.namespace, pod, registry.has_lease)
    metrics = GatewayMetrics()
    admission = AdmissionQueue()
    dispatcher = RequestDispatcher(config, registry, leases, upstream, admission, metrics)
    gateway = Gateway(config, registry, dispatcher, admission, keys, metrics)
    connections = Connections()
    # Without handler_cancellation, aiohttp notices a closed connection only at the next write.
    runner = web.AppRunner(
        gateway.application(connections.mark_busy),
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=IDLE_SECONDS,
        shutdown_timeout=SHUTDOWN_SECONDS,
        auto_decompress=False,  # `bodies.read` unpacks, once the key is known
        lingering_time=LINGERING_SECONDS,
    )
    admin = web.AppRunner(
        admin_application(gateway),
        access_log=None,
        keepalive_timeout=IDLE_SECONDS,
        shutdown_timeout=0,
        auto_decompress=False,
        lingering_time=0,
    )
    server: asyncio.Server | None = None
    watching = asyncio.create_task(registry.run())
    saying = asyncio.create_task(leases.run())
    try:
        await runner.setup()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(connections.factory(runner), host, port)
        if admin_port:
            await admin.setup()
            await web.TCPSite(admin, host="0.0.0.0", port=admin_port).start()
        # With a thousand open streams, each full collection paused all of them for 50 ms.
        garbage_collection.reduce()
        # The loop would keep each async generator in a weak set, a dozen for a request, to close
        # them at its end. By then all requests have ended.
        sys.set_asyncgen_hooks(firstiter=None)
        log.info("serving", extra={"port": port, "router": config.router})
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, watching, saying}, return_when=asyncio.FIRST_COMPLETED)
        for task in (watching, saying):
            if task.done():
                task.result()  # neither returns: raise its exception
        await _drain(gateway, server, grace_seconds)
    finally:
        watching.cancel()
        saying.cancel()
        if server:
            server.close()
        await runner.cleanup()
        await admin.cleanup()
        await upstream.close()
        await leases.close()


async def _drain(gateway: Gateway, server: asyncio.Server, grace_seconds: float) -> None:
    """Fail readiness, stop listening, and wait for open requests; abort them at the deadline."""
    gateway.drain()
    log.info("draining", extra={"in_flight": gateway.in_flight})
    await asyncio.sleep(min(LEAVE_SECONDS, grace_seconds))
    server.close()
    try:
        async with asyncio.timeout(grace_seconds - LEAVE_SECONDS):
            await gateway.idle.wait()
    except TimeoutError:
        log.warning(
            "requests aborted at the end of the grace period",
            extra={"in_flight": gateway.in_flight},
        )
        gateway.abort()
        await asyncio.sleep(SHUTDOWN_SECONDS)  # time to send the errors

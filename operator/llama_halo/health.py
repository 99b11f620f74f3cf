"""`/healthz`, `/readyz` and `/metrics` of the operator and the node agent."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

STUCK_SECONDS = 300


async def serve_health(
    port: int,
    *,
    registry: CollectorRegistry,
    stuck_seconds: Callable[[], float],
    not_ready: Callable[[], str],
) -> web.AppRunner:
    """Start the server and return its runner.

    `/healthz` fails when `stuck_seconds` exceeds `STUCK_SECONDS`. `/readyz` fails when `not_ready`
    returns a reason.
    """

    async def healthz(_: web.Request) -> web.Response:
        stuck = stuck_seconds()
        if stuck > STUCK_SECONDS:
            return web.Response(status=500, text=f"stuck for {stuck:.0f} s\n")
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = not_ready()
        return web.Response(status=503 if reason else 200, text=f"{reason or 'ok'}\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    app = web.Application()
    app.add_routes(
        [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner

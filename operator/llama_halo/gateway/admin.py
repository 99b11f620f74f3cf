"""The admin port of a gateway that runs as the sidecar of another engine."""

from __future__ import annotations

import asyncio

from aiohttp import web

from llama_halo.contract.model import DRAINED_PATH
from llama_halo.gateway.app import Gateway

LEAVE_SECONDS = 5.0
"""Time for all nodes to stop sending new connections to a terminating pod."""
QUIET_SECONDS = 1.0
"""Pause before `/drained` checks again: the engine may still be sending a request or answer."""


def admin_application(gateway: Gateway) -> web.Application:
    """Return an application with probes, metrics, and `/drained`.

    `/drained` is the engine's preStop hook: it answers once no request is in flight.
    """

    async def drained(_: web.Request) -> web.Response:
        await asyncio.sleep(LEAVE_SECONDS)
        quiet = False
        while not quiet:
            await gateway.idle.wait()
            await asyncio.sleep(QUIET_SECONDS)
            quiet = gateway.idle.is_set()
        return web.Response(text="drained\n")

    app = web.Application()
    app.add_routes([*gateway.info_routes.admin_routes(), web.get(DRAINED_PATH, drained)])
    return app

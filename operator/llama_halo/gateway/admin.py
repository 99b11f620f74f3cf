"""What a gateway beside another engine shows of itself outside of its pod."""

from __future__ import annotations

import asyncio

from aiohttp import web

from llama_halo.gateway.app import Gateway

LEAVE_SECONDS = 5.0
"""From a pod's end until no node sends new connections to it any more."""
QUIET_SECONDS = 1.0
"""The engine may have a request that is on its way, and the end of one to tell."""


def admin_application(gateway: Gateway) -> web.Application:
    """Return probes, metrics, and `/drained`, which the kubelet asks before the engine is told to
    end."""

    async def drained(_: web.Request) -> web.Response:
        await asyncio.sleep(LEAVE_SECONDS)
        quiet = False
        while not quiet:
            await gateway.idle.wait()
            await asyncio.sleep(QUIET_SECONDS)
            quiet = gateway.idle.is_set()
        return web.Response(text="drained\n")

    app = web.Application()
    app.add_routes([*gateway.info_routes.admin_routes(), web.get("/drained", drained)])
    return app

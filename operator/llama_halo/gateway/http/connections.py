"""Limits the number of clients' connections: a new one takes the place of the longest idle one.

aiohttp closes a connection that sends no whole request head within `IDLE_SECONDS`, which is its
`keepalive_timeout`. A body has a limit of its own, in `bodies`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler

IDLE_SECONDS = 75.0
"""As nginx keeps connections; longer than clients and load balancers do (60 s and less)."""
MAX_CONNECTIONS = 8192
"""Twice the requests that may be in flight. An idle connection takes about 13 KiB."""


class Connections:
    """The open connections of a server."""

    def __init__(self, max_connections: int = MAX_CONNECTIONS) -> None:
        self._max_connections = max_connections
        self._open: set[_Connection] = set()
        self._idle: OrderedDict[_Connection, None] = OrderedDict()
        """Those without a request, the longest idle first."""

    def factory(self, runner: web.AppRunner) -> Callable[[], asyncio.Protocol]:
        """Return the protocol factory for `create_server`; the application has `mark_busy`."""
        server = runner.server
        if server is None:
            raise RuntimeError("the runner is not set up")
        return lambda: _Connection(self, server())

    @web.middleware
    async def mark_busy(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Keep a connection from being closed while its request is handled."""
        transport = request.transport
        connection = transport.get_protocol() if transport else None
        if not isinstance(connection, _Connection):
            return await handler(request)
        self._idle.pop(connection, None)
        try:
            return await handler(request)
        finally:
            if connection in self._open:
                self._idle[connection] = None

    def add(self, connection: _Connection) -> bool:
        """Add a connection; return False if there are too many, all of them busy."""
        if len(self._open) >= self._max_connections:
            if not self._idle:
                return False
            longest_idle, _ = self._idle.popitem(last=False)
            self._open.discard(longest_idle)
            longest_idle.close()
        self._open.add(connection)
        self._idle[connection] = None
        return True

    def remove(self, connection: _Connection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)


class _Connection(asyncio.Protocol):
    """Passes a connection's events to aiohttp's handler, unless there are too many connections."""

    def __init__(self, connections: Connections, handler: asyncio.Protocol) -> None:
        self._connections = connections
        self._handler = handler
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._connections.add(self):
            transport.close()
            return
        self._transport = transport
        self._handler.connection_made(transport)

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)
        if self._transport:
            self._handler.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._transport:
            self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

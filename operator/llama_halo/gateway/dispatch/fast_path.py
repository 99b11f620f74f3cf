"""The fast path of a stream: events that need no conversion go from socket to socket.

Nearly all of a stream is tokens, one event each, and most of their cost in a proxy is parsers,
queues and tasks. A `FastPath` sees the server's bytes before the parser does. When they are whole
events that the client gets unchanged (or with the model's name replaced), and nothing earlier is
still pending, it writes them to the client at once. Everything else takes the slow path: the head,
the end, errors, partial events, a slow client.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import aiohttp

from llama_halo.gateway.http.sse import END

MAX_FORWARD_BYTES = 2**14
_SIZE = re.compile(rb"([0-9a-fA-F]{1,6})\r\n")
"""A chunk must start with its size: a line end before it is one that the parser waits for."""
Passthrough = Callable[[bytes], bytes | None]
"""Converts one event, including its empty line, for the client; None if it depends on others."""


class FastPath:
    """The fast path of one stream, from when both connections are open."""

    __slots__ = ("_passthrough", "heard_at", "is_idle", "write")

    def __init__(self, passthrough: Passthrough) -> None:
        self._passthrough = passthrough
        self.write: Callable[[bytes], bool] | None = None
        """Writes to the client, or returns False if it would wait; set once the response starts."""
        self.is_idle = False
        """Whether the reader waits for data, and everything before was complete events."""
        self.heard_at = 0.0
        """Time of the last forwarded data, by the loop's clock."""

    def open(self, response: aiohttp.ClientResponse) -> None:
        """Intercept the connection of a chunked response, until the next response replaces this."""
        connection = response.connection
        if connection is None or response.headers.get("Transfer-Encoding") != "chunked":
            return
        if connection.transport is not None and connection.protocol is not None:
            connection.transport.set_protocol(_PassthroughProtocol(self, connection.protocol))

    def close(self) -> None:
        """Stop forwarding."""
        self.is_idle, self.write = False, None

    def forward(self, data: bytes) -> bool:
        """Forward the server's data to the client; returns False if it must take the slow path."""
        if not self.is_idle or self.write is None:
            return False
        sent = _passed(data, self._passthrough)
        if sent is None or not self.write(sent):
            return False
        self.heard_at = asyncio.get_running_loop().time()
        return True


class _PassthroughProtocol(asyncio.Protocol):
    """Receives a connection's data before aiohttp's parser of responses."""

    __slots__ = ("_fast_path", "_parser")

    def __init__(self, fast_path: FastPath, parser: asyncio.Protocol) -> None:
        self._fast_path, self._parser = fast_path, parser

    def data_received(self, data: bytes) -> None:
        if not self._fast_path.forward(data):
            self._fast_path.is_idle = False
            self._parser.data_received(data)

    def eof_received(self) -> bool | None:
        return self._parser.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._parser.connection_lost(exc)

    def pause_writing(self) -> None:
        self._parser.pause_writing()

    def resume_writing(self) -> None:
        self._parser.resume_writing()


def _passed(data: bytes, passthrough: Passthrough) -> bytes | None:
    """Return the client's bytes for HTTP/1.1 chunks that hold one event each.

    Returns None for any other data, and for more than `MAX_FORWARD_BYTES`.
    """
    if len(data) > MAX_FORWARD_BYTES:
        return None
    chunks, at = [], 0
    while at < len(data):
        size = _SIZE.match(data, at)
        if size is None:
            return None
        end = size.end() + int(size[1], 16)
        event, after = data[size.end() : end], end + 2
        whole = len(event) >= len(END) and event.find(END) == len(event) - len(END)
        if not whole or data[end:after] != b"\r\n":
            return None
        sent = passthrough(event)
        if sent is None:
            return None
        chunks.append(data[at:after] if sent is event else b"%x\r\n%b\r\n" % (len(sent), sent))
        at = after
    return b"".join(chunks)

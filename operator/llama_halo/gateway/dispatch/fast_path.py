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

MOST_AT_ONCE_BYTES = 2**14
_SIZE = re.compile(rb"([0-9a-fA-F]{1,6})\r\n")
"""Nothing before it, not even the end of a line: the parser would wait for that."""
Passthrough = Callable[[bytes], bytes | None]
"""Returns what a client gets of an event (its bytes, the empty line included), None where that
takes more than the event itself to say."""


class FastPath:
    """The short way of one stream, from when both its ends are there."""

    __slots__ = ("_passthrough", "heard_at", "is_idle", "write")

    def __init__(self, passthrough: Passthrough) -> None:
        self._passthrough = passthrough
        self.write: Callable[[bytes], bool] | None = None
        """Writes to the client at once, or tells that it cannot; there once the head is sent."""
        self.is_idle = False
        """Whether the reader waits, and has passed on all that came, whole events."""
        self.heard_at = 0.0
        """When something came this way last, by the loop's clock."""

    def open(self, response: aiohttp.ClientResponse) -> None:
        """Listen to the connection of an answer that has begun, until another answer does."""
        connection = response.connection
        if connection is None or response.headers.get("Transfer-Encoding") != "chunked":
            return
        if connection.transport is not None and connection.protocol is not None:
            connection.transport.set_protocol(_PassthroughProtocol(self, connection.protocol))

    def close(self) -> None:
        """Send nothing any more."""
        self.is_idle, self.write = False, None

    def forward(self, data: bytes) -> bool:
        """Send what a server sent on its way; false where that is to go the usual one."""
        if not self.is_idle or self.write is None:
            return False
        sent = _passed(data, self._passthrough)
        if sent is None or not self.write(sent):
            return False
        self.heard_at = asyncio.get_running_loop().time()
        return True


class _PassthroughProtocol(asyncio.Protocol):
    """Stands between a connection and the parser of its answers."""

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
    """Return what a client gets of some chunks (as HTTP/1.1 has them), each of which is one event;
    None when they are anything else, or more than is sent in one breath."""
    if len(data) > MOST_AT_ONCE_BYTES:
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

"""Sends a stream to a client, with heartbeats, and with errors in the client's API format."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, suppress

from aiohttp import HttpVersion11, web

from llama_halo.gateway.apis.exchange import ApiExchange, Events
from llama_halo.gateway.dispatch.fast_path import FastPath
from llama_halo.gateway.http.errors import Failure, internal_error, malformed, shutting_down
from llama_halo.gateway.request_record import RequestRecord
from llama_halo.gateway.routing.table import Target

log = logging.getLogger(__name__)

COMMIT_SECONDS = 10.0
"""Longest silence before a heartbeat starts the response; earlier errors get an HTTP status."""
STALLED_SECONDS, MIN_WAIT_SECONDS = 120.0, 0.05
MAX_UNREAD_BYTES = 2**16
"""Buffered bytes of a slow client; above it the fast path leaves events to the slow path."""
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

Opened = AbstractAsyncContextManager[tuple[Target, Events]]


async def send(client: ClientStream, opened: Opened, fast_path: FastPath) -> web.StreamResponse:
    """Send the events to the client as they arrive.

    An error before the first event gets its own HTTP status: it is raised. Once an event or a
    heartbeat has started the response, an error is sent in the stream.
    """
    record, chunks = client.record, _chunks(opened, client.exchange, client.record)
    at_once = client.write_at_once if client.is_chunked else None
    client.watch()
    try:
        async for chunk in chunks:
            record.record_first_byte()
            await client.write(chunk)
            fast_path.write = at_once
        if record.first_byte_seconds is None:
            raise Failure(502, "the model's server closed the stream without an answer")
    except Failure as failure:
        record.failure = failure
        if client.response is None:
            raise
        await client.write(record.api.stream_error(failure, record.request_id))
    except asyncio.CancelledError:
        if not record.aborted or client.response is None:
            raise
        record.failure = shutting_down()
        await client.write(record.api.stream_error(record.failure, record.request_id))
    finally:
        client.end()
        await chunks.aclose()
    assert client.response is not None  # noqa: S101  (a chunk was written)
    await client.response.write_eof()
    return client.response


class ClientStream:
    """The response to one client: the first bytes start it, heartbeats keep it alive."""

    def __init__(
        self,
        request: web.Request,
        exchange: ApiExchange,
        record: RequestRecord,
        ping_seconds: float,
    ) -> None:
        self.response: web.StreamResponse | None = None
        self.exchange, self.record = exchange, record
        self._request = request
        self._ping_seconds = ping_seconds
        self._written_at = time.monotonic()
        self._writing = False
        self._beginning = asyncio.Lock()
        self._sender = asyncio.current_task()
        self._watch: asyncio.TimerHandle | None = None
        self._pinging: asyncio.Task[None] | None = None

    @property
    def is_chunked(self) -> bool:
        return self._request.version >= HttpVersion11

    def write_at_once(self, data: bytes) -> bool:
        """Write data that is already chunked; returns False if the write would have to wait."""
        transport = self._request.transport
        if self._writing or transport is None or transport.is_closing():
            return False
        if transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            return False
        self._written_at = time.monotonic()
        transport.write(data)
        return True

    async def write(self, data: bytes) -> None:
        """Write to the client; starts the response if needed. `watch` ends a write that stalls."""
        if self.response and self.is_chunked and data:
            # Without the copies and checks of aiohttp: a burst of events is many small writes.
            written = self.write_at_once(b"%x\r\n%b\r\n" % (len(data), data))
            if written:
                return
        response = self.response or await self._begin()
        self._written_at = time.monotonic()
        self._writing = True
        await response.write(data)
        self._writing = False

    def end(self) -> None:
        if self._watch:
            self._watch.cancel()
        if self._pinging:
            self._pinging.cancel()

    def watch(self) -> None:
        """Send heartbeats from now on while the stream is silent, and end a write that stalls.

        It is a timer because a timer costs less than a task, and thousands of streams have one.
        """
        quiet = time.monotonic() - self._written_at
        if self._writing and quiet > STALLED_SECONDS and self._sender:
            if self._request.transport:
                self._request.transport.abort()  # this also drops the unread data
            self._sender.cancel()
            return
        if not self._writing and quiet >= self._heartbeat_seconds:
            self._written_at, quiet = time.monotonic(), 0.0
            self._pinging = asyncio.create_task(self._ping())
        due = next_check_seconds(quiet, self._heartbeat_seconds, writing=self._writing)
        self._watch = asyncio.get_running_loop().call_later(due, self.watch)

    @property
    def _heartbeat_seconds(self) -> float:
        """Silence after which the client gets a heartbeat."""
        if not self._ping_seconds:
            return math.inf
        return self._ping_seconds if self.response else min(self._ping_seconds, COMMIT_SECONDS)

    async def _ping(self) -> None:
        with suppress(ConnectionError):
            response = self.response or await self._begin()
            await response.write(self.exchange.heartbeat)

    async def _begin(self) -> web.StreamResponse:
        async with self._beginning:
            if self.response is None:
                kind, record = self.exchange.content_type, self.record
                headers = {"Content-Type": kind, **_HEADERS, **record.headers()}
                response = web.StreamResponse(headers=headers)
                await response.prepare(self._request)
                self.response = response
            return self.response


def next_check_seconds(quiet: float, patience: float, *, writing: bool) -> float:
    """Return the delay until `watch` checks a stream again.

    `quiet` is the silence so far, `patience` the silence before a heartbeat.
    """
    stalled = STALLED_SECONDS - (quiet if writing else 0.0)
    return max(min(stalled, patience - (0.0 if writing else quiet)), MIN_WAIT_SECONDS)


async def _chunks(
    opened: Opened, exchange: ApiExchange, record: RequestRecord
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes for the client; errors become `Failure`: the status may already be sent."""
    try:
        async with opened as (record.target, events):
            try:
                async for chunk in exchange.stream(record.count_tokens(events)):
                    yield chunk
            except RecursionError as error:
                raise malformed("it is nested too deeply") from error
    except Failure:
        raise
    except RecursionError as error:
        raise Failure(400, "the request is nested too deeply") from error
    except Exception as error:
        raise internal_error(error, record.request_id) from error

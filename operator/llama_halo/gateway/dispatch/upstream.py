"""Sends requests to models' servers: connections and timeouts; errors become `Failure`."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import aiohttp

from llama_halo.gateway.apis.upstream_request import UpstreamRequest
from llama_halo.gateway.dispatch.credentials import Credentials
from llama_halo.gateway.dispatch.encode import EncodedRequest, encode_request
from llama_halo.gateway.dispatch.fast_path import FastPath
from llama_halo.gateway.http.answers import HeldAnswer, parse
from llama_halo.gateway.http.errors import (
    CONNECT_RETRY_SECONDS,
    LOST,
    PROVIDER,
    Failure,
    ended_early,
    from_provider,
    from_upstream,
    malformed,
    unreachable,
)
from llama_halo.gateway.http.json_codec import loads
from llama_halo.gateway.http.sse import END, SseEvent
from llama_halo.gateway.models.model import Model, urls

CONNECT_SECONDS = 2
REFUSED_PATIENCE_SECONDS = 3
REFUSED_PAUSE_SECONDS = 0.1
# llama-server sends nothing before the first token, and a long prompt takes minutes.
FIRST_BYTE_SECONDS = 1800
# llama-server closes idle connections after 5 s; a request sent at that moment is lost.
KEEP_ALIVE_SECONDS = 3
PIECE_BYTES = 4096
CLOSED_SECONDS = 0.25
"""A reused connection fails within this time if the server had closed it before the request."""
ERROR_SECONDS = 10
MAX_ERROR_BYTES = 2**16
MAX_ANSWER_BYTES = 64 * 2**20
MAX_ANSWER_VALUES = 4_000_000
"""Of an answer that is read whole: a thousand vectors of 4,000 numbers."""
MAX_RETRY_SECONDS = 300
_KEEP_ALIVE = (
    (socket.TCP_KEEPIDLE, 15),
    (socket.TCP_KEEPINTVL, 5),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_USER_TIMEOUT, 30_000),
)


@dataclass(frozen=True)
class UpstreamAnswer:
    """A complete answer of a server."""

    content_type: str
    data: bytes

    def value(self) -> dict[str, Any]:
        """Return the answer's JSON object; raises `Failure` (502) if it is not one."""
        try:
            value = parse(self.data, max_values=MAX_ANSWER_VALUES)
        except (ValueError, RecursionError) as error:
            raise malformed("it is not JSON") from error
        if not isinstance(value, dict):
            raise malformed("it is no JSON object")
        return value


class Upstream:
    """The connection pool to all models' servers."""

    def __init__(self, credentials: Credentials, silence_seconds: float) -> None:
        self._credentials = credentials
        self._silence_seconds = silence_seconds
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS, socket_factory=_socket
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            # A few bytes may unpack to gigabytes: an answer that is compressed is not read.
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
            read_bufsize=2**16,
        )

    async def close(self) -> None:
        await self._session.close()

    @asynccontextmanager
    async def stream(
        self, model: Model, server: str, sent: EncodedRequest, fast_path: FastPath
    ) -> AsyncIterator[AsyncIterator[SseEvent]]:
        """Post a generation request; yield its events in the format of llama-server or of the
        client's own API.

        Events that take the fast path are not among them. Leaving the context early closes the
        connection, on which llama-server frees the slot.
        """
        response = await self._open(model, server, sent)
        try:
            if model.provider is None:
                fast_path.open(response)
                yield sent.read(_chunks(response, self._silence_seconds, fast_path))
            else:
                chunks = _chunks(response, self._silence_seconds, fast_path)
                yield sent.read(_as_stream(chunks, sent.whole, model.provider.name))
        finally:
            fast_path.close()
            response.close()

    async def ask(self, model: Model, server: str, sent: EncodedRequest) -> UpstreamAnswer:
        """Post a request, and return its complete answer."""
        response = await self._open(model, server, sent)
        async with response:
            try:
                async with asyncio.timeout(FIRST_BYTE_SECONDS):
                    data = await _whole(response)
            except TimeoutError as error:
                raise _silent(FIRST_BYTE_SECONDS) from error
            except aiohttp.ClientError as error:
                raise ended_early() from error
            return UpstreamAnswer(response.content_type, data)

    def encode(
        self, model: Model, upstream_request: UpstreamRequest, *, strict: bool = False
    ) -> EncodedRequest:
        """Return a request in the protocol of the model's server, with the provider's key."""
        key = self._credentials.key_of(model.provider) if model.provider else ""
        return encode_request(model, upstream_request, key, strict=strict)

    async def _open(
        self, model: Model, server: str, sent: EncodedRequest
    ) -> aiohttp.ClientResponse:
        """Post the request, and return the response if its status is below 300.

        A refused connection is retried for a few seconds, on every replica in turn: a server that
        has just started needs a moment. A request that was sent is not sent again, because it may
        be what crashes the server. The exception is a reused connection, which the server may close
        at any time.
        """
        deadline = time.monotonic() + REFUSED_PATIENCE_SECONDS
        everywhere = urls(model, server)
        for number, url in enumerate(cycle(everywhere)):
            try:
                response = await self._post(model, url.rstrip("/") + sent.path, sent)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                if number >= len(everywhere) and time.monotonic() > deadline:
                    raise _unreachable(model, error) from error
                await asyncio.sleep(REFUSED_PAUSE_SECONDS)
            except aiohttp.ClientConnectionError as error:
                raise lost(model) from error
            except TimeoutError as error:
                raise Failure(504, f"model {model.name} did not begin to answer in time") from error
            except (aiohttp.ClientError, ValueError) as error:
                raise malformed(type(error).__name__) from error
            else:
                if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                    response.close()
                    raise malformed("it is compressed, and the gateway asked for no compression")
                if response.status < 300:
                    return response
                raise await _failure(model, response)
        raise AssertionError  # unreachable: `cycle` is endless

    async def _post(self, model: Model, url: str, sent: EncodedRequest) -> aiohttp.ClientResponse:
        """Post, and retry once if a reused connection is lost at once, but not to a provider."""
        connection, started = _ConnectionUse(), time.monotonic()
        _CONNECTION_USE.set(connection)
        try:
            return await self._post_once(url, sent)
        except aiohttp.ClientConnectorError:
            raise
        except aiohttp.ClientConnectionError:
            at_once = time.monotonic() - started < CLOSED_SECONDS
            if not (connection.was_kept and at_once) or model.provider:
                raise
        return await self._post_once(url, sent)

    async def _post_once(self, url: str, sent: EncodedRequest) -> aiohttp.ClientResponse:
        payload, headers = _payload(sent), dict(sent.headers)
        if isinstance(payload, bytes):
            headers["Content-Type"] = "application/json"
        async with asyncio.timeout(FIRST_BYTE_SECONDS):
            return await self._session.post(
                url,
                data=payload,
                headers=headers,
                allow_redirects=False,  # only servers that the resources name may answer
            )


async def _as_stream(
    chunks: AsyncIterator[bytes],
    whole: Callable[[dict[str, Any]], Iterable[SseEvent]] | None,
    provider: str,
) -> AsyncIterator[bytes]:
    """Yield a provider's stream; an answer in one piece becomes the stream that it would have been.

    No stream of events begins with a bracket, whatever the content type says. Raises `Failure` for
    an error that came with the status of a success.
    """
    start = b""
    async for chunk in chunks:
        start += chunk
        if start.strip():
            break
    if whole is None or not start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        yield start
        async for chunk in chunks:
            yield chunk
        return
    data = bytearray(start)
    with HeldAnswer() as held:
        async for chunk in chunks:
            data += chunk
            held.resize(len(data))
            if len(data) > MAX_ANSWER_BYTES:
                raise malformed(f"it has more than {MAX_ANSWER_BYTES // 2**20} MiB")
    try:
        value = parse(bytes(data), max_values=MAX_ANSWER_VALUES)
    except (ValueError, RecursionError) as error:
        raise malformed("it is not JSON") from error
    has_answer = isinstance(value, dict) and any(
        isinstance(value.get(name), list) and value[name] for name in ("choices", "content")
    )
    if not has_answer or value.get("error"):
        raise from_provider(provider, 200, value)
    for event in whole(value):
        yield event.encoded


@dataclass
class _ConnectionUse:
    """The connection that a request used."""

    was_kept: bool = True
    """Whether the connection was a reused one: no socket was opened for the request."""


_CONNECTION_USE: ContextVar[_ConnectionUse] = ContextVar("connection_use")


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket that detects within half a minute that its peer is gone.

    A node that loses power sends nothing, and the answer to a long prompt may take minutes.
    """
    _CONNECTION_USE.get().was_kept = False
    family, kind, protocol, _, _ = address
    connection = socket.socket(family=family, type=kind, proto=protocol)
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    return connection


async def _chunks(
    response: aiohttp.ClientResponse, silence_seconds: float, fast_path: FastPath
) -> AsyncIterator[bytes]:
    """Yield the answer's bytes as they arrive.

    A broken connection ends the stream; its reader notices that the last event is missing. Raises
    `Failure` (504) after `silence_seconds` without data.
    """
    loop = asyncio.get_running_loop()
    heard_at, silent, chunk = loop.time(), False, b""
    silence_timer: asyncio.TimerHandle

    def check_silence() -> None:
        nonlocal silent, silence_timer
        due = max(heard_at, fast_path.heard_at) + silence_seconds
        silent = loop.time() >= due
        if silent:
            response.close()
        else:
            silence_timer = loop.call_at(due, check_silence)

    silence_timer = loop.call_later(silence_seconds, check_silence)
    try:
        while True:
            fast_path.is_idle = chunk.endswith(END)
            chunk = await response.content.readany()
            fast_path.is_idle, heard_at = False, loop.time()
            if not chunk:
                break
            for start in range(0, len(chunk), PIECE_BYTES):
                if start:
                    await asyncio.sleep(0)  # let other tasks run in a burst of events
                yield chunk[start : start + PIECE_BYTES]
                heard_at = loop.time()  # time of a slow client does not count as silence
    except aiohttp.ClientError:
        if silent:
            raise _silent(silence_seconds) from None
        return
    finally:
        fast_path.is_idle = False
        silence_timer.cancel()
    if silent:
        raise _silent(silence_seconds)


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """Return a complete answer; raises `Failure` (502) for more than `MAX_ANSWER_BYTES`."""
    data = bytearray()
    with HeldAnswer() as held:
        async for piece in response.content.iter_any():
            data += piece
            held.resize(len(data))
            if len(data) > MAX_ANSWER_BYTES:
                raise malformed(f"it has more than {MAX_ANSWER_BYTES // 2**20} MiB")
        return bytes(data)


def _silent(seconds: float) -> Failure:
    return Failure(504, f"the model's server sent no data for {seconds:g} s")


def _payload(sent: EncodedRequest) -> bytes | aiohttp.FormData:
    if not sent.form:
        return sent.json
    form = aiohttp.FormData(default_to_multipart=True)  # also without a file
    for part in sent.form:
        if part.filename is None:
            form.add_field(part.name, part.data.decode(errors="replace"))
        else:
            kind = part.content_type
            form.add_field(part.name, part.data, filename=part.filename, content_type=kind)
    return form


def lost(model: Model) -> Failure:
    """Return the failure of a server that took a request and closed the connection."""
    if model.provider:
        message = f"provider {model.provider.name} closed the connection before it answered"
        return Failure(502, message, code=PROVIDER)
    message = f"the server of model {model.name} closed the connection before it answered"
    return Failure(503, message, code=LOST, retry_after_seconds=CONNECT_RETRY_SECONDS)


def _unreachable(model: Model, error: Exception) -> Failure:
    if model.provider is None:
        return unreachable(model.name)
    name = model.provider.name
    message = f"provider {name} cannot be reached ({type(error).__name__})"
    return Failure(503, message, code=PROVIDER, retry_after_seconds=CONNECT_RETRY_SECONDS)


async def _failure(model: Model, response: aiohttp.ClientResponse) -> Failure:
    """Return the failure of an error response, whose body may be cut off or too long."""
    text = b""
    async with response:
        with suppress(aiohttp.ClientError, TimeoutError):
            async with asyncio.timeout(ERROR_SECONDS):
                async for piece in response.content.iter_any():
                    text += piece
                    if len(text) > MAX_ERROR_BYTES:
                        break
    try:
        body = loads(text)
    except (ValueError, RecursionError):
        body = {"message": text[:300].decode(errors="replace")}
    if model.provider is None:
        return from_upstream(response.status, body if isinstance(body, dict) else {})
    again = response.headers.get("Retry-After", "")
    return from_provider(
        model.provider.name,
        response.status,
        body,
        min(int(again), MAX_RETRY_SECONDS) if again.isdecimal() else None,
    )

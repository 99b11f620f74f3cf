"""The fast path of a stream: whatever a server sends, and however it is cut, a client gets the same
events in the same order as by the usual way."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.gateway.apis.client_api import OPENAI
from llama_halo.gateway.apis.exchange import ApiExchange
from llama_halo.gateway.dispatch.client_stream import ClientStream, next_check_seconds, send
from llama_halo.gateway.dispatch.credentials import Credentials
from llama_halo.gateway.dispatch.encode import EncodedRequest
from llama_halo.gateway.dispatch.fast_path import FastPath
from llama_halo.gateway.dispatch.fast_path import _passed as passed
from llama_halo.gateway.dispatch.fast_path import _PassthroughProtocol as Tap
from llama_halo.gateway.dispatch.upstream import Upstream
from llama_halo.gateway.dispatch.upstream import _chunks as chunks_of
from llama_halo.gateway.http.sse import SseEvent, events
from llama_halo.gateway.models.model import Model
from llama_halo.gateway.request_record import RequestRecord
from llama_halo.gateway.routing.table import Target
from tests.support.virtual_time import in_virtual_time

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
TURNS = 20
"""Of the loop, in which a client reads what was sent to it on loopback."""
PLAIN, OTHER = b"data: token %d\n\n", b"data: other %d\n\n"


def passthrough(event: bytes) -> bytes | None:
    return event if event.startswith(b"data: token") else None


def renames(event: bytes) -> bytes | None:
    return event.replace(b"token", b"a token") if event.startswith(b"data: token") else None


def framed(*events: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)


def unframed(data: bytes) -> bytes:
    """Return what is in chunks, as strict as any client may be."""
    value = b""
    while data:
        head = re.match(rb"([0-9a-f]+)\r\n", data)
        assert head, data
        end = head.end() + int(head[1], 16)
        assert data[end : end + 2] == b"\r\n", data
        value, data = value + data[head.end() : end], data[end + 2 :]
    return value


PASSED = {
    "one event": (framed(b"data: token 1\n\n"), True),
    "two events": (framed(b"data: token 1\n\n", b"data: token 2\n\n"), True),
    "two events in one chunk": (framed(b"data: token 1\n\ndata: token 2\n\n"), False),
    "an event that is mended": (framed(b"data: other\n\n"), False),
    "one of each": (framed(b"data: token 1\n\n", b"data: other\n\n"), False),
    "a piece of an event": (framed(b"data: tok"), False),
    "a piece of a chunk": (framed(b"data: token 1\n\n")[:-3], False),
    "a chunk without its end": (framed(b"data: token 1\n\n")[:-2], False),
    "a chunk and a piece": (framed(b"data: token 1\n\n") + b"f\r\nda", False),
    "the end": (LAST, False),
    "an event and the end": (framed(b"data: token 1\n\n") + LAST, False),
    "no chunk": (b"data: token 1\n\n", False),
    "a chunk of one letter": (b"1\r\nx\r\n", False),
    "a size that is none": (b"-5\r\ndata: token 1\n\n\r\n", False),
    "a size that lies": (b"20\r\ndata: token 1\n\n\r\n", False),
    "the rest of an end and a chunk": (b"\n" + framed(b"data: token 1\n\n"), False),
    "a size with a sign": (framed(b"data: token 1\n\n").replace(b"f", b"+f"), False),
    "more than is sent in one breath": (framed(PLAIN % 1) * 1200, False),
    "nothing of use": (b"\r\n\r\n", False),
}


@pytest.mark.parametrize("case", PASSED)
def test_only_whole_events_that_need_no_mending_take_the_fast_path(case: str) -> None:
    data, goes = PASSED[case]
    assert passed(data, passthrough) == (data if goes else None)


def test_what_is_changed_gets_a_size_of_its_own() -> None:
    chunks = passed(framed(b"data: token 1\n\n", b"data: token 2\n\n"), renames)
    assert chunks == framed(b"data: a token 1\n\n", b"data: a token 2\n\n")


@given(st.lists(st.booleans(), max_size=5), st.binary(max_size=9))
def test_nothing_is_lost_or_added(kinds: list[bool], more: bytes) -> None:
    sent = framed(*((PLAIN if kind else OTHER) % n for n, kind in enumerate(kinds))) + more
    chunks = passed(sent, passthrough)
    assert chunks is None or unframed(chunks) == unframed(sent)


async def turns(count: int) -> None:
    """Let everything else on the loop have its turn, so that what was sent is read."""
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def serving(pieces: list[bytes], pause: int) -> AsyncIterator[str]:
    """Serve an answer in pieces, with some turns of the loop after each; connections are kept."""

    answered = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(HEAD)
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await turns(pause)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
        finally:
            answered.set()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await answered.wait()


class Client:
    """Notes what comes by either way, in order; it reads late, or takes nothing at once."""

    def __init__(self, pause: int = 0, *, takes: bool = True) -> None:
        self.got, self.at_once = b"", 0
        self._pause, self._takes = pause, takes

    def write_at_once(self, data: bytes) -> bool:
        if self._takes:
            self.got += unframed(data)
            self.at_once += 1
        return self._takes

    async def read(self, url: str, fast_path: FastPath) -> None:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            fast_path.open(response)
            async for event in events(chunks_of(response, 5, fast_path)):
                fast_path.write = self.write_at_once
                self.got += event.encoded
                await turns(self._pause)
            fast_path.close()


STREAM = [OTHER % 0, *(PLAIN % n for n in range(1, 40)), OTHER % 40, PLAIN % 41, OTHER % 42]
WHOLE = len(framed(STREAM[1]))
ONE_BY_ONE = [*(framed(chunk) for chunk in STREAM), LAST]


@pytest.mark.parametrize("size", [1, 3, 20, WHOLE, 2 * WHOLE, 5000], ids=lambda size: f"by {size}")
@pytest.mark.parametrize("pauses", [(0, 0), (TURNS, 0), (TURNS, 3 * TURNS)], ids=str)
async def test_a_client_gets_everything_in_order_however_it_is_cut(
    size: int, pauses: tuple[int, int]
) -> None:
    sent, client = b"".join(ONE_BY_ONE), Client(pauses[1])
    pieces = [sent[start : start + size] for start in range(0, len(sent), size)]
    async with serving(pieces, pauses[0]) as url:
        await client.read(url, FastPath(passthrough))
    assert client.got == b"".join(STREAM)


@pytest.mark.parametrize("takes", [True, False], ids=["takes it", "takes nothing at once"])
async def test_tokens_that_come_one_by_one_take_the_fast_path_where_the_client(takes: bool) -> None:
    client = Client(takes=takes)
    async with serving(ONE_BY_ONE, TURNS) as url:
        await client.read(url, FastPath(passthrough))
    assert client.got == b"".join(STREAM)
    assert (client.at_once > 20) == takes


async def test_it_may_be_cut_anywhere_before_what_comes_whole() -> None:
    first, rest = b"".join(ONE_BY_ONE[:2]), ONE_BY_ONE[2:6]
    for cut in range(len(ONE_BY_ONE[0]), len(first) + 1):
        client = Client()
        async with serving([first[:cut], first[cut:] + rest[0], *rest[1:], LAST], TURNS) as url:
            await client.read(url, FastPath(passthrough))
        assert client.got == b"".join(STREAM[:6]), cut


class Response:
    """A server's answer in memory; `content` gives it in one piece."""

    def __init__(self, data: bytes) -> None:
        self.content, self._pieces = self, [data]

    async def readany(self) -> bytes:
        return self._pieces.pop() if self._pieces else b""

    def close(self) -> None:
        raise AssertionError("the server counts as silent")


@in_virtual_time
async def test_a_client_that_reads_slowly_is_no_silence_of_the_servers() -> None:
    large = [b"data: other " + b"x" * 4000 + b"%d\n\n" % n for n in range(40)]
    response: Any = Response(b"".join(large))
    got = b""
    async for event in events(chunks_of(response, 40, FastPath(passthrough))):
        got += event.encoded
        await asyncio.sleep(15)
    assert got == b"".join(large)


async def test_an_event_in_two_chunks_stays_one() -> None:
    """The second chunk alone would be an event that needs no mending."""
    sent, client = [OTHER % 0, b"event: x\n", PLAIN % 1, PLAIN % 2], Client()
    async with serving([*map(framed, sent), LAST], TURNS) as url:
        await client.read(url, FastPath(passthrough))
    assert client.got == b"".join(sent)


async def test_what_comes_after_something_that_was_not_read_yet_waits_its_turn() -> None:
    fast_path, parser, client = FastPath(passthrough), Parser(), Client()
    fast_path.write, fast_path.is_idle = client.write_at_once, True
    tap = Tap(fast_path, parser)
    for chunk in (PLAIN % 1, OTHER % 2, PLAIN % 3):
        tap.data_received(framed(chunk))
    assert client.got == PLAIN % 1
    assert parser.got == framed(OTHER % 2, PLAIN % 3)


class Parser(asyncio.Protocol):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.got = b""

    def data_received(self, data: bytes) -> None:
        self.got += data


CHECKS = {
    "a server that is silent": ((3, 15, False), 12),
    "a write that is stuck": ((20, 15, True), 15),
    "a write that is stuck for long": ((119, 15, True), 1),
    "a client that is never told, and waits": ((500, math.inf, False), 120),
    "a client that is never told, and takes nothing": ((100, math.inf, True), 20),
    "too late already": ((20, 15, False), 0.05),
}


@pytest.mark.parametrize("case", CHECKS)
def test_a_stream_is_looked_at_again_in_time(case: str) -> None:
    (quiet, patience, writing), expected = CHECKS[case]
    assert next_check_seconds(quiet, patience, writing=writing) == expected


class CountingStream(ClientStream):
    """Counts what went the fast path."""

    at_once = 0

    def write_at_once(self, data: bytes) -> bool:
        took = super().write_at_once(data)
        type(self).at_once += took
        return took


async def through(url: str) -> tuple[list[bytes], int]:
    """Return what clients get, one after the other, of a server that is asked by the gateway's own
    parts, and how many events went the fast path."""
    upstream = Upstream(Credentials(None), silence_seconds=5)
    CountingStream.at_once = 0

    async def as_it_is(value: AsyncIterator[SseEvent]) -> AsyncIterator[bytes]:
        async for event in value:
            yield event.encoded

    async def nothing(_: object) -> dict[str, object]:
        return {}

    async def handle(request: web.Request) -> web.StreamResponse:
        built = ApiExchange(
            "/", {}, True, as_it_is, nothing, b": ping\n\n", passthrough=passthrough
        )
        fast_path, model = FastPath(passthrough), Model("m", url, True, "Serving")

        @asynccontextmanager
        async def opened() -> AsyncIterator[tuple[Target, AsyncIterator[SseEvent]]]:
            async with upstream.stream(model, url, EncodedRequest("/"), fast_path) as value:
                yield Target("m", "m", "default"), value

        return await send(
            CountingStream(request, built, RequestRecord(OPENAI), 5), opened(), fast_path
        )

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        async with aiohttp.ClientSession() as session:
            got = []
            for _ in range(3):
                async with session.get(f"http://{host}:{port}/") as answer:
                    got.append(await answer.read())
            return got, CountingStream.at_once
    finally:
        await runner.cleanup()
        await upstream.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_nearly_all_goes_the_short_way_through_the_gateways_own_parts(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """On kept connections, one answer after the other."""

    async def asked() -> tuple[list[bytes], int]:
        async with serving(ONE_BY_ONE, TURNS) as url:
            return await through(url)

    with asyncio.Runner(loop_factory=loop) as runner:
        got, at_once = runner.run(asked())
    assert got == [b"".join(STREAM)] * 3
    assert at_once > 3 * 20

"""The number of clients' connections, and which of them makes room for a new one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from aiohttp import web

from llama_halo.gateway.http.connections import Connections

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Server:
    """A server whose requests last until `finish` is set."""

    def __init__(self) -> None:
        self.port = 0
        self.handled = 0
        self.finish = asyncio.Event()
        self.started = asyncio.Condition()

    async def connect(self, stack: AsyncExitStack, data: bytes = b"") -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        stack.callback(writer.close)
        writer.write(data)
        await writer.drain()
        return reader, writer

    async def handle(self, _: web.Request) -> web.Response:
        async with self.started:
            self.handled += 1
            self.started.notify_all()
        await self.finish.wait()
        return web.Response(text="done")

    async def wait_for(self, requests: int) -> None:
        async with self.started:
            await self.started.wait_for(lambda: self.handled >= requests)


@asynccontextmanager
async def serving(
    max_connections: int, keepalive_seconds: float = 60
) -> AsyncIterator[tuple[Server, AsyncExitStack]]:
    connections = Connections(max_connections)
    subject = Server()
    app = web.Application(middlewares=[connections.mark_busy])
    app.router.add_get("/", subject.handle)
    runner = web.AppRunner(app, keepalive_timeout=keepalive_seconds, shutdown_timeout=0)
    await runner.setup()
    listener = await asyncio.get_running_loop().create_server(
        connections.factory(runner), "127.0.0.1", 0
    )
    subject.port = listener.sockets[0].getsockname()[1]
    try:
        async with AsyncExitStack() as stack:
            yield subject, stack
    finally:
        listener.close()
        await runner.cleanup()


async def assert_closed(client: Client) -> None:
    with suppress(ConnectionError):
        assert await client[0].read() == b""


async def assert_served(client: Client, data: bytes = GET) -> None:
    client[1].write(data)
    head = await client[0].readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert await client[0].readexactly(4) == b"done"


@pytest.mark.parametrize("sent", [b"", GET[:20]], ids=["silent", "half a head"])
async def test_the_longest_idle_connection_makes_room(sent: bytes) -> None:
    async with serving(max_connections=2) as (server, stack):
        first = await server.connect(stack, sent)
        second = await server.connect(stack, sent)
        third = await server.connect(stack, GET)
        await server.wait_for(1)
        await assert_closed(first)
        server.finish.set()
        await assert_served(third, b"")
        await assert_served(second, GET.removeprefix(sent))


async def test_a_busy_connection_is_not_closed_for_a_new_one() -> None:
    async with serving(max_connections=2) as (server, stack):
        busy = [await server.connect(stack, GET) for _ in range(2)]
        await server.wait_for(2)
        await assert_closed(await server.connect(stack, GET))
        server.finish.set()
        for client in busy:
            await assert_served(client, b"")
        await assert_served(await server.connect(stack))


async def test_a_kept_connection_serves_again_and_counts_once() -> None:
    async with serving(max_connections=2) as (server, stack):
        server.finish.set()
        kept = await server.connect(stack)
        for _ in range(5):
            await assert_served(kept)
        other = await server.connect(stack)
        await assert_served(kept)
        await assert_served(await server.connect(stack))
        await assert_closed(other)
        await assert_served(kept)


@pytest.mark.parametrize("sent", [b"", GET[:20]], ids=["silent", "half a head"])
async def test_a_connection_without_a_request_is_closed_after_a_time(sent: bytes) -> None:
    async with serving(max_connections=2, keepalive_seconds=0.05) as (server, stack):
        await assert_closed(await server.connect(stack, sent))

"""What a gateway says on a Lease, and when; what is said goes nowhere here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from llama_halo.api_server import ApiServer
from llama_halo.gateway.models.leases import TICK_SECONDS, Leases
from tests.support.virtual_time import in_virtual_time

Json = dict[str, Any]


class LeaseServer(Leases):
    """Leases whose words are kept, and arrive when they may."""

    def __init__(self) -> None:
        clock = asyncio.get_running_loop().time
        super().__init__(ApiServer(), "ns", "pod", lambda name: name == "calm", clock)
        self._written = asyncio.Queue[str | None]()
        self.open = asyncio.Event()
        self.open.set()

    async def _patch(self, name: str, text: str | None) -> Json:
        assert name == "calm"
        self._written.put_nowait(text)
        await self.open.wait()
        return {"metadata": {"annotations": {"llama-halo.dev/phase": "Loaded"}}}

    async def next(self, within_seconds: float = 5.0) -> str | None:
        """Return the next word."""
        async with asyncio.timeout(within_seconds):
            return await self._written.get()


@asynccontextmanager
async def running() -> AsyncIterator[LeaseServer]:
    lease_server = LeaseServer()
    task = asyncio.create_task(lease_server.run())
    try:
        yield lease_server
    finally:
        task.cancel()


@in_virtual_time
async def test_the_first_request_is_told_of_beside_it_and_the_last_one_too() -> None:
    async with running() as lease_server:
        with lease_server.request("calm"), lease_server.request("other"):
            assert await lease_server.next() == "1/1"
        assert await lease_server.next() == "2/0"


@in_virtual_time
async def test_one_that_comes_while_it_is_said_that_there_is_none_is_told_of_right_after() -> None:
    async with running() as lease_server:
        with lease_server.request("calm"):
            assert await lease_server.next() == "1/1"
        lease_server.open.clear()
        assert await lease_server.next() == "2/0"
        with lease_server.request("calm"):
            await asyncio.sleep(0.05)
            lease_server.open.set()
            # Sooner than the next look, which the operator would not wait for.
            assert await lease_server.next(within_seconds=TICK_SECONDS - 0.1) == "3/1"

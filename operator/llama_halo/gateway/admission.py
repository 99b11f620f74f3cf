"""How many requests are at a model's servers at once, and who is next.

llama-server queues without limit and without order. Here as many are let in as it has slots; the
others wait in a bounded queue in which sessions take turns, so that one that asks for much does
not shut out the others.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from llama_halo.gateway.failures import Failure
from llama_halo.gateway.models import Model

MOST_WAITING = 64
"""Requests for one model."""
FULL_RETRY_SECONDS = 5


@dataclass
class _Door:
    """One model's: who is in, and who waits, by session."""

    limit: int = 1
    inside: int = 0
    waiting: OrderedDict[str, deque[asyncio.Future[None]]] = field(default_factory=OrderedDict)

    @property
    def queued(self) -> int:
        return sum(len(each) for each in self.waiting.values())

    def let_in(self) -> None:
        """Let in who is next, as many as there is room for."""
        while self.waiting and self.inside < self.limit:
            session, line = next(iter(self.waiting.items()))
            turn = line.popleft()
            if line:
                self.waiting.move_to_end(session)
            else:
                del self.waiting[session]
            if not turn.done():
                self.inside += 1
                turn.set_result(None)

    def leave_line(self, session: str, turn: asyncio.Future[None]) -> None:
        """Take back a turn that is no longer wanted."""
        if turn.done() and not turn.cancelled():
            self.inside -= 1  # it had just been let in
            self.let_in()
        line = self.waiting.get(session)
        if line and turn in line:
            line.remove(turn)
            if not line:
                del self.waiting[session]


class Admission:
    """The doors of all models."""

    def __init__(self) -> None:
        self._doors: dict[str, _Door] = {}

    @asynccontextmanager
    async def slot(self, model: Model, session: str) -> AsyncIterator[None]:
        """Wait for a turn and hold it; raises `Failure` when too many wait already."""
        door = self._doors.setdefault(model.name, _Door())
        door.limit = model.parallel * max(len(model.serving), 1)
        await self._enter(door, model, session)
        try:
            yield
        finally:
            door.inside -= 1
            door.let_in()

    def waiting(self, name: str) -> int:
        """Return how many requests wait for a model."""
        door = self._doors.get(name)
        return door.queued if door else 0

    def inside(self, name: str) -> int:
        """Return how many requests a model works on."""
        door = self._doors.get(name)
        return door.inside if door else 0

    async def _enter(self, door: _Door, model: Model, session: str) -> None:
        if door.inside < door.limit and not door.waiting:
            door.inside += 1
            return
        if door.queued >= MOST_WAITING:
            raise Failure(
                429,
                f"model {model.name} works on {door.inside} requests, and {door.queued} wait:"
                " try again later",
                code="queue_full",
                retry_after_seconds=FULL_RETRY_SECONDS,
            )
        turn = asyncio.get_running_loop().create_future()
        door.waiting.setdefault(session, deque()).append(turn)
        door.let_in()
        try:
            await turn
        except asyncio.CancelledError:
            door.leave_line(session, turn)
            raise

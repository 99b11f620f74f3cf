"""How many requests are at a model's servers at once, and who is next.

llama-server queues without limit and without order. Here each server gets as many as it has slots;
the others wait in a bounded queue in which sessions take turns, so that one that asks for much does
not shut out the others.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from llama_halo.gateway.http.errors import QUEUE_FULL, Failure
from llama_halo.gateway.models.model import Model, servers

MOST_WAITING = 64
"""Requests for one model, for its slots and for the model itself."""
MOST_OF_ONE = 16
"""Of them, of one session: it does not fill the queue for the others."""
FULL_RETRY_SECONDS = 5
LOOK_SECONDS = 1.0
Turn = asyncio.Future[str]
Look = Callable[[], Model | None]
"""Returns the model as it is now, None when it cannot be sent to."""


@dataclass
class _Door:
    """One model's: who has come, who is at which of its servers, and who waits, by session."""

    limit: int = 1
    servers: Sequence[str] = ()
    come: int = 0
    sessions: Counter[str] = field(default_factory=Counter)
    """How many of each have come."""
    inside: Counter[str] = field(default_factory=Counter)
    waiting: OrderedDict[str, deque[Turn]] = field(default_factory=OrderedDict)

    @property
    def width(self) -> int:
        return self.limit * max(len(self.servers), 1)

    @property
    def working(self) -> int:
        return self.inside.total()

    def widen(self, model: Model | None) -> None:
        """Be as wide as the model's servers are now."""
        if model is not None:
            self.limit, self.servers = model.parallel, servers(model, "")

    def with_room(self, preferred: Sequence[str]) -> str | None:
        """Return the first of some servers that has a slot left, None when none has."""
        return next((server for server in preferred if self.inside[server] < self.limit), None)

    def let_in(self) -> None:
        """Let in who is next, as many as there is room for."""
        while self.waiting and (server := self.with_room(self.servers)) is not None:
            session, line = next(iter(self.waiting.items()))
            turn = line.popleft()
            if line:
                self.waiting.move_to_end(session)
            else:
                del self.waiting[session]
            if not turn.done():
                self.inside[server] += 1
                turn.set_result(server)

    def leave(self, server: str) -> None:
        """Take back a slot, and give it on."""
        self.inside[server] -= 1
        if not self.inside[server]:
            del self.inside[server]
        self.let_in()

    def leave_line(self, session: str, turn: Turn) -> None:
        """Take back a turn that is no longer wanted."""
        if turn.done() and not turn.cancelled():
            self.leave(turn.result())  # it had just been let in
        line = self.waiting.get(session)
        if line and turn in line:
            line.remove(turn)
            if not line:
                del self.waiting[session]


class Admission:
    """The doors of all models, and of all providers."""

    def __init__(self) -> None:
        self._doors: dict[str, _Door] = {}

    @contextmanager
    def coming(self, model: Model, session: str) -> Iterator[None]:
        """Count a request from its arrival on; raises `Failure` when too many wait already, of all
        or of this session."""
        door = self._door(model)
        if door.come - door.working >= MOST_WAITING:
            raise _full(model, door)
        if door.sessions[session] >= door.width + MOST_OF_ONE:
            raise _full(model, door)
        door.come += 1
        door.sessions[session] += 1
        try:
            yield
        finally:
            door.come -= 1
            door.sessions[session] -= 1
            if not door.sessions[session]:
                del door.sessions[session]
            if not door.come:
                self._doors.pop(model.door, None)

    @asynccontextmanager
    async def slot(
        self, look: Look, session: str, *, deadline: float
    ) -> AsyncIterator[tuple[Model, str] | None]:
        """Wait for a turn; yield the model as it is then, and the URL of the server that has a slot
        for it. A session goes to the same one for as long as that has room.

        Yields None when the model can no longer be sent to; raises `Failure` when the time is over,
        by the monotonic clock.
        """
        model, server = look(), None
        if model is not None:
            door = self._door(model)
            server = None if door.waiting else door.with_room(servers(model, session))
            if server is None:
                server = await self._turn(door, look, session, deadline)
            else:
                door.inside[server] += 1
        if server is None:
            yield None
            return
        try:
            current = look()
            yield (current, server) if current else None
        finally:
            door.widen(look())
            door.leave(server)

    async def _turn(self, door: _Door, look: Look, session: str, deadline: float) -> str | None:
        """Wait in line for a server; None when the model can no longer be sent to."""
        turn: Turn = asyncio.get_running_loop().create_future()
        door.waiting.setdefault(session, deque()).append(turn)
        door.let_in()
        admitted = False
        try:
            while not turn.done():
                await asyncio.wait({turn}, timeout=LOOK_SECONDS)
                model = look()
                if model is None:
                    return None
                if time.monotonic() > deadline and not turn.done():
                    raise _full(model, door)
                door.widen(model)
                door.let_in()
            admitted = True
            return turn.result()
        finally:
            if not admitted:
                door.leave_line(session, turn)

    def waiting(self, model: Model) -> int:
        """Return how many requests wait for a model."""
        door = self._doors.get(model.door)
        return max(door.come - door.working, 0) if door else 0

    def inside(self, model: Model) -> int:
        """Return how many requests a model works on."""
        door = self._doors.get(model.door)
        return door.working if door else 0

    def _door(self, model: Model) -> _Door:
        """Return a model's door."""
        door = self._doors.setdefault(model.door, _Door())
        door.widen(model)
        door.let_in()
        return door


def _full(model: Model, door: _Door) -> Failure:
    waiting = max(door.come - door.working, 0)
    return Failure(
        429,
        f"model {model.name} works on {door.working} requests, and {waiting} wait: try again later",
        code=QUEUE_FULL,
        retry_after_seconds=FULL_RETRY_SECONDS,
    )

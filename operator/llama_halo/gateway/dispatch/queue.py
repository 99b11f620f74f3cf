"""Limits the requests at a model's servers, and decides which request is next.

llama-server queues without limit and without fairness. Here each server gets as many requests as it
has slots. The others wait in a bounded queue, in which API keys take turns, and the sessions of one
key do: a busy key or session does not starve the others.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from llama_halo.gateway.http.errors import QUEUE_FULL, Failure
from llama_halo.gateway.models.model import Model, servers
from llama_halo.gateway.routing.sessions import Session

MAX_WAITING = 64
"""Waiting requests of one model and key: for a slot, or for the model to come up."""
MAX_WAITING_OF_SESSION = 16
"""Requests that one session may have above the model's capacity."""
FULL_RETRY_SECONDS = 5
POLL_SECONDS = 1.0
SlotFuture = asyncio.Future[str]
_Counted = TypeVar("_Counted", str, Session)
ModelLookup = Callable[[], Model | None]
"""Returns the current model, None when no request can be sent to it."""


@dataclass
class _ModelQueue:
    """One model's requests: arrived, in flight by server, and waiting by key and session."""

    limit: int = 1
    servers: Sequence[str] = ()
    arrived: dict[str, int] = field(default_factory=dict)
    """By key."""
    running: dict[str, int] = field(default_factory=dict)
    """By key: those with a slot."""
    sessions: dict[Session, int] = field(default_factory=dict)
    """Arrived requests by session."""
    in_flight: dict[str, int] = field(default_factory=dict)
    """By server."""
    waiting: OrderedDict[str, OrderedDict[Session, deque[SlotFuture]]] = field(
        default_factory=OrderedDict
    )

    @property
    def capacity(self) -> int:
        return self.limit * max(len(self.servers), 1)

    @property
    def in_flight_total(self) -> int:
        return sum(self.in_flight.values())

    @property
    def waiting_total(self) -> int:
        return max(sum(self.arrived.values()) - self.in_flight_total, 0)

    def refresh_capacity(self, model: Model | None) -> None:
        """Adopt the model's current slots and servers; None leaves them unchanged."""
        if model is not None:
            self.limit, self.servers = model.parallel, servers(model, "")

    def first_free(self, preferred: Sequence[str]) -> str | None:
        """Return the first server with a free slot, None when there is none."""
        in_flight = self.in_flight
        return next((server for server in preferred if in_flight.get(server, 0) < self.limit), None)

    def dispatch(self) -> None:
        """Give the free slots to waiting requests; keys take turns, and the sessions of a key."""
        while self.waiting and (server := self.first_free(self.servers)) is not None:
            key, sessions = next(iter(self.waiting.items()))
            session, session_queue = next(iter(sessions.items()))
            future = session_queue.popleft()
            sessions.move_to_end(session)
            self.waiting.move_to_end(key)
            self._drop_empty(session)
            if not future.done():
                _count_up(self.in_flight, server)
                future.set_result(server)

    def release(self, server: str) -> None:
        """Free a slot, and give it to the next request."""
        _count_down(self.in_flight, server)
        self.dispatch()

    def enqueue(self, session: Session, future: SlotFuture) -> None:
        sessions = self.waiting.setdefault(session.key, OrderedDict())
        sessions.setdefault(session, deque()).append(future)

    def withdraw(self, session: Session, future: SlotFuture) -> None:
        """Remove a request from the queue, and free the slot that it may just have got."""
        if future.done() and not future.cancelled():
            self.release(future.result())  # it had just got a slot
        sessions = self.waiting.get(session.key)
        session_queue = sessions.get(session) if sessions else None
        if session_queue and future in session_queue:
            session_queue.remove(future)
            self._drop_empty(session)

    def _drop_empty(self, session: Session) -> None:
        sessions = self.waiting[session.key]
        if not sessions[session]:
            del sessions[session]
        if not sessions:
            del self.waiting[session.key]


class AdmissionQueue:
    """One queue for each model and each provider."""

    def __init__(self) -> None:
        self._queues: dict[str, _ModelQueue] = {}

    @contextmanager
    def admit(self, model: Model, session: Session) -> Iterator[None]:
        """Count a request while it waits and runs; raises `Failure` (429) when too many wait, of
        its key or of its session."""
        queue, key = self._queue(model), session.key
        if queue.arrived.get(key, 0) - queue.running.get(key, 0) >= MAX_WAITING:
            raise _full(model, queue)
        if queue.sessions.get(session, 0) >= queue.capacity + MAX_WAITING_OF_SESSION:
            raise _full(model, queue)
        _count_up(queue.arrived, key)
        _count_up(queue.sessions, session)
        try:
            yield
        finally:
            _count_down(queue.arrived, key)
            _count_down(queue.sessions, session)
            if not queue.arrived:
                self._queues.pop(model.concurrency_key, None)

    @asynccontextmanager
    async def slot(
        self, lookup: ModelLookup, session: Session, *, deadline: float
    ) -> AsyncIterator[tuple[Model, str] | None]:
        """Wait for a slot; yield the current model and the URL of the server that has the slot.

        A session gets the same server as long as that has a free slot. Yields None when no request
        can be sent to the model any more. Raises `Failure` (429) at the deadline, a time of the
        monotonic clock.
        """
        model, server = lookup(), None
        if model is not None:
            queue = self._queue(model)
            server = (
                None if queue.waiting else queue.first_free(servers(model, session.conversation))
            )
            if server is None:
                server = await self._wait_for_slot(queue, lookup, session, deadline)
            else:
                _count_up(queue.in_flight, server)
        if server is None:
            yield None
            return
        _count_up(queue.running, session.key)
        try:
            current = lookup()
            yield (current, server) if current else None
        finally:
            _count_down(queue.running, session.key)
            queue.refresh_capacity(lookup())
            queue.release(server)

    async def _wait_for_slot(
        self, queue: _ModelQueue, lookup: ModelLookup, session: Session, deadline: float
    ) -> str | None:
        """Wait in the queue for a server; None when no request can be sent to the model."""
        future: SlotFuture = asyncio.get_running_loop().create_future()
        queue.enqueue(session, future)
        queue.dispatch()
        admitted = False
        try:
            while not future.done():
                await asyncio.wait({future}, timeout=POLL_SECONDS)
                model = lookup()
                if model is None:
                    return None
                if time.monotonic() > deadline and not future.done():
                    raise _full(model, queue)
                queue.refresh_capacity(model)
                queue.dispatch()
            admitted = True
            return future.result()
        finally:
            if not admitted:
                queue.withdraw(session, future)

    def waiting(self, model: Model) -> int:
        """Return how many requests wait for a model."""
        queue = self._queues.get(model.concurrency_key)
        return queue.waiting_total if queue else 0

    def in_flight(self, model: Model) -> int:
        """Return how many requests a model's servers work on."""
        queue = self._queues.get(model.concurrency_key)
        return queue.in_flight_total if queue else 0

    def _queue(self, model: Model) -> _ModelQueue:
        """Return a model's queue, with its current capacity."""
        queue = self._queues.setdefault(model.concurrency_key, _ModelQueue())
        queue.refresh_capacity(model)
        queue.dispatch()
        return queue


def _count_up(counter: dict[_Counted, int], name: _Counted) -> None:
    counter[name] = counter.get(name, 0) + 1


def _count_down(counter: dict[_Counted, int], name: _Counted) -> None:
    counter[name] -= 1
    if not counter[name]:
        del counter[name]


def _full(model: Model, queue: _ModelQueue) -> Failure:
    return Failure(
        429,
        f"the queue of model {model.name} is full (in flight: {queue.in_flight_total}, waiting:"
        f" {queue.waiting_total}): retry later",
        code=QUEUE_FULL,
        retry_after_seconds=FULL_RETRY_SECONDS,
    )

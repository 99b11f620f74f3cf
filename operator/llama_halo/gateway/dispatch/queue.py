"""Limits the requests at a model's servers, and decides which request is next.

llama-server queues without limit and without fairness. Here each server gets as many requests as it
has slots. The others wait in a bounded queue, in which sessions take turns: a busy session does not
starve the others.
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

MAX_WAITING = 64
"""Waiting requests of one model: for a slot, or for the model to come up."""
MAX_WAITING_OF_SESSION = 16
"""Requests that one session may have above the model's capacity."""
FULL_RETRY_SECONDS = 5
POLL_SECONDS = 1.0
SlotFuture = asyncio.Future[str]
ModelLookup = Callable[[], Model | None]
"""Returns the current model, None when no request can be sent to it."""


@dataclass
class _ModelQueue:
    """One model's requests: arrived, in flight by server, and waiting by session."""

    limit: int = 1
    servers: Sequence[str] = ()
    arrived: int = 0
    sessions: Counter[str] = field(default_factory=Counter)
    """Arrived requests by session."""
    in_flight: Counter[str] = field(default_factory=Counter)
    waiting: OrderedDict[str, deque[SlotFuture]] = field(default_factory=OrderedDict)

    @property
    def capacity(self) -> int:
        return self.limit * max(len(self.servers), 1)

    @property
    def in_flight_total(self) -> int:
        return self.in_flight.total()

    def refresh_capacity(self, model: Model | None) -> None:
        """Adopt the model's current slots and servers; None leaves them unchanged."""
        if model is not None:
            self.limit, self.servers = model.parallel, servers(model, "")

    def first_free(self, preferred: Sequence[str]) -> str | None:
        """Return the first server with a free slot, None when there is none."""
        return next((server for server in preferred if self.in_flight[server] < self.limit), None)

    def dispatch(self) -> None:
        """Give the free slots to waiting requests; sessions take turns."""
        while self.waiting and (server := self.first_free(self.servers)) is not None:
            session, session_queue = next(iter(self.waiting.items()))
            future = session_queue.popleft()
            if session_queue:
                self.waiting.move_to_end(session)
            else:
                del self.waiting[session]
            if not future.done():
                self.in_flight[server] += 1
                future.set_result(server)

    def release(self, server: str) -> None:
        """Free a slot, and give it to the next request."""
        self.in_flight[server] -= 1
        if not self.in_flight[server]:
            del self.in_flight[server]
        self.dispatch()

    def withdraw(self, session: str, future: SlotFuture) -> None:
        """Remove a request from the queue, and free the slot that it may just have got."""
        if future.done() and not future.cancelled():
            self.release(future.result())  # it had just got a slot
        session_queue = self.waiting.get(session)
        if session_queue and future in session_queue:
            session_queue.remove(future)
            if not session_queue:
                del self.waiting[session]


class AdmissionQueue:
    """One queue for each model and each provider."""

    def __init__(self) -> None:
        self._queues: dict[str, _ModelQueue] = {}

    @contextmanager
    def admit(self, model: Model, session: str) -> Iterator[None]:
        """Count a request while it waits and runs; raises `Failure` (429) when too many wait, in
        total or of its session."""
        queue = self._queue(model)
        if queue.arrived - queue.in_flight_total >= MAX_WAITING:
            raise _full(model, queue)
        if queue.sessions[session] >= queue.capacity + MAX_WAITING_OF_SESSION:
            raise _full(model, queue)
        queue.arrived += 1
        queue.sessions[session] += 1
        try:
            yield
        finally:
            queue.arrived -= 1
            queue.sessions[session] -= 1
            if not queue.sessions[session]:
                del queue.sessions[session]
            if not queue.arrived:
                self._queues.pop(model.concurrency_key, None)

    @asynccontextmanager
    async def slot(
        self, lookup: ModelLookup, session: str, *, deadline: float
    ) -> AsyncIterator[tuple[Model, str] | None]:
        """Wait for a slot; yield the current model and the URL of the server that has the slot.

        A session gets the same server as long as that has a free slot. Yields None when no request
        can be sent to the model any more. Raises `Failure` (429) at the deadline, a time of the
        monotonic clock.
        """
        model, server = lookup(), None
        if model is not None:
            queue = self._queue(model)
            server = None if queue.waiting else queue.first_free(servers(model, session))
            if server is None:
                server = await self._wait_for_slot(queue, lookup, session, deadline)
            else:
                queue.in_flight[server] += 1
        if server is None:
            yield None
            return
        try:
            current = lookup()
            yield (current, server) if current else None
        finally:
            queue.refresh_capacity(lookup())
            queue.release(server)

    async def _wait_for_slot(
        self, queue: _ModelQueue, lookup: ModelLookup, session: str, deadline: float
    ) -> str | None:
        """Wait in the queue for a server; None when no request can be sent to the model."""
        future: SlotFuture = asyncio.get_running_loop().create_future()
        queue.waiting.setdefault(session, deque()).append(future)
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
        return max(queue.arrived - queue.in_flight_total, 0) if queue else 0

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


def _full(model: Model, queue: _ModelQueue) -> Failure:
    waiting = max(queue.arrived - queue.in_flight_total, 0)
    return Failure(
        429,
        f"the queue of model {model.name} is full (in flight: {queue.in_flight_total}, waiting:"
        f" {waiting}): retry later",
        code=QUEUE_FULL,
        retry_after_seconds=FULL_RETRY_SECONDS,
    )

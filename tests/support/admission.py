"""Requests that wait at the admission queue of a model, and run until they are released."""

from __future__ import annotations

import asyncio
import math

from llama_halo.gateway.dispatch.queue import AdmissionQueue
from llama_halo.gateway.models.model import Model
from llama_halo.gateway.routing.sessions import Session


def model(parallel: int = 1, replicas: int = 1) -> Model:
    """Return a model that serves, with some slots and replicas."""
    servers = tuple(f"http://{index}" for index in range(replicas))
    return Model("m", "http://m", True, "Serving", parallel=parallel, serving=servers)


class Requests:
    """Requests for one model, which hold their slots until `finish_all`."""

    def __init__(self, admission: AdmissionQueue, queued_for: Model) -> None:
        self.admission, self.model = admission, queued_for
        self.order: list[str] = []
        self.servers: list[str] = []
        self.go = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, conversation: str, key: str = "") -> None:
        session = Session(key, conversation)

        async def run() -> None:
            with self.admission.admit(self.model, session):
                async with self.admission.slot(
                    lambda: self.model, session, deadline=math.inf
                ) as turn:
                    assert turn is not None
                    self.order.append(conversation)
                    self.servers.append(turn[1])
                    await self.go.wait()

        self.tasks.append(asyncio.create_task(run()))
        await asyncio.sleep(0)

    @property
    def waiting(self) -> int:
        return self.admission.waiting(self.model)

    @property
    def in_flight(self) -> int:
        return self.admission.in_flight(self.model)

    async def finish_all(self) -> None:
        self.go.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)

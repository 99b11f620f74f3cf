"""Says on models' Leases what this gateway has in flight, and reads their phases.

It says so when a first request comes, and waits for that with a model on demand; every few seconds
while requests run; and once when none is left. What it said lately need not be said again: the
operator counts a gateway as busy for longer than that. When the API server cannot be reached,
requests go on without a word.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from llama_halo.api_server import FAILED, ApiServer, checked
from llama_halo.contract.lease import (
    GATEWAY_PREFIX,
    PHASE_ANNOTATION,
    WRITE_SECONDS,
    Phase,
    entry,
    lease_name,
)

log = logging.getLogger(__name__)

LOADING_SECONDS = 0.5
"""Between two looks at a model that is not loaded, however many requests wait for it."""
QUIET_SECONDS = 1.0
"""After the last request, before it is said that none is left: an agent's next one comes soon."""
TICK_SECONDS = 0.5
_TIMEOUT = aiohttp.ClientTimeout(total=3)
_MOST_LETTERS = 63
Json = dict[str, Any]


@dataclass
class _Model:
    """What was said of one model, and what is so."""

    in_flight: int = 0
    empty_since: float = 0.0
    counter: int = 0
    said_in_flight: int = 0
    said_at: float = float("-inf")
    """When it was tried last."""
    phase: str | None = ""
    """As the last reply had it; None when there was no reply."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Leases:
    """All models that requests came for."""

    def __init__(
        self,
        server: ApiServer,
        namespace: str,
        pod: str,
        has_lease: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._clock = clock
        self._has_lease = has_lease
        self._due = asyncio.Event()
        self._path = f"apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/"
        self._entry = GATEWAY_PREFIX + pod[-_MOST_LETTERS:].strip("-.")
        self._models: dict[str, _Model] = {}
        self._client: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def request(self, name: str) -> AsyncIterator[None]:
        """Count one request for a model for as long as it is held or runs."""
        model = self._models.setdefault(name, _Model())
        model.in_flight += 1
        if self._is_due(name, model):
            self._due.set()
        try:
            yield
        finally:
            model.in_flight -= 1
            model.empty_since = self._clock()

    async def may_send(self, name: str) -> bool:
        """Tell whether a request may go to a model on demand, saying first that there is one.

        True when nobody can be asked: the operator looks at the model's own slots, too.
        """
        model = self._models[name]
        async with model.lock:
            if not self._is_known(model):
                await self._say(name, model)
        return model.phase in (None, Phase.LOADED)

    async def run(self) -> None:
        """Say what is so for as long as it is so, for ever; of a first request at once."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._due.wait()
            self._due.clear()
            models = list(self._models.items())
            due = [(name, model) for name, model in models if self._is_due(name, model)]
            await asyncio.gather(*(self._repeat(name, model) for name, model in due))

    async def close(self) -> None:
        """Take back what was said, as far as that is possible, and end the connections."""
        names = [name for name, model in self._models.items() if model.counter]
        await asyncio.gather(*(self._take_back(name) for name in names))
        if self._client is not None:
            await self._client.close()

    async def _take_back(self, name: str) -> None:
        with suppress(*FAILED):
            await self._patch(name, None)

    def _is_known(self, model: _Model) -> bool:
        """Tell whether nothing new would be said, or heard, by asking again already."""
        since = self._clock() - model.said_at
        if model.phase is None:
            return since < WRITE_SECONDS  # nobody answers: not every request waits for that
        if model.said_in_flight == 0:
            return False  # the operator may unload it at any moment
        return since < (WRITE_SECONDS if model.phase == Phase.LOADED else LOADING_SECONDS)

    def _is_due(self, name: str, model: _Model) -> bool:
        now = self._clock()
        if not self._has_lease(name):
            return False
        if model.in_flight:
            first = model.said_in_flight == 0 and model.phase is not None
            return first or now - model.said_at >= WRITE_SECONDS
        return model.said_in_flight > 0 and now - model.empty_since >= QUIET_SECONDS

    async def _repeat(self, name: str, model: _Model) -> None:
        async with model.lock:
            if self._is_due(name, model):
                await self._say(name, model)

    async def _say(self, name: str, model: _Model) -> None:
        """Write the counter and the requests in flight, and keep the phase of the reply."""
        model.counter += 1
        in_flight, value = model.in_flight, entry(model.counter, model.in_flight)
        model.said_at = self._clock()
        try:
            lease = await self._patch(name, value)
            annotations = lease["metadata"].get("annotations") or {}
        except (*FAILED, KeyError) as error:
            # Asked again for the next request; a Lease that is not there yet is no reason to wait.
            model.phase, model.said_in_flight = None, 0
            reason = f"{type(error).__name__}: {error}"
            log.warning("lease not written", extra={"model": name, "reason": reason})
            return
        except asyncio.CancelledError:
            model.said_at = float("-inf")  # nobody knows what was heard of it
            raise
        model.phase = annotations.get(PHASE_ANNOTATION, "")
        model.said_in_flight = in_flight
        if model.in_flight and not in_flight:
            self._due.set()  # one came while it was said that there is none

    async def _patch(self, name: str, value: str | None) -> Json:
        if self._client is None:
            self._client = self._server.client(_TIMEOUT)
        async with self._client.patch(
            self._path + lease_name(name),
            data=json.dumps({"metadata": {"annotations": {self._entry: value}}}),
            headers={**self._server.headers(), "Content-Type": "application/merge-patch+json"},
            allow_redirects=False,
        ) as response:
            lease: Json = await (await checked(response)).json()
            return lease

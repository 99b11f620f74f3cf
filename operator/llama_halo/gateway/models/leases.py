"""Writes this gateway's entry on the models' Leases, and reads the Leases' phases.

The gateway writes its entry when a first request arrives, every few seconds while requests run, and
once when none is left. A request for an on-demand model waits for the first write. A recent entry
is not written again: the operator counts a gateway as busy for longer than that. If the API server
does not answer, requests proceed without an entry.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import aiohttp

from llama_halo.api_server import REQUEST_ERRORS, ApiServer, Json, entry_of, read_object
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
"""Interval for reading the phase of a model that is not loaded, however many requests wait."""
QUIET_SECONDS = 1.0
"""Time from the last request to the entry that none is left: an agent's next one comes soon."""
TICK_SECONDS = 0.5
_TIMEOUT = aiohttp.ClientTimeout(total=3)
_MAX_ENTRY_CHARACTERS = 63


@dataclass
class _LeaseEntry:
    """One model's requests in flight, and the last entry on its Lease."""

    in_flight: int = 0
    empty_since: float = 0.0
    counter: int = 0
    written_in_flight: int = 0
    written_at: float = float("-inf")
    """Time of the last attempt to write."""
    phase: str | None = ""
    """Phase in the last reply; None when there was no reply."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Leases:
    """The gateway's entries for all models that it had requests for."""

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
        self._entry = GATEWAY_PREFIX + pod[-_MAX_ENTRY_CHARACTERS:].strip("-.")
        self._models: dict[str, _LeaseEntry] = {}
        self._client: aiohttp.ClientSession | None = None

    @contextmanager
    def request(self, name: str) -> Iterator[None]:
        """Count one request for a model for as long as it is held or runs."""
        model = self._models.setdefault(name, _LeaseEntry())
        model.in_flight += 1
        if self._is_due(name, model):
            self._due.set()
        try:
            yield
        finally:
            model.in_flight -= 1
            model.empty_since = self._clock()

    async def may_send(self, name: str) -> bool:
        """Write the entry if it is not recent; tell whether a request may go to an on-demand model.

        True when the API server does not answer: before an unload, the operator also checks the
        server's slots.
        """
        model = self._models[name]
        async with model.lock:
            if not self._is_recent(model):
                await self._write_entry(name, model)
        return model.phase in (None, Phase.LOADED)

    async def run(self) -> None:
        """Keep the entries current, for ever; a first request is written at once."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._due.wait()
            self._due.clear()
            models = list(self._models.items())
            due = [(name, model) for name, model in models if self._is_due(name, model)]
            await asyncio.gather(*(self._write_if_due(name, model) for name, model in due))

    async def close(self) -> None:
        """Remove this gateway's entries as far as possible, and close the connections."""
        names = [name for name, model in self._models.items() if model.counter]
        await asyncio.gather(*(self._remove_entry(name) for name in names))
        if self._client is not None:
            await self._client.close()

    async def _remove_entry(self, name: str) -> None:
        with suppress(*REQUEST_ERRORS):
            await self._patch(name, None)

    def _is_recent(self, model: _LeaseEntry) -> bool:
        """Tell whether the entry and the phase are recent enough to skip a write."""
        since = self._clock() - model.written_at
        if model.phase is None:
            return since < WRITE_SECONDS  # no answer lately: not every request waits for one
        if model.written_in_flight == 0:
            return False  # the operator may unload it at any moment
        return since < (WRITE_SECONDS if model.phase == Phase.LOADED else LOADING_SECONDS)

    def _is_due(self, name: str, model: _LeaseEntry) -> bool:
        now = self._clock()
        if not self._has_lease(name):
            return False
        if model.in_flight:
            first = model.written_in_flight == 0 and model.phase is not None
            return first or now - model.written_at >= WRITE_SECONDS
        return model.written_in_flight > 0 and now - model.empty_since >= QUIET_SECONDS

    async def _write_if_due(self, name: str, model: _LeaseEntry) -> None:
        async with model.lock:
            if self._is_due(name, model):
                await self._write_entry(name, model)

    async def _write_entry(self, name: str, model: _LeaseEntry) -> None:
        """Write the counter and the requests in flight, and keep the phase of the reply."""
        model.counter += 1
        in_flight, value = model.in_flight, entry(model.counter, model.in_flight)
        model.written_at = self._clock()
        try:
            metadata = entry_of(await self._patch(name, value), "metadata", dict)
            phase = (metadata.get("annotations") or {}).get(PHASE_ANNOTATION, "")
        except REQUEST_ERRORS as error:
            # Requests proceed without an entry, also when the Lease does not exist yet.
            model.phase, model.written_in_flight = None, 0
            reason = f"{type(error).__name__}: {error}"
            log.warning("lease not written", extra={"model": name, "reason": reason})
            return
        except asyncio.CancelledError:
            model.written_at = float("-inf")  # the write may or may not have arrived
            raise
        model.phase = phase
        model.written_in_flight = in_flight
        if model.in_flight and not in_flight:
            self._due.set()  # a request arrived during the write

    async def _patch(self, name: str, value: str | None) -> Json:
        if self._client is None:
            self._client = self._server.client(_TIMEOUT)
        async with self._client.patch(
            self._path + lease_name(name),
            data=json.dumps({"metadata": {"annotations": {self._entry: value}}}),
            headers={**self._server.headers(), "Content-Type": "application/merge-patch+json"},
            allow_redirects=False,
        ) as response:
            return await read_object(response)

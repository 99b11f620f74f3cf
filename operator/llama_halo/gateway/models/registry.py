"""The gateway's own watch on the LlamaModels of its namespace.

When the API server cannot be reached, the gateway keeps using the models that it last saw.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import aiohttp

from llama_halo.api_server import (
    REQUEST_ERRORS,
    ApiServer,
    Json,
    certificate_problem,
    entry_of,
    lines,
    parse_object,
    require_success,
)
from llama_halo.contract.labels import API_VERSION, LLAMAMODELS
from llama_halo.errors import MalformedAnswer
from llama_halo.gateway.models.model import Model, model_of
from llama_halo.list_page import ListPage
from llama_halo.nested_json import is_cut

log = logging.getLogger(__name__)

_PAGE_ITEMS = "100"
_WATCH_SECONDS = 290
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10, sock_read=90)
"""The API server sends a bookmark every minute, so a watch without data for 90 s is dead."""
_RETRY_SECONDS = (0.5, 1, 2, 5, 10)
_ENDED = "it ended"
_LIVED_SECONDS = 5.0
"""A watch that ends sooner counts as a failure: the next list of all models then waits."""


class ModelRegistry:
    """The models by name, kept current by `run`."""

    def __init__(
        self,
        server: ApiServer,
        namespace: str,
        provider_models: Mapping[str, Model] = MappingProxyType({}),
    ) -> None:
        self._server = server
        self._provider_models = provider_models
        self._path = f"apis/{API_VERSION}/namespaces/{namespace}/{LLAMAMODELS}"
        self.models: Mapping[str, Model] = {**provider_models}
        """Including the providers' models. A change replaces the mapping and never modifies it, so
        callers may cache what they derive from it."""
        self._synced = asyncio.Event()
        self._awaited: dict[str, asyncio.Event] = {}

    def has_lease(self, name: str) -> bool:
        """Tell whether the gateway has to write entries on a model's Lease."""
        model = self.models.get(name)
        return model is not None and model.has_lease

    async def wait_for_change(self, name: str, *, within_seconds: float) -> None:
        """Wait for a change of one model, at most for `within_seconds`."""
        event = self._awaited.setdefault(name, asyncio.Event())
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await event.wait()

    async def wait_until_synced(self, *, within_seconds: float) -> None:
        """Wait until the models have been listed once, at most for `within_seconds`."""
        if self.synced:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._synced.wait()

    @property
    def synced(self) -> bool:
        return self._synced.is_set()

    async def run(self) -> None:
        """List and watch, for ever."""
        failures = 0
        async with self._server.client(_TIMEOUT) as client:
            while True:
                started, reason = time.monotonic(), _ENDED
                try:
                    version = await self._list(client)
                    started = time.monotonic()
                    await self._watch(client, version)
                except REQUEST_ERRORS as error:
                    reason = certificate_problem(error) or f"{type(error).__name__}: {error}"
                if time.monotonic() - started > _LIVED_SECONDS and reason == _ENDED:
                    failures = 0
                    continue
                if time.monotonic() - started > _LIVED_SECONDS:
                    failures = 0
                delay = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)]
                failures += 1
                log.warning(
                    "watch on llamamodels ended; retrying",
                    extra={"reason": reason, "retry_seconds": delay},
                )
                await asyncio.sleep(delay)

    async def _list(self, client: aiohttp.ClientSession) -> str:
        models: dict[str, Model] = {}
        query = {"limit": _PAGE_ITEMS}
        while True:
            page = ListPage()
            async with client.get(
                self._path, params=query, headers=self._server.headers(), allow_redirects=False
            ) as response:
                chunks = (await require_success(response)).content.iter_any()
                async for item, _ in page.items(chunks):
                    name, cr = _named(item)
                    if model := self._read(name, cr):
                        models[model.name] = model
            more = page.metadata.get("continue")
            if not more:
                break
            query["continue"] = str(more)
        version = entry_of(page.metadata, "resourceVersion", str)
        self.models = {**models, **self._provider_models}
        self._synced.set()
        for name in list(self._awaited):
            self._wake(name)
        return version

    async def _watch(self, client: aiohttp.ClientSession, version: str) -> None:
        """Follow changes until the server ends the watch; the caller lists again."""
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        async with client.get(
            self._path, params=query, headers=self._server.headers(), allow_redirects=False
        ) as response:
            async for line in lines(await require_success(response)):
                event = parse_object(line)
                kind, cr = entry_of(event, "type", str), entry_of(event, "object", dict)
                if kind == "ERROR":
                    return
                if kind in ("ADDED", "MODIFIED", "DELETED"):
                    self._apply_event(kind, *_named(cr))

    def _apply_event(self, kind: str, name: str, cr: Json) -> None:
        if kind == "DELETED":
            self.models = {other: model for other, model in self.models.items() if other != name}
        elif model := self._read(name, cr):
            self.models = {**self.models, name: model}
        self._wake(name)

    def _read(self, name: str, cr: Json) -> Model | None:
        """Return a resource as a model; one that cannot be read stays as it was last."""
        try:
            if is_cut(cr):
                raise MalformedAnswer("it is nested too deeply")
            return model_of(cr)
        except Exception:
            log.exception("LlamaModel not readable", extra={"model": name})
            return self.models.get(name)

    def _wake(self, name: str) -> None:
        event = self._awaited.pop(name, None)
        if event:
            event.set()


def _named(cr: Any) -> tuple[str, Json]:
    """Return a resource with its name; raises `MalformedAnswer` if it has none."""
    metadata = entry_of(cr, "metadata", dict)
    return entry_of(metadata, "name", str), cr

"""Sends a request to its model when that answers: holds it while the model comes up.

A request whose model goes away before the first byte of an answer is held again. A model on demand
is told first that it is wanted (`leases`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from llama_halo.gateway.config import GatewayConfig
from llama_halo.gateway.failures import Failure, loading, unreachable
from llama_halo.gateway.leases import Leases
from llama_halo.gateway.metrics import GatewayMetrics
from llama_halo.gateway.models import Model, comes_up
from llama_halo.gateway.routing import Target
from llama_halo.gateway.sse import SseEvent
from llama_halo.gateway.upstream import Upstream
from llama_halo.gateway.watch import ModelWatch

LOOK_SECONDS = 1.0
AGAIN_SECONDS = 0.2


class Held:
    """The way to all models."""

    def __init__(
        self,
        config: GatewayConfig,
        watch: ModelWatch,
        leases: Leases,
        upstream: Upstream,
        metrics: GatewayMetrics,
    ) -> None:
        self._config = config
        self._watch = watch
        self._leases = leases
        self._upstream = upstream
        self._waiting = metrics.held

    @asynccontextmanager
    async def stream(
        self, target: Target, path: str, body: dict[str, Any], *, session: str
    ) -> AsyncIterator[AsyncIterator[SseEvent]]:
        """Yield the events of a streamed answer, the first of which has come.

        Raises `Failure` when the model does not come up in time, or refuses the request.
        """
        async with self._leases.request(target.llama_model), AsyncExitStack() as stack:
            deadline = time.monotonic() + self._config.hold_seconds
            while True:
                model = await self._answering(target, deadline)
                attempt = await stack.enter_async_context(AsyncExitStack())
                try:
                    events = await attempt.enter_async_context(
                        self._upstream.stream(model, path, body, session=session)
                    )
                    first = await anext(events, None)
                    if first is None:
                        raise unreachable(model.name)
                except Failure as failure:
                    await attempt.aclose()
                    await self._again(failure, model, deadline)
                    continue
                yield _chained(first, events)
                return

    async def ask(
        self, target: Target, path: str, body: dict[str, Any], *, session: str
    ) -> dict[str, Any]:
        """Return an answer that is not streamed."""
        async with self._leases.request(target.llama_model):
            deadline = time.monotonic() + self._config.hold_seconds
            while True:
                model = await self._answering(target, deadline)
                try:
                    return await self._upstream.ask(model, path, body, session=session)
                except Failure as failure:
                    await self._again(failure, model, deadline)

    async def _answering(self, target: Target, deadline: float) -> Model:
        """Return a model once it answers and may be sent to."""
        while True:
            model = self._watch.models.get(target.llama_model)
            if model is None:
                raise loading(
                    f"model {target.name}: there is no LlamaModel {target.llama_model} in namespace"
                    f" {self._config.namespace} (yet)"
                )
            allowed = not model.on_demand or await self._leases.may_send(model.name)
            # A server that has just been started is asked before anybody calls it ready: what it
            # answers meanwhile is that it loads.
            if allowed and (model.available or (comes_up(model) and model.starting)):
                return model
            if not comes_up(model) or time.monotonic() > deadline:
                raise loading(f"model {target.name} does not answer now: {model.state}")
            with self._waiting.track_inprogress():
                await self._watch.changed(model.name, within_seconds=LOOK_SECONDS)

    async def _again(self, failure: Failure, model: Model, deadline: float) -> None:
        """Wait before a request is sent again, or raise what cannot be waited for."""
        if not (failure.passes and model.on_demand) or time.monotonic() > deadline:
            raise failure
        await asyncio.sleep(AGAIN_SECONDS)


async def _chained(first: SseEvent, rest: AsyncIterator[SseEvent]) -> AsyncIterator[SseEvent]:
    yield first
    async for event in rest:
        yield event

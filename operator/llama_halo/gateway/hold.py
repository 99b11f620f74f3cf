"""Sends a request to its model when that answers: holds it while the model comes up.

A request whose model goes away before the first byte of an answer is held again. A model on demand
is told first that it is wanted (`leases`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from llama_halo.gateway.admission import Admission
from llama_halo.gateway.config import GatewayConfig
from llama_halo.gateway.failures import LOADING, Failure, loading, unreachable
from llama_halo.gateway.leases import Leases
from llama_halo.gateway.metrics import GatewayMetrics
from llama_halo.gateway.models import Model, comes_up
from llama_halo.gateway.routing import Target
from llama_halo.gateway.sse import SseEvent
from llama_halo.gateway.upstream import Upstream
from llama_halo.gateway.watch import ModelWatch

LOOK_SECONDS = 1.0
AGAIN_SECONDS = 0.2
NOW_SECONDS = 1.0


class Held:
    """The way to all models."""

    def __init__(
        self,
        config: GatewayConfig,
        watch: ModelWatch,
        leases: Leases,
        upstream: Upstream,
        admission: Admission,
        metrics: GatewayMetrics,
    ) -> None:
        self._config = config
        self._watch = watch
        self._leases = leases
        self._upstream = upstream
        self._admission = admission
        self._waiting = metrics.held

    @asynccontextmanager
    async def stream(
        self, targets: Sequence[Target], path: str, body: dict[str, Any], *, session: str
    ) -> AsyncIterator[tuple[Target, AsyncIterator[SseEvent]]]:
        """Yield which of the targets answers, and the events of its answer, the first of which has
        come.

        Raises `Failure` when none of them comes up in time, or one refuses the request.
        """
        async with AsyncExitStack() as stack:
            for target in targets:
                try:
                    opened = self._stream(target, path, body, session)
                    events = await stack.enter_async_context(opened)
                    break
                except Failure as failure:
                    if not failure.passes or target is targets[-1]:
                        raise
            yield target, events

    async def ask(
        self, targets: Sequence[Target], path: str, body: dict[str, Any], *, session: str
    ) -> tuple[Target, Any]:
        """Return which of the targets answers, and its answer, which is not streamed."""
        for target in targets:
            try:
                return target, await self._ask(target, path, body, session)
            except Failure as failure:
                if not failure.passes or target is targets[-1]:
                    raise
        raise AssertionError  # there is a last target

    async def ask_now(self, model: Model, path: str, body: dict[str, Any]) -> Any:
        """Return an answer that costs nothing, None when the model does not give it now: it is
        neither woken nor waited for."""
        if not model.available:
            return None
        with suppress(Failure, TimeoutError):
            async with asyncio.timeout(NOW_SECONDS):
                return await self._upstream.ask(model, path, body, session="")
        return None

    @asynccontextmanager
    async def _stream(
        self, target: Target, path: str, body: dict[str, Any], session: str
    ) -> AsyncIterator[AsyncIterator[SseEvent]]:
        async with self._leases.request(target.llama_model), AsyncExitStack() as stack:
            deadline = time.monotonic() + self._config.hold_seconds
            while True:
                model = await self._answering(target, deadline)
                attempt = await stack.enter_async_context(AsyncExitStack())
                try:
                    await attempt.enter_async_context(self._admission.slot(model, session))
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

    async def _ask(self, target: Target, path: str, body: dict[str, Any], session: str) -> Any:
        async with self._leases.request(target.llama_model):
            deadline = time.monotonic() + self._config.hold_seconds
            while True:
                model = await self._answering(target, deadline)
                try:
                    async with self._admission.slot(model, session):
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
            passes = model.available or comes_up(model)
            if not passes or time.monotonic() > deadline:
                raise loading(f"model {target.name} does not answer now: {model.state}")
            with self._waiting.track_inprogress():
                await self._watch.changed(model.name, within_seconds=LOOK_SECONDS)

    async def _again(self, failure: Failure, model: Model, deadline: float) -> None:
        """Wait before a request is sent again, or raise what cannot be waited for."""
        now = self._watch.models.get(model.name, model)
        # One that loads again says so itself, before the operator has seen it.
        passes = failure.code == LOADING or model.on_demand or comes_up(now)
        if not failure.passes or not passes or time.monotonic() > deadline:
            raise failure
        await asyncio.sleep(AGAIN_SECONDS)


async def _chained(first: SseEvent, rest: AsyncIterator[SseEvent]) -> AsyncIterator[SseEvent]:
    yield first
    async for event in rest:
        yield event

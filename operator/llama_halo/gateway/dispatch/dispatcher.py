"""Sends a request to its model, and holds it while the model comes up.

If the model goes away before the first event of the answer, the dispatcher holds the request again.
For an on-demand model, it first writes on the model's Lease that there is a request
(`models.leases`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, replace
from typing import Any

from llama_halo.contract.gateway_config import GatewayConfig
from llama_halo.gateway.apis.upstream_request import UpstreamRequest
from llama_halo.gateway.dispatch.encode import EncodedRequest
from llama_halo.gateway.dispatch.fast_path import FastPath
from llama_halo.gateway.dispatch.queue import AdmissionQueue
from llama_halo.gateway.dispatch.upstream import Upstream, UpstreamAnswer, lost
from llama_halo.gateway.http.errors import LOADING, LOST, Failure, loading
from llama_halo.gateway.http.sse import SseEvent
from llama_halo.gateway.metrics import GatewayMetrics
from llama_halo.gateway.models.leases import Leases
from llama_halo.gateway.models.model import Model, is_coming_up
from llama_halo.gateway.models.registry import ModelRegistry
from llama_halo.gateway.routing.sessions import Session
from llama_halo.gateway.routing.table import Target

POLL_SECONDS = 1.0
RETRY_SECONDS = 0.2
NOW_SECONDS = 1.0
MAX_LOST_CONNECTIONS = 1
"""Lost connections after which a request is still retried; one more is blamed on the request."""


class RequestDispatcher:
    """Sends requests to the models of the cluster and of the providers."""

    def __init__(
        self,
        config: GatewayConfig,
        registry: ModelRegistry,
        leases: Leases,
        upstream: Upstream,
        admission: AdmissionQueue,
        metrics: GatewayMetrics,
    ) -> None:
        self._config = config
        self._registry = registry
        self._leases = leases
        self._upstream = upstream
        self._admission = admission
        self._held_gauge = metrics.held
        self._strict: set[str] = set()
        """Names of models whose chat template wants turns to alternate, or short ids of calls."""

    @asynccontextmanager
    async def stream(
        self,
        targets: Sequence[Target],
        upstream_request: UpstreamRequest,
        fast_path: FastPath,
        *,
        session: Session,
    ) -> AsyncIterator[tuple[Target, AsyncIterator[SseEvent]]]:
        """Yield the target that answers, and its events, once the first one has arrived.

        Raises `Failure` when no target comes up in time, or when one refuses the request.
        """
        retry = _RetryState(time.monotonic() + self._config.hold_seconds)
        async with AsyncExitStack() as stack:
            for target in targets:
                retry.has_others = target is not targets[-1]
                try:
                    opened = self._stream(target, upstream_request, fast_path, session, retry)
                    omitted, events = await stack.enter_async_context(opened)
                    break
                except Failure as failure:
                    if not (failure.allows_fallback and retry.has_others):
                        raise
            yield (replace(target, omitted=omitted) if omitted else target), events

    async def ask(
        self, targets: Sequence[Target], upstream_request: UpstreamRequest, *, session: Session
    ) -> tuple[Target, UpstreamAnswer]:
        """Return the target that answers and its whole answer; raises `Failure` like `stream`."""
        retry = _RetryState(time.monotonic() + self._config.hold_seconds)
        for target in targets:
            retry.has_others = target is not targets[-1]
            try:
                omitted, answer = await self._ask(target, upstream_request, session, retry)
                return replace(target, omitted=omitted), answer
            except Failure as failure:
                if not (failure.allows_fallback and retry.has_others):
                    raise
        raise AssertionError  # unreachable: the last target returns or raises

    async def ask_now(
        self, model: Model, upstream_request: UpstreamRequest
    ) -> dict[str, Any] | None:
        """Return a model's answer if it comes within `NOW_SECONDS`, else None.

        A model is not loaded for it, and a provider is not asked.
        """
        if not model.available or model.provider:
            return None
        with suppress(Failure, TimeoutError):
            async with asyncio.timeout(NOW_SECONDS):
                sent = self._upstream.encode(model, upstream_request)
                return (await self._upstream.ask(model, model.endpoint, sent)).value()
        return None

    @asynccontextmanager
    async def _stream(
        self,
        target: Target,
        upstream_request: UpstreamRequest,
        fast_path: FastPath,
        session: Session,
        retry: _RetryState,
    ) -> AsyncIterator[tuple[tuple[str, ...], AsyncIterator[SseEvent]]]:
        """Yield what of the request is omitted, and the events of the answer."""
        with self._track_request(target, session):
            while True:
                model = await self._wait_until_sendable(target, retry.deadline)
                try:
                    async with AsyncExitStack() as attempt:
                        slot = await attempt.enter_async_context(
                            self._slot(model, session, retry.deadline)
                        )
                        if slot is None:
                            continue
                        model, server = slot
                        sent = self._encoded(model, upstream_request, retry)
                        events = await attempt.enter_async_context(
                            self._upstream.stream(model, server, sent, fast_path)
                        )
                        first = await _beginning(events, model)
                        if not first:
                            raise lost(model)
                        if retry.is_strict:
                            self._strict.add(model.name)
                        opened = attempt.pop_all()
                except Failure as failure:
                    if self._may_accept_strict_form(failure, model, upstream_request, retry):
                        continue
                    if not self._should_retry(failure, model, retry):
                        raise
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                async with opened:
                    yield sent.omitted, _chained(first, events)
                return

    async def _ask(
        self,
        target: Target,
        upstream_request: UpstreamRequest,
        session: Session,
        retry: _RetryState,
    ) -> tuple[tuple[str, ...], UpstreamAnswer]:
        """Return what of the request is omitted, and the answer."""
        with self._track_request(target, session):
            while True:
                model = await self._wait_until_sendable(target, retry.deadline)
                try:
                    async with self._slot(model, session, retry.deadline) as slot:
                        if slot is not None:
                            model, server = slot
                            sent = self._encoded(model, upstream_request, retry)
                            return sent.omitted, await self._upstream.ask(model, server, sent)
                except Failure as failure:
                    if not self._should_retry(failure, model, retry):
                        raise
                    await asyncio.sleep(RETRY_SECONDS)

    def _encoded(
        self, model: Model, upstream_request: UpstreamRequest, retry: _RetryState
    ) -> EncodedRequest:
        """Return the encoded request, cached per model; a provider's is encoded anew, because its
        key may have changed."""
        if model.provider or retry.encoded is None or retry.encoded_for != model.name:
            retry.encoded = self._upstream.encode(
                model, upstream_request, strict=model.name in self._strict
            )
            retry.encoded_for = model.name
        return retry.encoded

    def _may_accept_strict_form(
        self, failure: Failure, model: Model, upstream_request: UpstreamRequest, retry: _RetryState
    ) -> bool:
        """Tell whether a request that a chat template refused is worth a try in the strict form; if
        that is answered, the model gets it from then on."""
        if not failure.is_template_refusal or model.provider or retry.is_strict:
            return False
        if model.name in self._strict:
            return False
        strict = self._upstream.encode(model, upstream_request, strict=True)
        if retry.encoded is None or strict.body == retry.encoded.body:
            return False
        retry.encoded, retry.is_strict = strict, True
        return True

    @contextmanager
    def _track_request(self, target: Target, session: Session) -> Iterator[None]:
        """Count a request in the queue and on the Lease for as long as it is held or runs.

        Raises `Failure` if the model does not exist, or if its queue is full.
        """
        model = self._registry.models.get(target.model_key)
        if model is None:
            raise loading(
                f"model {target.name}: LlamaModel {target.model_key} does not exist in namespace"
                f" {self._config.namespace} (yet)"
            )
        with self._admission.admit(model, session), self._leases.request(model.name):
            yield

    def _slot(
        self, model: Model, session: Session, deadline: float
    ) -> AbstractAsyncContextManager[tuple[Model, str] | None]:
        """Return a context that waits for a slot of the model, while requests may be sent to it."""

        def current_model() -> Model | None:
            now = self._registry.models.get(model.name)
            return now if now is not None and _is_sendable(now) else None

        return self._admission.slot(current_model, session, deadline=deadline)

    async def _wait_until_sendable(self, target: Target, deadline: float) -> Model:
        """Return the model once requests may be sent to it; raises `Failure` at the deadline, and
        at once for a model that is not coming up."""
        while True:
            model = self._registry.models.get(target.model_key)
            if model is None:
                raise loading(f"model {target.name}: its LlamaModel was deleted")
            allowed = not model.on_demand or await self._leases.may_send(model.name)
            if allowed and _is_sendable(model):
                return model
            passes = model.available or is_coming_up(model)
            if not passes or time.monotonic() > deadline:
                raise loading(f"model {target.name} is not available now: {model.state}")
            with self._held_gauge.track_inprogress():
                await self._registry.wait_for_change(model.name, within_seconds=POLL_SECONDS)

    def _should_retry(self, failure: Failure, model: Model, retry: _RetryState) -> bool:
        """Tell whether to retry a request on the same model; raises `Failure` when a lost
        connection is blamed on the request."""
        now = self._registry.models.get(model.name, model)
        if failure.code == LOST:
            retry.lost += 1
            if retry.lost > MAX_LOST_CONNECTIONS:
                message = f"{failure.message}, for the second time: the request may be the reason"
                raise Failure(502, message)
        # A server that loads again answers 503 before the operator notices. A model whose server is
        # gone counts as available until the operator notices.
        passes = (
            failure.code == LOADING
            or (failure.code == LOST and (len(now.serving) > 1 or not retry.has_others))
            or model.on_demand
            or is_coming_up(now)
        )
        return failure.is_transient and passes and time.monotonic() <= retry.deadline


@dataclass
class _RetryState:
    """A request's deadline, its lost connections, and its encoded form."""

    deadline: float
    lost: int = 0
    has_others: bool = False
    """Whether fallback targets are left."""
    is_strict: bool = False
    """Whether the request is in the form for strict chat templates, after a refusal."""
    encoded: EncodedRequest | None = None
    encoded_for: str = ""
    """Name of the model that `encoded` is for."""


def _is_sendable(model: Model) -> bool:
    """Tell whether a model has a server to send to: an available one, or one that is starting.

    A starting server answers 503 until it has loaded the model.
    """
    return model.available or (is_coming_up(model) and bool(model.starting))


MAX_PREAMBLE_EVENTS = 8
_PREAMBLE = ("message_start", "ping", "response.created", "response.in_progress")


async def _beginning(events: AsyncIterator[SseEvent], model: Model) -> list[SseEvent]:
    """Return the first event of an answer; of a provider's, also those before the first that says
    something, because an error may follow them, and then a fallback can still answer."""
    first: list[SseEvent] = []
    async for event in events:
        first.append(event)
        says = model.provider is None or not _is_preamble(event.value)
        if says or len(first) >= MAX_PREAMBLE_EVENTS:
            break
    return first


def _is_preamble(data: Any) -> bool:
    """Tell whether an event comes before the first text: of any API."""
    if not isinstance(data, dict):
        return False
    choices = data.get("choices")
    if not isinstance(choices, list):
        return data.get("type") in _PREAMBLE
    return all(
        isinstance(choice, dict)
        and choice.get("finish_reason") is None
        and not any(value for name, value in _delta_of(choice).items() if name not in _QUIET)
        for choice in choices
    )


def _delta_of(choice: dict[str, Any]) -> dict[str, Any]:
    delta = choice.get("delta") or choice
    return delta if isinstance(delta, dict) else {"malformed": True}


_QUIET = ("role", "index", "delta", "finish_reason", "logprobs")


async def _chained(first: list[SseEvent], rest: AsyncIterator[SseEvent]) -> AsyncIterator[SseEvent]:
    for event in first:
        yield event
    first.clear()  # free their parsed data: the stream may last long
    async for event in rest:
        yield event

"""When the dispatcher sends a request again, and to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from llama_halo.contract.gateway_config import GatewayConfig
from llama_halo.gateway.apis.exchange import Events
from llama_halo.gateway.apis.upstream_request import UpstreamRequest
from llama_halo.gateway.dispatch.dispatcher import RequestDispatcher
from llama_halo.gateway.dispatch.encode import EncodedRequest
from llama_halo.gateway.dispatch.fast_path import FastPath
from llama_halo.gateway.dispatch.queue import AdmissionQueue
from llama_halo.gateway.dispatch.upstream import UpstreamAnswer, lost
from llama_halo.gateway.http.errors import Failure, loading, unreachable
from llama_halo.gateway.http.sse import SseEvent
from llama_halo.gateway.metrics import GatewayMetrics
from llama_halo.gateway.models.model import Model
from llama_halo.gateway.routing.sessions import Session
from llama_halo.gateway.routing.table import Target
from tests.support.virtual_time import in_virtual_time

ALONE = Model("m", "http://m", True, "Serving", serving=("http://m-0",))
REPLICATED = replace(ALONE, parallel=2, serving=("http://m-0", "http://m-1"))
OTHER = replace(ALONE, name="other", endpoint="http://other", serving=("http://other-0",))
LOST, LOADING = lost(ALONE), loading("it loads")
REFUSED = unreachable("m")
MISTAKE = Failure(400, "messages: missing")
EVENT = SseEvent.of({"choices": []})


@dataclass
class Registry:
    """The models that there are; a wait for a change applies the next one."""

    models: dict[str, Model]
    changes: list[Model] = field(default_factory=list)

    async def wait_for_change(self, name: str, *, within_seconds: float) -> None:
        if self.changes:
            self.models = {**self.models, name: self.changes.pop(0)}


class Leases:
    """Nothing is on demand."""

    @contextmanager
    def request(self, _: str) -> Iterator[None]:
        yield

    async def may_send(self, _: str) -> bool:
        return True


class Upstream:
    """Answers each request with the next outcome: a failure, or None for an answer."""

    def __init__(self, outcomes: list[Failure | None]) -> None:
        self.outcomes = outcomes
        self.sent: list[str] = []
        self.encoded: list[str] = []

    def encode(
        self, model: Model, request: UpstreamRequest, *, strict: bool = False
    ) -> EncodedRequest:
        self.encoded.append(model.name)
        return EncodedRequest(request.path, request.body)

    async def ask(self, model: Model, server: str, _: EncodedRequest) -> UpstreamAnswer:
        self._send(model)
        return UpstreamAnswer("application/json", b"{}")

    @asynccontextmanager
    async def stream(
        self, model: Model, server: str, _: EncodedRequest, __: FastPath
    ) -> AsyncIterator[Events]:
        self._send(model)

        async def events() -> Events:
            yield EVENT

        yield events()

    def _send(self, model: Model) -> None:
        self.sent.append(model.name)
        outcome = self.outcomes.pop(0)
        if outcome is not None:
            raise outcome


@dataclass
class Sent:
    """What became of one request."""

    to: list[str]
    encoded: list[str]
    answered_by: str = ""
    failure: Failure | None = None


async def send(
    outcomes: list[Failure | None],
    *,
    model: Model = ALONE,
    others: tuple[Model, ...] = (),
    streams: bool,
    hold_seconds: float = 600,
    changes: tuple[Model, ...] = (),
) -> Sent:
    """Send one request to a model, with other models as its fallbacks."""
    config = GatewayConfig(router="main", namespace="llm", hold_seconds=hold_seconds)
    registry: Any = Registry({entry.name: entry for entry in (model, *others)}, list(changes))
    leases: Any = Leases()
    upstream: Any = Upstream(outcomes)
    dispatcher = RequestDispatcher(
        config, registry, leases, upstream, AdmissionQueue(), GatewayMetrics()
    )
    targets = [Target(entry.name, entry.name, "explicit") for entry in (model, *others)]
    request = UpstreamRequest("/v1/chat/completions", {"model": "m"})
    sent = Sent(upstream.sent, upstream.encoded)
    try:
        if streams:
            path = FastPath(None)
            async with dispatcher.stream(targets, request, path, session=Session("", "s")) as (
                target,
                events,
            ):
                assert [event async for event in events] == [EVENT]
        else:
            target, _ = await dispatcher.ask(targets, request, session=Session("", "s"))
        sent.answered_by = target.name
    except Failure as failure:
        sent.failure = failure
    return sent


@pytest.fixture(params=[True, False], ids=["streamed", "whole"])
def streams(request: pytest.FixtureRequest) -> Iterator[bool]:
    yield request.param


@in_virtual_time
async def test_a_model_that_loads_again_is_asked_until_it_answers(streams: bool) -> None:
    sent = await send([LOADING, LOADING, LOADING, None], streams=streams)
    assert (sent.to, sent.answered_by) == (["m"] * 4, "m")
    assert sent.encoded == ["m"], "it is encoded once, however often it is sent"


@in_virtual_time
async def test_a_server_that_loses_one_request_gets_it_once_more(streams: bool) -> None:
    sent = await send([LOST, None], streams=streams)
    assert (sent.to, sent.answered_by) == (["m", "m"], "m")


@in_virtual_time
async def test_a_request_that_two_servers_lost_is_not_sent_to_a_third(streams: bool) -> None:
    sent = await send([LOST, LOST, None], model=REPLICATED, others=(OTHER,), streams=streams)
    assert sent.to == ["m", "m"]
    assert sent.failure is not None
    assert sent.failure.status == 502
    assert "the request may be the reason" in sent.failure.message
    assert not sent.failure.allows_fallback


@in_virtual_time
async def test_a_lost_request_goes_to_the_fallback_of_a_model_without_another_replica(
    streams: bool,
) -> None:
    sent = await send([LOST, None], others=(OTHER,), streams=streams)
    assert (sent.to, sent.answered_by) == (["m", "other"], "other")
    assert sent.encoded == ["m", "other"], "each model has its own form of the request"


@in_virtual_time
async def test_a_lost_request_stays_with_a_model_that_has_another_replica(streams: bool) -> None:
    sent = await send([LOST, None], model=REPLICATED, others=(OTHER,), streams=streams)
    assert (sent.to, sent.answered_by) == (["m", "m"], "m")


@in_virtual_time
async def test_a_refused_connection_goes_to_the_fallback(streams: bool) -> None:
    sent = await send([REFUSED, None], others=(OTHER,), streams=streams)
    assert (sent.to, sent.answered_by) == (["m", "other"], "other")
    sent = await send([REFUSED], streams=streams)
    assert (sent.to, sent.failure) == (["m"], REFUSED)


@in_virtual_time
async def test_a_mistake_of_the_client_is_sent_to_nobody_else(streams: bool) -> None:
    sent = await send([MISTAKE, None], others=(OTHER,), streams=streams)
    assert (sent.to, sent.failure) == (["m"], MISTAKE)


@in_virtual_time
async def test_after_the_hold_a_loading_model_is_a_failure(streams: bool) -> None:
    sent = await send([LOADING, None], streams=streams, hold_seconds=-1)
    assert (sent.to, sent.failure) == (["m"], LOADING)


@in_virtual_time
async def test_a_model_that_comes_up_is_waited_for_before_anything_is_sent(streams: bool) -> None:
    absent = replace(ALONE, available=False, state="Loading", serving=())
    sent = await send([None], model=absent, changes=(absent, ALONE), streams=streams)
    assert (sent.to, sent.answered_by) == (["m"], "m")


@in_virtual_time
async def test_a_model_that_is_not_there_is_not_waited_for(streams: bool) -> None:
    stopped = replace(ALONE, available=False, state="InvalidSpec", serving=())
    sent = await send([None], model=stopped, others=(OTHER,), streams=streams)
    assert (sent.to, sent.answered_by) == (["other"], "other")

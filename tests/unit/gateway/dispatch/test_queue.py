"""The admission to a model: slots, a fair queue, and its limits."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace

import pytest

from llama_halo.contract.gateway_config import ProviderConfig
from llama_halo.gateway.dispatch import queue
from llama_halo.gateway.dispatch.queue import MAX_WAITING, MAX_WAITING_OF_SESSION, AdmissionQueue
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.models.model import Model, servers
from llama_halo.gateway.routing.sessions import Session
from tests.support.admission import Requests, model
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_every_slot_of_every_replica_takes_one_request() -> None:
    requests = Requests(AdmissionQueue(), model(parallel=2, replicas=2))
    for _ in range(6):
        await requests.start("a")
    assert (len(requests.order), requests.waiting) == (4, 2)
    assert Counter(requests.servers) == {"http://0": 2, "http://1": 2}, "no server has more"
    await requests.finish_all()
    assert len(requests.order) == 6
    assert requests.in_flight == requests.waiting == 0


@in_virtual_time
async def test_sessions_take_turns() -> None:
    requests = Requests(AdmissionQueue(), model())
    for session in ("a", "a", "a", "a", "b", "c"):
        await requests.start(session)
    await requests.finish_all()
    assert requests.order == ["a", "a", "b", "c", "a", "a"]


@in_virtual_time
async def test_a_cancelled_request_does_not_block_the_queue() -> None:
    requests = Requests(AdmissionQueue(), model())
    for session in ("a", "b", "c", "d"):
        await requests.start(session)
    requests.tasks[1].cancel()
    requests.tasks[0].cancel()
    await asyncio.sleep(0.01)
    assert requests.order == ["a", "c"]
    requests.tasks[3].cancel()
    await requests.finish_all()
    assert requests.in_flight == requests.waiting == 0


@in_virtual_time
async def test_a_request_cancelled_at_its_turn_passes_its_slot_on() -> None:
    requests = Requests(AdmissionQueue(), model())
    for session in ("a", "b", "c"):
        await requests.start(session)
    requests.tasks[0].cancel()
    requests.tasks[1].cancel()
    await asyncio.sleep(0.01)
    assert requests.order == ["a", "c"]
    await requests.finish_all()
    assert requests.in_flight == 0


@in_virtual_time
async def test_a_queue_that_is_full_says_so() -> None:
    requests = Requests(AdmissionQueue(), model())
    for number in range(MAX_WAITING + 1):
        await requests.start(f"a {number % 8}")
    with pytest.raises(Failure) as full, requests.admission.admit(requests.model, Session("", "b")):
        pass
    assert (full.value.status, full.value.retry_after_seconds) == (429, 5)
    await requests.finish_all()


@in_virtual_time
async def test_keys_take_turns_however_many_sessions_one_names() -> None:
    requests = Requests(AdmissionQueue(), model())
    for session in ("first", "a1", "a2", "a3", "a3"):
        await requests.start(session, key="a")
    await requests.start("b1", key="b")
    await requests.finish_all()
    assert requests.order == ["first", "a1", "b1", "a2", "a3", "a3"]


@in_virtual_time
async def test_a_key_that_fills_its_queue_fills_no_other_keys() -> None:
    requests = Requests(AdmissionQueue(), model())
    for number in range(MAX_WAITING + 1):
        await requests.start(f"a {number}", key="a")
    for number in range(MAX_WAITING):
        await requests.start(f"b {number}", key="b")
    for key in ("a", "b"):
        full = requests.admission.admit(requests.model, Session(key, "x"))
        with pytest.raises(Failure), full:
            pass
    await requests.start("c", key="c")
    await requests.finish_all()
    assert requests.order[1:5] == ["a 1", "b 0", "c", "a 2"]


@in_virtual_time
async def test_a_session_goes_to_its_own_server_for_as_long_as_that_has_room() -> None:
    requests = Requests(AdmissionQueue(), model(parallel=1, replicas=4))
    own = servers(requests.model, "a")
    for _ in range(4):
        await requests.start("a")
    assert requests.servers == own
    await requests.finish_all()


@in_virtual_time
async def test_waiting_requests_see_new_servers_and_the_loss_of_all() -> None:
    now: list[Model | None] = [model()]
    admission = AdmissionQueue()
    value: list[object] = []
    go = asyncio.Event()

    async def run() -> None:
        async with admission.slot(lambda: now[0], Session("", "a"), deadline=math.inf) as turn:
            value.append(turn and turn[1])
            await go.wait()

    tasks = [asyncio.create_task(run()) for _ in range(3)]
    await asyncio.sleep(2 * queue.POLL_SECONDS)
    assert value == ["http://0"]
    now[0] = model(replicas=2)
    await asyncio.sleep(2 * queue.POLL_SECONDS)
    assert value == ["http://0", "http://1"]
    now[0] = None
    await asyncio.sleep(2 * queue.POLL_SECONDS)
    assert value == ["http://0", "http://1", None]
    go.set()
    await asyncio.gather(*tasks)
    assert admission.in_flight(model()) == 0


@in_virtual_time
async def test_a_slot_of_a_server_that_is_gone_is_given_to_no_request() -> None:
    admission = AdmissionQueue()
    now = [model()]
    first, second = (
        admission.slot(lambda: now[0], Session("", "a"), deadline=math.inf),
        admission.slot(lambda: now[0], Session("", "b"), deadline=math.inf),
    )
    await first.__aenter__()
    waiting = asyncio.create_task(second.__aenter__())
    await asyncio.sleep(0)
    now[0] = replace(model(), serving=("http://new",))
    await first.__aexit__(None, None, None)
    turn = await waiting
    assert turn is not None
    assert turn[1] == "http://new"
    await second.__aexit__(None, None, None)


@in_virtual_time
async def test_one_session_leaves_room_in_the_queue_for_others() -> None:
    requests = Requests(AdmissionQueue(), model(parallel=2))
    for _ in range(2 + MAX_WAITING_OF_SESSION):
        await requests.start("a")
    with pytest.raises(Failure) as full, requests.admission.admit(requests.model, Session("", "a")):
        pass
    assert full.value.status == 429
    await requests.start("b")
    assert requests.waiting == MAX_WAITING_OF_SESSION + 1
    await requests.finish_all()


@in_virtual_time
async def test_no_request_waits_longer_than_the_hold() -> None:
    admission, busy = AdmissionQueue(), model()
    async with admission.slot(lambda: busy, Session("", "a"), deadline=math.inf):
        with pytest.raises(Failure) as over:
            async with admission.slot(lambda: busy, Session("", "b"), deadline=0):
                pass
        assert over.value.status == 429
    async with admission.slot(lambda: busy, Session("", "b"), deadline=0) as turn:
        assert turn is not None, "a request with a free slot does not wait"


@in_virtual_time
async def test_a_model_that_comes_up_has_no_more_waiting_for_it_than_one_that_works() -> None:
    admission = AdmissionQueue()
    loading = replace(model(), available=False, serving=(), state="Loading")
    with ExitStack() as stack:
        for number in range(MAX_WAITING):
            stack.enter_context(admission.admit(loading, Session("", str(number % 8))))
        with pytest.raises(Failure) as full, admission.admit(loading, Session("", "z")):
            pass
        assert full.value.status == 429
    with admission.admit(loading, Session("", "z")):
        assert admission.waiting(loading) == 1


@in_virtual_time
async def test_the_models_of_a_provider_have_one_limit_together() -> None:
    provider = ProviderConfig(name="p", protocol="OpenAI", base_url="http://p", max_concurrent=1)
    one, other = (
        Model(f"p/{name}", "http://p", True, "Elsewhere", parallel=1, provider=provider)
        for name in ("one", "other")
    )
    admission = AdmissionQueue()
    async with admission.slot(lambda: one, Session("", "a"), deadline=math.inf):
        waiting = asyncio.create_task(
            admission.slot(lambda: other, Session("", "b"), deadline=math.inf).__aenter__()
        )
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()

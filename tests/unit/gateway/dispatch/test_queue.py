"""The admission to a model: slots, a fair queue, and who may come in at all."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from llama_halo.contract.gateway_config import GatewayConfig, Provider
from llama_halo.gateway import auth, ui
from llama_halo.gateway.apis.client_api import ANTHROPIC
from llama_halo.gateway.auth import Keys
from llama_halo.gateway.dispatch import queue
from llama_halo.gateway.dispatch.queue import MOST_OF_ONE, MOST_WAITING, AdmissionQueue
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.models.model import Model, servers
from llama_halo.gateway.request_record import RequestRecord
from llama_halo.gateway.routing.table import RoutingTable, Target
from tests.support.virtual_time import in_virtual_time


def model(parallel: int = 1, replicas: int = 1) -> Model:
    servers = tuple(f"http://{index}" for index in range(replicas))
    return Model("m", "http://m", True, "Serving", parallel=parallel, serving=servers)


class Visitors:
    """Requests that come and stay until they are told to go."""

    def __init__(self, admission: AdmissionQueue, which: Model) -> None:
        self.admission, self.model = admission, which
        self.order: list[str] = []
        self.servers: list[str] = []
        self.go = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    async def come(self, session: str) -> None:
        async def visit() -> None:
            with self.admission.admit(self.model, session):
                async with self.admission.slot(
                    lambda: self.model, session, deadline=math.inf
                ) as turn:
                    assert turn is not None
                    self.order.append(session)
                    self.servers.append(turn[1])
                    await self.go.wait()

        self.tasks.append(asyncio.create_task(visit()))
        await asyncio.sleep(0)

    @property
    def waiting(self) -> int:
        return self.admission.waiting(self.model)

    @property
    def inside(self) -> int:
        return self.admission.in_flight(self.model)

    async def all_go(self) -> None:
        self.go.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@in_virtual_time
async def test_as_many_come_in_as_there_are_slots_of_all_replicas() -> None:
    visitors = Visitors(AdmissionQueue(), model(parallel=2, replicas=2))
    for _ in range(6):
        await visitors.come("a")
    assert (len(visitors.order), visitors.waiting) == (4, 2)
    assert Counter(visitors.servers) == {"http://0": 2, "http://1": 2}, "no server has more"
    await visitors.all_go()
    assert len(visitors.order) == 6
    assert visitors.inside == visitors.waiting == 0


@in_virtual_time
async def test_sessions_take_turns() -> None:
    visitors = Visitors(AdmissionQueue(), model())
    for session in ("a", "a", "a", "a", "b", "c"):
        await visitors.come(session)
    await visitors.all_go()
    assert visitors.order == ["a", "a", "b", "c", "a", "a"]


@in_virtual_time
async def test_who_leaves_the_line_or_is_cut_keeps_nobody_out() -> None:
    visitors = Visitors(AdmissionQueue(), model())
    for session in ("a", "b", "c", "d"):
        await visitors.come(session)
    visitors.tasks[1].cancel()
    visitors.tasks[0].cancel()
    await asyncio.sleep(0.01)
    assert visitors.order == ["a", "c"]
    visitors.tasks[3].cancel()
    await visitors.all_go()
    assert visitors.inside == visitors.waiting == 0


@in_virtual_time
async def test_who_is_cancelled_as_it_is_let_in_gives_its_slot_on() -> None:
    visitors = Visitors(AdmissionQueue(), model())
    for session in ("a", "b", "c"):
        await visitors.come(session)
    visitors.tasks[0].cancel()
    visitors.tasks[1].cancel()
    await asyncio.sleep(0.01)
    assert visitors.order == ["a", "c"]
    await visitors.all_go()
    assert visitors.inside == 0


@in_virtual_time
async def test_a_queue_that_is_full_says_so() -> None:
    visitors = Visitors(AdmissionQueue(), model())
    for number in range(MOST_WAITING + 1):
        await visitors.come(f"a {number % 8}")
    with pytest.raises(Failure) as full, visitors.admission.admit(visitors.model, "b"):
        pass
    assert (full.value.status, full.value.retry_after_seconds) == (429, 5)
    await visitors.all_go()


@in_virtual_time
async def test_a_session_goes_to_its_own_server_for_as_long_as_that_has_room() -> None:
    visitors = Visitors(AdmissionQueue(), model(parallel=1, replicas=4))
    own = servers(visitors.model, "a")
    for _ in range(4):
        await visitors.come("a")
    assert visitors.servers == own
    await visitors.all_go()


@in_virtual_time
async def test_who_waits_is_told_when_there_are_more_servers_and_when_there_are_none() -> None:
    now: list[Model | None] = [model()]
    admission = AdmissionQueue()
    value: list[object] = []
    go = asyncio.Event()

    async def visit() -> None:
        async with admission.slot(lambda: now[0], "a", deadline=math.inf) as turn:
            value.append(turn and turn[1])
            await go.wait()

    tasks = [asyncio.create_task(visit()) for _ in range(3)]
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
async def test_a_server_that_is_gone_gets_nobody_by_a_slot_that_it_gives_back() -> None:
    admission = AdmissionQueue()
    now = [model()]
    first, second = (
        admission.slot(lambda: now[0], "a", deadline=math.inf),
        admission.slot(lambda: now[0], "b", deadline=math.inf),
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
    visitors = Visitors(AdmissionQueue(), model(parallel=2))
    for _ in range(2 + MOST_OF_ONE):
        await visitors.come("a")
    with pytest.raises(Failure) as full, visitors.admission.admit(visitors.model, "a"):
        pass
    assert full.value.status == 429
    await visitors.come("b")
    assert visitors.waiting == MOST_OF_ONE + 1
    await visitors.all_go()


@in_virtual_time
async def test_nobody_waits_in_line_for_longer_than_requests_are_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "POLL_SECONDS", 0.01)
    admission, busy = AdmissionQueue(), model()
    async with admission.slot(lambda: busy, "a", deadline=math.inf):
        with pytest.raises(Failure) as over:
            async with admission.slot(lambda: busy, "b", deadline=time.monotonic() + 0.05):
                pass
        assert over.value.status == 429
    async with admission.slot(lambda: busy, "b", deadline=0) as turn:
        assert turn is not None, "who need not wait has come in time"


@in_virtual_time
async def test_a_model_that_comes_up_has_no_more_waiting_for_it_than_one_that_works() -> None:
    admission = AdmissionQueue()
    loading = replace(model(), available=False, serving=(), state="Loading")
    with ExitStack() as stack:
        for number in range(MOST_WAITING):
            stack.enter_context(admission.admit(loading, str(number % 8)))
        with pytest.raises(Failure) as full, admission.admit(loading, "z"):
            pass
        assert full.value.status == 429
    with admission.admit(loading, "z"):
        assert admission.waiting(loading) == 1


@in_virtual_time
async def test_the_models_of_a_provider_have_one_limit_together() -> None:
    provider = Provider(name="p", protocol="OpenAI", base_url="http://p", max_concurrent=1)
    one, other = (
        Model(f"p/{name}", "http://p", True, "Elsewhere", parallel=1, provider=provider)
        for name in ("one", "other")
    )
    admission = AdmissionQueue()
    async with admission.slot(lambda: one, "a", deadline=math.inf):
        waiting = asyncio.create_task(
            admission.slot(lambda: other, "b", deadline=math.inf).__aenter__()
        )
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()


@in_virtual_time
async def test_the_status_page_is_told_what_there_is() -> None:
    config = GatewayConfig.model_validate(
        {
            "router": "main",
            "namespace": "llm",
            "models": [{"name": name, "llama_model": name} for name in ("m", "gone")],
            "routes": {"default": "m"},
        }
    )
    visitors = Visitors(AdmissionQueue(), model(parallel=2))
    for _ in range(3):
        await visitors.come("a")
    record = RequestRecord(ANTHROPIC, "claude-code", target=Target("m", "m", "default"))
    snapshot = ui.snapshot(
        RoutingTable.build(config, {"m": visitors.model}), visitors.admission, [record], {"m": 7}
    )
    first, second = snapshot["models"]
    assert (first["working"], first["slots"], first["waiting"], first["answered"]) == (2, 2, 1, 7)
    assert second["state"] == "not found"
    (message,) = snapshot["calls"]
    assert (message["client"], message["model"], message["route"]) == (
        "claude-code",
        "m",
        "default",
    )
    assert snapshot["routes"] == {"default": "m"}
    await visitors.all_go()


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = ui.page()
    assert "http" not in page.replace("http-equiv", "")
    assert "innerHTML" not in page, "names come from resources: they are text"


KEY, OTHER = "k" * 20, "o" * 20


def passes(keys: Keys, **headers: str) -> bool:
    try:
        keys.check({name.replace("_", "-"): value for name, value in headers.items()})
    except Failure as failure:
        assert failure.status == 401
        assert KEY not in failure.message
        return False
    return True


def test_any_key_of_the_folder_opens_in_any_of_the_apis_ways(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text(f"{KEY}\n")
    (tmp_path / "bob").write_text(OTHER)
    (tmp_path / "short").write_text("secret")
    (tmp_path / "..data").write_text("d" * 20)
    keys = Keys(tmp_path)
    assert passes(keys, authorization=f"Bearer {KEY}")
    assert passes(keys, x_api_key=OTHER)
    assert passes(keys, api_key=KEY)
    assert passes(keys, authorization="Bearer wrong", x_api_key=KEY), "any that is right will do"
    for wrong in ({}, {"x_api_key": "secret"}, {"x_api_key": KEY[:-1]}, {"x_api_key": "d" * 20}):
        assert not passes(keys, **wrong)
    assert not passes(keys, authorization=f"Basic {KEY}")
    assert not passes(keys, authorization="Bearer \udcff")


def test_keys_are_read_again_and_never_lost_to_a_folder_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "alice").write_text(KEY)
    monkeypatch.setattr(auth, "REREAD_SECONDS", 0.0)
    keys = Keys(folder)
    assert passes(keys, x_api_key=KEY)
    (folder / "alice").write_text(OTHER)
    assert passes(keys, x_api_key=OTHER)
    assert not passes(keys, x_api_key=KEY)
    folder.rename(tmp_path / "away")
    assert passes(keys, x_api_key=OTHER)


def test_without_any_usable_key_nobody_may(tmp_path: Path) -> None:
    assert not passes(Keys(tmp_path), x_api_key=KEY)
    assert not passes(Keys(tmp_path / "none"), x_api_key=KEY)
    assert passes(Keys(None))

"""What must not become of the gateway, its models and its other clients when something breaks."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from llama_halo.contract.gateway_config import GatewayConfig
from tests.support.api import Api, eventually
from tests.support.gateway import NAMESPACE, Process, SetModel, StartGateway
from tests.support.scripted_server import Scripted, scripted
from tests.support.tcp_proxy import opened_proxy

pytestmark = pytest.mark.slow

Json = dict[str, Any]
NAMES = ("one", "spare", "large", "brief")
TEXT = "Hello world!"
QUESTION: list[Any] = [{"role": "user", "content": "What is 2+2?"}]
LARGE = 4000
"""Repetitions of the text, as events more than a mebibyte."""
STREAMS = {
    "/v1/messages": "timeout_error",
    "/v1/chat/completions": "sent no data",
    "/v1/responses": "response.failed",
    "/api/chat": '"error"',
}


@dataclass
class World:
    """A gateway that loses patience soon, and its models' servers."""

    gateway: Process
    servers: dict[str, Scripted]
    set_model: SetModel

    def post(self, path: str, body: Json, **more: Any) -> httpx.Response:
        return httpx.post(f"{self.gateway.url}{path}", json=body, timeout=60, **more)

    def ask(self, model: str, **more: Any) -> httpx.Response:
        return self.post("/v1/chat/completions", {"model": model, "messages": QUESTION, **more})

    def __getitem__(self, name: str) -> Scripted:
        return self.servers[name]


CONFIG: Json = {
    "router": "faults",
    "namespace": NAMESPACE,
    "models": [{"name": name, "llama_model": f"f-{name}"} for name in NAMES],
    "fallbacks": {"one": ["spare"]},
    "hold_seconds": 5,
    "ping_seconds": 1,
    "silence_seconds": 2,
}


@pytest.fixture(scope="module")
def faults(set_model: SetModel, start_gateway: StartGateway) -> Iterator[World]:
    with ExitStack() as stack:
        servers = {name: stack.enter_context(scripted()) for name in ("one", "spare")}
        servers["large"] = stack.enter_context(scripted(repeat=LARGE))
        servers["brief"] = stack.enter_context(scripted(idle_seconds=0.3))
        for name, server in servers.items():
            mode = "Embedding" if name == "brief" else "Chat"
            set_model(f"f-{name}", server.url, parallel=64, mode=mode)
        yield World(start_gateway(GatewayConfig.model_validate(CONFIG)), servers, set_model)


@pytest.fixture
def world(faults: World) -> World:
    """Servers that answer and that nobody has a connection to: the gateway sends a request again
    at once when a connection that it kept is closed, and tests count requests."""
    for server in faults.servers.values():
        server.mode, server.hang_ups = "ok", 0
        server.drop_connections()
        server.asked.clear()
    return faults


def test_a_request_that_kills_its_server_is_not_passed_round(world: World) -> None:
    world["one"].mode = world["spare"].mode = "hang up"
    for stream in (False, True):
        for server in (world["one"], world["spare"]):
            server.drop_connections()
            server.asked.clear()
        answer = world.ask("one", stream=stream)
        assert "the request may be the reason" in answer.text
        assert len(world["one"].asked) + len(world["spare"].asked) == 2
    assert world.ask("large").status_code == 200


def test_one_whose_only_server_goes_away_is_sent_again_before_anybody_has_seen_it(
    world: World,
) -> None:
    world["spare"].hang_ups = 1
    assert world.ask("spare").json()["choices"][0]["message"]["content"] == TEXT
    assert len(world["spare"].asked) == 2


def test_requests_that_fail_leave_nothing_in_memory(world: World) -> None:
    """Cycles are collected seldom, so none may hold a body."""
    world["spare"].mode = "overflow"
    large = [{"role": "user", "content": "x" * 4_000_000}]
    before = 0.0
    for number in range(40):
        body = {"model": "spare", "messages": large, "stream": bool(number % 2)}
        assert world.post("/v1/chat/completions", body).status_code == 400
        if number == 7:
            before = memory_mib(world.gateway)
    assert memory_mib(world.gateway) - before < 40


def test_nothing_is_fetched_for_a_request(world: World) -> None:
    image = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/", "data": "AA"}}
    asked = [{"role": "user", "content": [{"type": "text", "text": "x"}, image]}]
    answer = world.post("/v1/chat/completions", {"model": "spare", "messages": asked})
    assert answer.status_code == 400
    assert "which is not fetched" in answer.text
    body = {"model": "spare", "prompt": "x", "system": [image]}
    assert world.post("/api/generate", body).status_code == 400
    assert not world["spare"].asked


def test_one_that_kills_its_server_once_is_answered_by_another(world: World) -> None:
    world["one"].mode = "hang up"
    assert world.ask("one").json()["choices"][0]["message"]["content"] == TEXT
    assert (len(world["one"].asked), len(world["spare"].asked)) == (1, 1)


@pytest.mark.parametrize("path", STREAMS)
def test_a_server_that_falls_silent_in_an_answer_is_told_of_in_time(
    world: World, path: str
) -> None:
    world["spare"].mode = "silent"
    body = {"model": "spare", "stream": True, "max_tokens": 9, "messages": QUESTION, "input": "x"}
    started = time.monotonic()
    text = world.post(path, body).text
    assert time.monotonic() - started < 8
    assert STREAMS[path] in text
    assert "[DONE]" not in text
    whole = world.post(path, {**body, "stream": False})
    assert whole.status_code == 504
    eventually(lambda: world["spare"].working == 0, description="its connection is closed")


def test_fifty_slow_readers_cost_little_memory_and_nobody_elses_time(world: World) -> None:
    """Each has a mebibyte to come and reads a kilobyte a second."""
    host, _, port = world.gateway.url.removeprefix("http://").partition(":")
    body = json.dumps({"model": "large", "messages": QUESTION, "stream": True})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    before = memory_mib(world.gateway)
    with ExitStack() as stack:
        for _ in range(50):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect((host, int(port)))
            reader.sendall((head + body).encode())
            threading.Thread(target=_read_slowly, args=(reader,), daemon=True).start()
        eventually(lambda: len(world["large"].asked) == 50, seconds=20)
        time.sleep(3)
        for _ in range(5):
            started = time.monotonic()
            assert world.ask("one").status_code == 200
            assert time.monotonic() - started < 2
        assert memory_mib(world.gateway) - before < 50
    eventually(lambda: world["large"].working == 0, seconds=20, description="all are gone")
    idle = "llama_halo_gateway_requests_in_flight 0.0"
    eventually(lambda: idle in httpx.get(f"{world.gateway.url}/metrics").text)


def _read_slowly(reader: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while reader.recv(1024):
            time.sleep(1)


def memory_mib(gateway: Process) -> float:
    for line in Path(f"/proc/{gateway.popen.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the gateway is gone")


def test_a_connection_that_the_server_closes_as_it_is_used_again_costs_nobody_an_answer(
    world: World,
) -> None:
    """Two hundred requests, each when the server ends the connection of the one before."""

    def ask(number: int) -> list[int]:
        body = {"model": "brief", "input": f"x {number}"}
        value = []
        with httpx.Client() as client:
            for step in range(20):
                answer = client.post(f"{world.gateway.url}/v1/embeddings", json=body)
                value.append(answer.status_code)
                time.sleep(0.29 + 0.001 * step)
        return value

    with ThreadPoolExecutor(10) as pool:
        codes = [code for value in pool.map(ask, range(10)) for code in value]
    assert codes == [200] * 200


def test_a_hostile_body_is_refused_before_it_costs_memory(world: World) -> None:
    before = memory_mib(world.gateway)
    bomb = b'{"model":"one","messages":[' + b"{}," * 5_000_000 + b"{}]}"
    url = f"{world.gateway.url}/v1/chat/completions"
    assert httpx.post(url, content=bomb, timeout=30).status_code == 413
    nested = b'{"model":"one","messages":' + b"[" * 900 + b"]" * 900 + b"}"
    assert httpx.post(url, content=nested).status_code == 400
    deep = b'{"model":"one","messages":[{"role":"user","content":"x"}],"x":' + b"[" * 975
    assert httpx.post(url, content=deep + b"]" * 975 + b"}").status_code in (200, 400)
    squeezed = {"Content-Encoding": "gzip"}
    assert httpx.post(url, content=b"no gzip", headers=squeezed).status_code == 400
    assert memory_mib(world.gateway) - before < 100


def test_without_the_api_server_everything_goes_on(
    api: Api,
    set_model: SetModel,
    start_gateway: StartGateway,
    request: pytest.FixtureRequest,
) -> None:
    """Five minutes of it in `make soak`: who answers goes on answering, on demand or not."""
    seconds = 300 if request.config.getoption("--soak") else 20
    host, _, port = api.server.removeprefix("https://").partition(":")
    with scripted() as server, opened_proxy(host, int(port)) as proxy:
        set_model("f-away", server.url)
        head = {"apiVersion": "llama-halo.dev/v1alpha1", "kind": "LlamaModel"}
        set_model("f-wakes", server.url)
        spec = {"spec": {"activation": {"onDemand": {}}}}
        api.patch("LlamaModel", NAMESPACE, "f-wakes", {**head, **spec})
        models = [{"name": name, "llama_model": f"f-{name}"} for name in ("away", "wakes")]
        config = {**CONFIG, "models": models, "fallbacks": {}}
        gateway = start_gateway(
            GatewayConfig.model_validate(config), "--api-server", f"https://{host}:{proxy.port}"
        )
        url = f"{gateway.url}/v1/chat/completions"
        proxy.close()
        ending = time.monotonic() + seconds
        while time.monotonic() < ending:
            for name in ("away", "wakes"):
                body = {"model": name, "messages": QUESTION}
                answer = httpx.post(url, json=body, timeout=30)
                assert answer.status_code == 200, answer.text
            assert httpx.get(f"{gateway.url}/readyz").status_code == 200
            time.sleep(0.5)
        proxy.open()
        set_model("f-away", server.url, available=False, state="Stopped")
        eventually(
            lambda: (
                httpx.post(url, json={"model": "away", "messages": QUESTION}).status_code == 503
            ),
            seconds=40,
            description="the gateway sees the cluster again",
        )

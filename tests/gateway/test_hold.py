"""Held requests: a real gateway, a real API server, a real llama-server that comes and goes, and
the operator's own unloading.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from hack.testbed.cluster import Testbed
from llama_halo.contract.gateway_config import GatewayConfig
from llama_halo.contract.lease import Phase
from llama_halo.controllers import triggers
from llama_halo.controllers.placement import unloader
from llama_halo.controllers.state import OperatorState
from llama_halo.kube.cache import Key, ObjectCache
from llama_halo.kube.client import KubeClient
from llama_halo.kube.pods import PodClient
from llama_halo.kube.resources import LEASE, LLAMAMODEL
from llama_halo.kube.workqueue import Queue
from llama_halo.metrics import OperatorMetrics
from llama_halo.settings import Settings
from tests.support.api import Api, administrators, eventually
from tests.support.gateway import NAMESPACE, Process, StartGateway
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.slow

QUESTION: list[Any] = [{"role": "user", "content": "What is 2+2?"}]
Json = dict[str, Any]
RACES, RACERS = 500, 10


def proxy_of(server: Process) -> TcpProxy:
    """Return a proxy in front of llama-server, which goes as a pod goes when it is closed."""
    return TcpProxy("127.0.0.1", int(server.url.rpartition(":")[2]))


class Operator:
    """The operator's part by hand, but for unloading, which is its own code: the phase on the
    Lease, the pod (the proxy), and the status."""

    def __init__(self, api: Api, proxy: TcpProxy, name: str) -> None:
        self.api, self.proxy, self.name = api, proxy, name
        self.url = f"http://127.0.0.1:{proxy.port}"
        metadata = {"name": name, "namespace": NAMESPACE}
        spec: Json = {
            "source": {"local": {"path": "x.gguf"}},
            "contextSize": 2048,
            "activation": {"onDemand": {}},
        }
        head = {"apiVersion": "llama-halo.dev/v1alpha1", "kind": "LlamaModel"}
        self.cr = api.apply({**head, "metadata": metadata, "spec": spec})
        self.phase("Idle")
        self.status("Idle")

    def phase(self, phase: str) -> None:
        metadata = {
            "name": f"llama-halo-{self.name}",
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/managed-by": "llama-halo"},
            "annotations": {"llama-halo.dev/phase": phase},
        }
        lease = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata}
        self.api.apply(lease, manager="llama-halo")

    def status(self, reason: str) -> None:
        state = "True" if reason == "Serving" else "False"
        conditions = [
            {
                "type": kind,
                "status": state,
                "reason": reason,
                "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            for kind in ("Ready", "Available")
        ]
        address = self.url.removeprefix("http://")
        present = [{"node": "n1", "reason": reason, "address": address}] if reason != "Idle" else []
        status = {"endpoint": self.url, "conditions": conditions, "placements": present}
        self.api.patch(
            "LlamaModel", NAMESPACE, self.name, {"status": status}, subresource="/status"
        )

    def spec(self, **changed: Any) -> None:
        self.api.patch("LlamaModel", NAMESPACE, self.name, {"spec": changed})

    def entries(self) -> list[str]:
        lease = self.api.get("Lease", NAMESPACE, f"llama-halo-{self.name}") or {}
        annotations = lease.get("metadata", {}).get("annotations", {})
        return [text for key, text in annotations.items() if key.startswith("gateway.")]

    def is_wanted(self) -> bool:
        return any(int(text.rpartition("/")[2]) for text in self.entries())

    def load(self) -> None:
        self.phase("Loaded")
        self.proxy.open()
        self.status("Serving")


@pytest.fixture
def proxy(llama_server: Process) -> Iterator[TcpProxy]:
    value = proxy_of(llama_server)
    yield value
    value.close()


@pytest.fixture
def operator(api: Api, proxy: TcpProxy, request: pytest.FixtureRequest) -> Operator:
    return Operator(api, proxy, f"d{abs(hash(request.node.name)) % 10**8}")


@pytest.fixture
def url(operator: Operator, start_gateway: StartGateway) -> str:
    config = {
        "router": "main",
        "namespace": NAMESPACE,
        "models": [{"name": "m", "llama_model": operator.name}],
        "hold_seconds": 30,
        "ping_seconds": 1,
    }
    return start_gateway(GatewayConfig.model_validate(config)).url


def ask(
    url: str,
    path: str = "/v1/messages",
    *,
    model: str = "m",
    tokens: int = 8,
    stream: bool = True,
) -> str:
    """Return the lines of a stream or a whole answer; raises for anything that is no success."""
    body = {"model": model, "max_tokens": tokens, "messages": QUESTION, "stream": stream}
    answer = httpx.post(f"{url}{path}", json=body, timeout=60)
    assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
    return answer.text


def whole(text: str) -> bool:
    return "message_stop" in text and "event: error" not in text


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("path", "ping"),
    [("/v1/messages", 'event: ping\ndata: {"type":"ping"}'), ("/v1/chat/completions", ": keep")],
)
def test_a_request_for_a_model_that_sleeps_says_so_and_is_held(
    operator: Operator, url: str, path: str, ping: str, stream: bool
) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, url, path, stream=stream)
        eventually(operator.is_wanted)
        time.sleep(2.5)
        assert not answer.done()
        operator.load()
        text = answer.result(timeout=30)
    assert (ping in text) is stream
    eventually(
        lambda: not operator.is_wanted(),
        description="it says that it has nothing in flight any more",
    )


def test_a_long_stream_is_said_again_every_five_seconds(operator: Operator, url: str) -> None:
    operator.load()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, url, tokens=1200)
        first = eventually(operator.entries)
        eventually(lambda: operator.entries() != first, seconds=8)
        assert operator.is_wanted()
        answer.result()


def test_a_stream_that_was_there_first_is_told_of_once_changes_wait_for_it(
    operator: Operator, url: str
) -> None:
    operator.load()
    operator.spec(activation=None)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, url, tokens=1200)
        time.sleep(2)
        assert operator.entries() == [], "of a model that is always on nothing is said"
        operator.spec(update={"mode": "WhenIdle"})
        eventually(operator.is_wanted, seconds=5)
        answer.result()
    eventually(lambda: not operator.is_wanted())
    operator.spec(update=None)
    entries = operator.entries()
    ask(url)
    time.sleep(2)
    assert operator.entries() == entries


def test_a_model_that_is_always_on_does_not_wait_for_its_lease(
    operator: Operator, url: str
) -> None:
    operator.load()
    operator.spec(activation=None, update={"mode": "WhenIdle"})
    operator.phase("Unloading")
    assert whole(ask(url))
    eventually(operator.entries, description="it is told all the same")


def test_a_model_that_does_not_come_up_is_503_after_the_hold(
    api: Api, proxy: TcpProxy, operator: Operator, start_gateway: StartGateway
) -> None:
    config = {
        "router": "main",
        "namespace": NAMESPACE,
        "models": [{"name": "m", "llama_model": operator.name}],
        "hold_seconds": 3,
        "ping_seconds": 1,
    }
    gateway = start_gateway(GatewayConfig.model_validate(config))
    body = {"model": "m", "max_tokens": 8, "messages": QUESTION}
    answer = httpx.post(f"{gateway.url}/v1/messages", json=body, timeout=30)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "20")
    streamed = httpx.post(f"{gateway.url}/v1/messages", json={**body, "stream": True}, timeout=30)
    assert streamed.status_code == 200, "pings had been sent by then"
    assert "event: error" in streamed.text


def test_a_model_with_a_mistake_is_not_waited_for(operator: Operator, url: str) -> None:
    operator.status("NotAGGUF")
    body = {"model": "m", "max_tokens": 8, "messages": QUESTION}
    started = time.monotonic()
    answer = httpx.post(f"{url}/v1/messages", json=body, timeout=30)
    assert answer.status_code == 503
    assert "NotAGGUF" in answer.text
    assert time.monotonic() - started < 10


def test_a_model_that_goes_before_the_first_byte_is_waited_for_again(
    operator: Operator, proxy: TcpProxy, url: str
) -> None:
    operator.phase("Loaded")
    operator.status("Serving")  # as it is told for a moment; nobody is behind the proxy
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, url)
        time.sleep(5)
        assert not answer.done()
        proxy.open()
        assert whole(answer.result(timeout=30))


class Racer:
    """One model, its requests, and the operator's own unloading, again and again."""

    def __init__(self, operator: Operator, url: str, seed: int) -> None:
        self.operator, self.url = operator, url
        self.chance = random.Random(seed)  # noqa: S311
        self.unloads = self.stayed = 0

    def run(self, rounds: int) -> None:
        self.operator.load()
        for _ in range(rounds):
            # All is said and done: a gateway that wants the model has to say so first.
            eventually(lambda: not self.operator.is_wanted(), seconds=30)
            with ThreadPoolExecutor(1) as pool:
                answer, phase = asyncio.run(self._race(pool))
                if phase is Phase.IDLE:
                    self.unloads += 1
                    self.operator.proxy.close()
                    self.operator.status("Idle")
                    eventually(self.operator.is_wanted, seconds=30)
                    self.operator.load()
                else:
                    self.stayed += 1
                text = answer.result(timeout=60)
                assert whole(text), text

    async def _race(self, pool: ThreadPoolExecutor) -> tuple[Future[str], Phase]:
        """Send a request, and unload the model from what the operator would know by now."""
        cluster = await KubeClient.connect()
        state = OperatorState(
            cluster=cluster,
            cache=ObjectCache(),
            queue=Queue(),
            pods=PodClient(),
            settings=Settings(),
            metrics=OperatorMetrics(),
            handle_change=triggers.handle,
        )
        triggers.listen(state)
        key = Key(LLAMAMODEL.kind, NAMESPACE, self.operator.name)
        try:
            for resource, name in ((LLAMAMODEL, key.name), (LEASE, f"llama-halo-{key.name}")):
                state.cache.observe(await cluster.get(resource, NAMESPACE, name))
            answer = pool.submit(ask, self.url, model=self.operator.name, tokens=2)
            await asyncio.sleep(self.chance.uniform(0, 0.3))
            await unloader.unload(state, key)
            return answer, state.placement.lease_activity.phase(key)
        finally:
            await state.pods.close()
            await cluster.close()


def test_unloading_races_requests_and_nothing_is_cut(
    api: Api,
    llama_server: Process,
    start_gateway: StartGateway,
    control_plane: Testbed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Requests begin at any moment around the steps of an unload. Who is shut out is held; who is
    in is never thrown out."""
    monkeypatch.setenv("KUBECONFIG", str(administrators(control_plane.kubeconfig, tmp_path)))
    operators = [Operator(api, proxy_of(llama_server), f"race{number}") for number in range(RACERS)]
    models = [{"name": item.name, "llama_model": item.name} for item in operators]
    config = {"router": "main", "namespace": NAMESPACE, "models": models, "hold_seconds": 60}
    url = start_gateway(GatewayConfig.model_validate(config)).url
    racers = [Racer(item, url, seed) for seed, item in enumerate(operators)]
    with ThreadPoolExecutor(RACERS) as pool:
        list(pool.map(lambda racer: racer.run(RACES // RACERS), racers))
    for item in operators:
        item.proxy.close()
    unloads, stayed = (
        sum(getattr(racer, description) for racer in racers)
        for description in ("unloads", "stayed")
    )
    print(f"{RACES} races: unloaded {unloads} times, stayed {stayed} times, nothing cut")
    assert min(unloads, stayed) > RACES / 25

"""Models on demand on a real node: woken by a request, held for it, unloaded for another one."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from hack.testbed import llama_server
from hack.testbed.ports import free_port
from tests.support.api import eventually, ready
from tests.support.kubectl import Kubectl
from tests.support.manifests import router, smollm2

Json = dict[str, Any]
NAMES = ("red", "green", "blue")
# Pods of other tests' models may still be ending.
OURS = f"llama-halo.dev/model in ({','.join(NAMES)})"
QUESTION: list[Any] = [{"role": "user", "content": "What is 2+2?"}]


def on_demand(name: str, host_mib: int, **more: Any) -> Json:
    """Return a small model that claims so much memory, whatever it uses, and ends no answer by
    itself: a long one is to be long, whatever it happens to say."""
    activation = {"onDemand": {"minResident": "0s", "idleTimeout": "5m", **more}}
    memory = {"host": f"{host_mib}Mi"}
    return smollm2(name, memory=memory, activation=activation, extraArgs=["--ignore-eos"])


@pytest.fixture(scope="module")
def room(kube: Kubectl) -> int:
    """Memory of a model, MiB, of which the node holds two."""
    node = kube.list("nodes")[0]
    allocatable: str = node["status"]["allocatable"]["memory"]
    return int(allocatable.removesuffix("Ki")) // 1024 * 2 // 5


@pytest.fixture(scope="module")
def gateways(kube: Kubectl, room: int) -> Iterator[list[str]]:
    """Two gateways in front of three models, of which two fit."""
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")
    for name in NAMES:
        kube.apply(on_demand(name, room))
    models = [{"name": name, "modelRef": {"name": name}} for name in NAMES]
    shared = router(models=models, replicas=2, routes={"default": "red"})
    shared["metadata"]["name"] = "shared"  # pods of an earlier one may still drain
    kube.apply(shared)
    kube.wait_ready(*(f"llamamodel/{name}" for name in NAMES), "modelrouter/shared")
    states = {ready(kube.get(f"llamamodel/{name}"))[1] for name in NAMES}
    assert states == {"Idle"}, "nobody wants them yet"
    pods = kube.list("pods", "llama-halo.dev/router=shared")
    with ExitStack() as stack:
        names = [f"pod/{pod['metadata']['name']}" for pod in pods]
        yield [stack.enter_context(kube.forwarded(name)) for name in names]
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")


class Watch:
    """What the cluster did meanwhile: which models were loaded in turn, and memory held at most."""

    def __init__(self, kube: Kubectl) -> None:
        self._kube = kube
        self._ended = threading.Event()
        self.loads: list[str] = []
        self.most_at_once = 0
        self.at_most: list[Any] = []

    def _look(self) -> None:
        observed: set[str] = set()
        while not self._ended.wait(0.1):
            items = self._kube.list("pods", OURS)
            alive = [item for item in items if item["status"]["phase"] in ("Pending", "Running")]
            if len(alive) > self.most_at_once:
                self.most_at_once = len(alive)
                self.at_most = [
                    (
                        entry["metadata"]["name"],
                        entry["status"]["phase"],
                        entry["metadata"].get("deletionTimestamp"),
                    )
                    for entry in alive
                ]
            for pod in sorted(items, key=lambda item: str(item["metadata"]["creationTimestamp"])):
                metadata = pod["metadata"]
                if metadata["uid"] not in observed:
                    observed.add(metadata["uid"])
                    self.loads.append(metadata["labels"]["llama-halo.dev/model"])

    @contextmanager
    def looking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()


def ask(url: str, model: str, *, tokens: int = 8, stream: bool = True) -> str:
    """Ask through a gateway; return the text, or raise what went wrong."""
    body = {"model": model, "max_tokens": tokens, "messages": QUESTION, "stream": stream}
    if not stream:
        answer = httpx.post(f"{url}/v1/messages", json=body, timeout=300)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["content"][0]["text"])
    text, stopped = "", False
    with httpx.stream("POST", f"{url}/v1/messages", json=body, timeout=300) as response:
        if response.status_code != 200:
            raise AssertionError(f"{response.status_code}: {response.read().decode()}")
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            data = json.loads(line.removeprefix("data: "))
            assert data["type"] != "error", data
            stopped = stopped or data["type"] == "message_stop"
            if data["type"] == "content_block_delta":
                text += data["delta"].get("text", "")
    assert stopped, "the stream was cut"
    return text


def test_a_request_wakes_a_model_and_is_answered(kube: Kubectl, gateways: list[str]) -> None:
    """The time from request to first token, beside the same server started by hand."""
    started = time.monotonic()
    assert ask(gateways[0], "red", tokens=1)
    woken = time.monotonic() - started
    by_hand = started_by_hand()
    print(
        f"asleep to answer: {woken:.2f} s; llama-server by hand: {by_hand:.2f} s;"
        f" difference {woken - by_hand:.2f} s"
    )
    live = kube.get("llamamodel/red")
    eventually(lambda: ready(kube.get("llamamodel/red")) == ("True", "Serving"))
    assert ready(kube.get("llamamodel/blue")) == ("True", "Idle")
    assert live["metadata"]["name"] == "red"


def started_by_hand() -> float:
    """Return the seconds from the start of the same server to its first answer."""
    port = free_port()
    started = time.monotonic()
    server = subprocess.Popen(
        [
            *(llama_server.binary(), "--model", llama_server.model_file()),
            *("--port", str(port), "--ctx-size", "2048", "--threads", "1", "--cache-ram", "0"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            try:
                if httpx.get(f"{url}/health").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        ask(url, "any", tokens=1)
        return time.monotonic() - started
    finally:
        server.kill()
        server.wait()


def test_sixty_requests_for_three_models_where_two_fit(kube: Kubectl, gateways: list[str]) -> None:
    robin = [NAMES[index % 3] for index in range(30)]
    bursts = [name for _ in range(2) for name in NAMES for _ in range(5)]
    watch = Watch(kube)
    with watch.looking():
        for trace, at_once in ((robin, 3), (bursts, 5)):
            with ThreadPoolExecutor(at_once) as pool:
                answers = pool.map(
                    lambda item: ask(gateways[item[0] % 2], item[1], stream=item[0] % 3 > 0),
                    enumerate(trace),
                )
                assert all(answers)
    trace = robin + bursts
    print(
        f"60 requests: {len(watch.loads)} loads; least possible one at a time {fewest(trace, 2)},"
        f" plain LRU {lru(trace, 2)}; pods at once {watch.most_at_once}"
    )
    assert watch.most_at_once <= 2, watch.at_most
    assert len(watch.loads) <= lru(trace, 2)


def test_a_request_that_meets_an_unload_is_never_cut(
    kube: Kubectl, gateways: list[str], room: int
) -> None:
    """Unloaded after two idle seconds, wanted again around then."""
    kube.apply(on_demand("red", room, idleTimeout="1s"))
    chance = random.Random(1)  # noqa: S311
    unloads = Watch(kube)
    with unloads.looking():
        for number in range(25):
            assert ask(gateways[number % 2], "red", tokens=4)
            time.sleep(chance.uniform(1.0, 4.0))
    print(f"25 requests around unloads: loaded {len(unloads.loads)} times")
    assert len(unloads.loads) > 3
    kube.apply(on_demand("red", room))


def test_who_goes_past_the_gateway_is_not_evicted(
    kube: Kubectl, gateways: list[str], room: int
) -> None:
    ask(gateways[0], "red")
    ask(gateways[0], "green")
    with kube.forwarded("service/red") as direct, ThreadPoolExecutor(2) as pool:
        long = pool.submit(ask, direct, "red", tokens=1500)
        time.sleep(1)
        # Red is the longest idle one as far as gateways know, and works: green has to go.
        assert ask(gateways[0], "blue")
        assert len(long.result()) > 100
    eventually(lambda: ready(kube.get("llamamodel/green"))[1] == "Idle")


def test_a_killed_gateway_and_a_killed_operator_leave_nothing_behind(
    kube: Kubectl, gateways: list[str]
) -> None:
    ask(gateways[1], "green")
    kube("delete", "pods", "-n", "llama-halo-system", "--all", "--force", "--grace-period=0")
    # While the operator comes up again: a request for a model that sleeps.
    assert ask(gateways[1], "red")
    assert ask(gateways[1], "blue")


def fewest(trace: Sequence[str], room: int) -> int:
    """Return the loads of who knows the future: what is needed latest goes."""
    present: set[str] = set()
    loads = 0
    for index, name in enumerate(trace):
        if name in present:
            continue
        loads += 1
        if len(present) == room:
            rest = list(trace[index:])
            present.remove(
                max(present, key=lambda item: rest.index(item) if item in rest else 10**6)
            )
        present.add(name)
    return loads


def lru(trace: Sequence[str], room: int) -> int:
    """Return the loads when what was used longest ago goes."""
    present: list[str] = []
    loads = 0
    for name in trace:
        if name in present:
            present.remove(name)
        else:
            loads += 1
            present = present[-room + 1 :] if len(present) == room else present
        present.append(name)
    return loads

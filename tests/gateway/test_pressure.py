"""Everything at once that a gateway's limits allow, within the memory that its pod has."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import brotli
import httpx
import pytest

from llama_halo.contract.gateway_config import GatewayConfig
from llama_halo.gateway.http.bodies import MAX_BODY_BYTES
from llama_halo.plan.outcome import Plan
from llama_halo.plan.quantity import mebibytes
from tests.support import golden
from tests.support.gateway import NAMESPACE, Process, SetModel, StartGateway
from tests.support.hostile_server import ANSWERS, hostile_server
from tests.support.scripted_server import scripted

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.slow

Json = dict[str, Any]
NAMES = ("steady", "held", *(name.replace(" ", "-") for name in ANSWERS))
ZEROS = bytes(256 * 2**20)
BOMBS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "deflate": lambda data: zlib.compress(data, 1),
    "br": lambda data: brotli.compress(data, quality=1),
    "zstd": lambda data: zstd.compress(data, 1),
}
PATH = "/v1/chat/completions"
PROBE = """
import http.client, json, sys, time
probes = []
try:
    while True:
        began = time.monotonic()
        connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=10)
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
        probes.append((time.monotonic() - began, status))
        connection.close()
        time.sleep(0.02)
except KeyboardInterrupt:
    print(json.dumps(probes))
"""
"""A process of its own, which waits for none of this one's threads."""


def limit_mib() -> int:
    """Return the memory limit of a gateway's container, as it is rendered."""
    (path,) = (path for path in golden.cases() if path.stem == "router-minimal")
    outcome = golden.plan(golden.load(path))
    assert isinstance(outcome, Plan)
    (deployment,) = (obj for obj in outcome.objects if obj["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return mebibytes(container["resources"]["limits"]["memory"])


@pytest.fixture
def gateway(set_model: SetModel, start_gateway: StartGateway) -> Iterator[Process]:
    with ExitStack() as stack:
        steady = stack.enter_context(scripted(repeat=50))
        set_model("p-steady", steady.url, parallel=64)
        held = stack.enter_context(scripted(pause_seconds=3))
        set_model("p-held", held.url, parallel=64)
        for name in ANSWERS:
            url = stack.enter_context(hostile_server(name))
            set_model(f"p-{name.replace(' ', '-')}", url, parallel=64)
        models = [{"name": name, "llama_model": f"p-{name}"} for name in NAMES]
        config = {"router": "pressure", "namespace": NAMESPACE, "models": models}
        yield start_gateway(GatewayConfig.model_validate(config))


def peak_mib(gateway: Process) -> float:
    for line in Path(f"/proc/{gateway.popen.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the gateway is gone")


def question(model: str, text: str = "x", **more: Any) -> bytes:
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": model, "messages": messages, **more}, ensure_ascii=False).encode()


def post(gateway: Process, body: bytes, **headers: str) -> int:
    """Return the status of an answer, 0 without one."""
    try:
        return httpx.post(
            f"{gateway.url}{PATH}", content=body, headers=headers, timeout=60
        ).status_code
    except httpx.TransportError:
        return 0


def attacks(gateway: Process) -> Iterator[Callable[[], int]]:
    text = "x" * (MAX_BODY_BYTES - 1000)
    half = text[: len(text) // 2]
    joined = [{"role": "system", "content": half}] * 2 + [{"role": "user", "content": "€"}]
    for body in (
        question("held", text),
        question("held", text + "€"),
        question("held", text + "😀"),
        json.dumps({"model": "held", "messages": joined}, ensure_ascii=False).encode(),
    ):
        for _ in range(8):
            yield partial(post, gateway, body)
    for encoding, compress in BOMBS.items():
        bomb = compress(ZEROS)
        for _ in range(4):
            yield partial(post, gateway, bomb, **{"Content-Encoding": encoding})
    for name in NAMES[2:-1]:
        for stream in (True, False):
            for _ in range(4):
                yield partial(post, gateway, question(name, stream=stream))


def _step_back() -> None:
    """Give this thread the lowest priority: real clients have machines of their own."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def test_the_gateway_serves_within_its_memory_whatever_comes(gateway: Process) -> None:
    """Largest bodies, bombs, hostile answers, silent connections and half heads at once."""
    stop = threading.Event()
    streams: list[bool] = []

    def stream() -> None:
        while not stop.is_set():
            text = httpx.post(
                f"{gateway.url}{PATH}", content=question("steady", stream=True), timeout=60
            ).text
            streams.append(text.rstrip().endswith("[DONE]"))

    host, _, port = gateway.url.removeprefix("http://").partition(":")
    work = list(attacks(gateway))
    with ExitStack() as stack, ThreadPoolExecutor(len(work) + 3, initializer=_step_back) as pool:
        for number in range(600):
            silent = stack.enter_context(socket.create_connection((host, int(port))))
            if number % 2:
                silent.sendall(b"POST / HTTP/1.1\r\nx: " + b"x" * 8000)
        probe = subprocess.Popen(
            (sys.executable, "-c", PROBE, host, port), stdout=subprocess.PIPE, text=True
        )
        others = [pool.submit(stream) for _ in range(3)]
        codes = [future.result() for future in [pool.submit(attack) for attack in work]]
        stop.set()
        for other in others:
            other.result()
        probe.send_signal(signal.SIGINT)
        health: list[tuple[float, int]] = json.loads(probe.communicate()[0])
    times = sorted(seconds for seconds, _ in health)
    p99 = times[int(len(times) * 0.99)]
    peak, limit = peak_mib(gateway), limit_mib()
    print(
        f"{len(health)} probes: p99 {p99 * 1000:.0f} ms, at most {times[-1] * 1000:.0f} ms;"
        f" {len(streams)} streams; {peak:.0f} of {limit:.0f} MiB; answers {sorted(set(codes))}"
    )
    assert {status for _, status in health} == {200}
    assert streams
    assert all(streams)
    assert 0 not in codes
    assert peak < limit
    assert gateway.popen.poll() is None

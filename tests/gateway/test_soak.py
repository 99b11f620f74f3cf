"""Minutes of everything at once: clients that stall, vanish or send garbage, servers that die.

`make test` runs it for two and a half minutes, `make soak` for half an hour. At its end the gateway
has what it had at its start: connections, tasks, slots, memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from hack.testbed.ports import free_port
from llama_halo.contract.gateway_config import GatewayConfig
from tests.support.api import eventually
from tests.support.gateway import NAMESPACE, Process, SetModel, StartGateway
from tests.support.scripted_server import Scripted, scripted

pytestmark = pytest.mark.slow

Json = dict[str, Any]
SHORT_SECONDS, LONG_SECONDS = 150, 1800
WORKERS = 24
TEXT = "Hello world!"
MAX_GROWTH_MIB = 24
PATIENCE = aiohttp.ClientTimeout(total=60)
PATHS = {
    "anthropic": "/v1/messages",
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "ollama": "/api/chat",
}


def body_for(api: str, model: str, *, stream: bool) -> Json:
    body: Json = {"model": model, "stream": stream, "max_tokens": 9}
    text = f"What is {random.random()}?"  # noqa: S311  (sessions of their own)
    if api == "responses":
        return {**body, "input": text}
    return {**body, "messages": [{"role": "user", "content": text}]}


def said_in(api: str, whole: Json) -> str:
    if api == "anthropic":
        return "".join(block["text"] for block in whole["content"])
    if api == "chat":
        return str(whole["choices"][0]["message"]["content"])
    if api == "responses":
        return "".join(part["text"] for item in whole["output"] for part in item["content"])
    return str(whole["message"]["content"])


def said_by(api: str, data: Json) -> str:
    """Return the text of one event."""
    if api == "anthropic":
        return str(data.get("delta", {}).get("text", ""))
    if api == "chat":
        return "".join(choice["delta"].get("content") or "" for choice in data["choices"])
    if api == "responses":
        return str(data["delta"]) if data["type"] == "response.output_text.delta" else ""
    return str(data["message"]["content"])


@dataclass
class Soak:
    """The gateway, its servers, and what came of all requests."""

    gateway: Process
    flaky: Scripted
    dice: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.gateway.url.removeprefix("http://").partition(":")
        return host, int(port)

    async def healthy(self, session: aiohttp.ClientSession) -> None:
        """Whatever else goes on, a steady model answers rightly."""
        api = self.dice.choice(list(PATHS))
        stream = self.dice.random() < 0.5
        text = await self._ask(session, api, "steady", stream=stream)
        if text != TEXT:
            self.wrong.append(f"{api} stream={stream}: {text[:300]}")

    async def unlucky(self, session: aiohttp.ClientSession) -> None:
        """An answer of a server that dies is right, or an error in the client's own words."""
        api = self.dice.choice(list(PATHS))
        stream = self.dice.random() < 0.5
        model = self.dice.choice(["flaky", "mortal"])
        text = await self._ask(session, api, model, stream=stream)
        if text != TEXT and "error" not in text:
            self.wrong.append(f"{api} stream={stream} of {model}: {text[:300]}")

    async def _ask(
        self, session: aiohttp.ClientSession, api: str, model: str, *, stream: bool
    ) -> str:
        body = body_for(api, model, stream=stream)
        async with session.post(self.gateway.url + PATHS[api], json=body) as answer:
            text = await answer.text()
        self.outcomes[f"{model} {answer.status}"] += 1
        if answer.status != 200:
            return f"error {answer.status}: {text}"
        if not stream:
            return said_in(api, json.loads(text))
        output = ""
        for line in text.splitlines():
            data = line.removeprefix("data: ")
            if data.startswith("{"):
                event = json.loads(data)
                if "error" in event or event.get("type") == "response.failed":
                    return f"error in the stream: {data}"
                output += said_by(api, event)
        return output

    async def vanishes(self, session: aiohttp.ClientSession) -> None:
        """A client that goes away at any point."""
        api, model = self.dice.choice(list(PATHS)), self.dice.choice(["steady", "slow", "flaky"])
        body = body_for(api, model, stream=self.dice.random() < 0.5)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.dice.random() * 0.8):
                async with session.post(self.gateway.url + PATHS[api], json=body) as answer:
                    await answer.read()

    async def stalls(self, _: object) -> None:
        """A client that asks for much and reads nothing of it."""
        body = json.dumps(body_for("chat", "long", stream=True)).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        async with self._raw(head.encode() + body):
            await asyncio.sleep(self.dice.random() * 3)

    async def garbage(self, _: object) -> None:
        """Bytes that are no request at all."""
        async with self._raw(self.dice.randbytes(self.dice.randrange(1, 5000))) as reader:
            await self._read(reader)

    async def nonsense(self, session: aiohttp.ClientSession) -> None:
        """A request whose body is no JSON, or JSON of no sense."""
        path = self.dice.choice(list(PATHS.values()))
        data = self.dice.choice([b"{", b"[]", b'"x"', b'{"model": 3}', b"\xff\xfe", b"[" * 9999])
        async with session.post(self.gateway.url + path, data=data) as answer:
            if answer.status != 400:
                self.wrong.append(f"{path} {data[:20]!r}: {answer.status}")

    async def oversized(self, _: object) -> None:
        """A body that says it is larger than any that is taken."""
        head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: {2**30}\r\n\r\n"
        async with self._raw(head.encode() + b"x" * 100_000) as reader:
            text = await self._read(reader)
        if b" 413 " not in text:
            self.wrong.append(f"oversized: {text[:200]!r}")

    async def unfinished(self, _: object) -> None:
        """Half a request, and then nothing; or the end of the client's half of the connection."""
        body = json.dumps(body_for("chat", "slow", stream=True)).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        whole = head.encode() + body
        cut = len(whole) if self.dice.random() < 0.5 else self.dice.randrange(len(whole))
        async with self._raw(whole[:cut], half_closed=cut == len(whole)):
            await asyncio.sleep(self.dice.random())

    async def info_requests(self, session: aiohttp.ClientSession) -> None:
        """A person who watches the status page, and a client that lists the models."""
        for path in ("/ui/data", "/v1/models", "/metrics"):
            async with session.get(self.gateway.url + path) as answer:
                await answer.read()
                if answer.status != 200:
                    self.wrong.append(f"{path}: {answer.status}")

    @contextlib.asynccontextmanager
    async def _raw(
        self, data: bytes, *, half_closed: bool = False
    ) -> AsyncIterator[asyncio.StreamReader]:
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            with contextlib.suppress(ConnectionError):
                writer.write(data)
                await writer.drain()
                if half_closed:
                    writer.write_eof()
            yield reader
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> bytes:
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(2):
                return await reader.read(2**16)
        return b""

    async def run(self, seconds: float) -> None:
        """Let many clients do all of this until the time is over."""
        ending = time.monotonic() + seconds
        kinds: list[Callable[[aiohttp.ClientSession], Awaitable[None]]] = [
            *([self.healthy] * 6),
            *([self.unlucky] * 3),
            *([self.vanishes] * 3),
            *(self.stalls, self.garbage, self.nonsense, self.oversized, self.unfinished),
            self.info_requests,
        ]

        async def work() -> None:
            while time.monotonic() < ending:
                kind = self.dice.choice(kinds)
                async with aiohttp.ClientSession(timeout=PATIENCE) as session:
                    with contextlib.suppress(aiohttp.ClientConnectionError):
                        for _ in range(self.dice.randrange(1, 6)):
                            await kind(session)
                            self.outcomes[kind.__name__] += 1

        await asyncio.gather(*(work() for _ in range(WORKERS)), self._trouble(ending))

    async def _trouble(self, ending: float) -> None:
        """Let the flaky server fail in each of its ways, again and again."""
        modes = ["ok", "die", "loading", "ok", "silent", "broken", "hang up"]
        for mode in itertools.cycle(modes):
            self.flaky.mode = mode
            if time.monotonic() > ending:
                self.flaky.mode = "ok"
                return
            await asyncio.sleep(2)


@dataclass(frozen=True)
class OpenResources:
    """What the gateway has open."""

    requests: int
    tasks: int
    files: int
    working: int
    waiting: int


def open_resources(gateway: Process) -> OpenResources:
    values = {}
    for line in httpx.get(f"{gateway.url}/metrics").text.splitlines():
        name, _, value = line.rpartition(" ")
        values[name] = value
    models = httpx.get(f"{gateway.url}/ui/data").json()["models"]
    return OpenResources(
        requests=int(float(values["llama_halo_gateway_requests_in_flight"])),
        tasks=int(float(values["llama_halo_gateway_tasks"])),
        files=len(list(Path(f"/proc/{gateway.popen.pid}/fd").iterdir())),
        working=sum(model["working"] for model in models),
        waiting=sum(model["waiting"] for model in models),
    )


def memory_mib(gateway: Process) -> float:
    for line in Path(f"/proc/{gateway.popen.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the gateway is gone")


@pytest.fixture
def soak(set_model: SetModel, start_gateway: StartGateway) -> Iterator[Soak]:
    names = ("steady", "flaky", "slow", "long")
    with (
        scripted() as steady,
        scripted() as flaky,
        scripted(pause_seconds=0.5) as slow,
        scripted(repeat=2000) as long,
        _dying(port := free_port()),
    ):
        for name, server in zip(names, (steady, flaky, slow, long), strict=True):
            set_model(f"s-{name}", server.url, parallel=8)
        set_model("s-mortal", f"http://127.0.0.1:{port}", parallel=8)
        config = GatewayConfig.model_validate(
            {
                "router": "soak",
                "namespace": NAMESPACE,
                "models": [
                    {"name": name, "llama_model": f"s-{name}"} for name in (*names, "mortal")
                ],
                "hold_seconds": 5,
                "ping_seconds": 0.5,
            }
        )
        yield Soak(start_gateway(config), flaky)


@contextlib.contextmanager
def _dying(port: int) -> Iterator[None]:
    """Serve on a port, with gaps in which nothing listens there."""
    over = threading.Event()

    def live() -> None:
        while not over.is_set():
            with scripted(port=port):
                over.wait(3)
            over.wait(1)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_nothing_is_left_of_hours_of_trouble(soak: Soak, request: pytest.FixtureRequest) -> None:
    seconds = LONG_SECONDS if request.config.getoption("--soak") else SHORT_SECONDS
    asyncio.run(soak.run(seconds / 5))  # what is kept for good is there after that
    before = _at_rest(soak.gateway)
    memory = memory_mib(soak.gateway)
    asyncio.run(soak.run(seconds * 4 / 5))
    after = _at_rest(soak.gateway)
    assert after.requests == after.working == after.waiting == 0
    assert after.tasks <= before.tasks
    assert after.files <= before.files
    grown = memory_mib(soak.gateway) - memory
    print(f"{dict(soak.outcomes)}; {after}; memory {memory:.0f} MiB and {grown:+.1f}")
    assert not soak.wrong, f"{len(soak.wrong)}: {soak.wrong[:5]}"
    assert grown < MAX_GROWTH_MIB
    assert soak.outcomes["steady 200"] > seconds


def _at_rest(gateway: Process) -> OpenResources:
    """Return what is open when nobody asks for anything: the least of some looks, for kept
    connections end, and the watch begins anew, now and then. What has leaked is there each time."""
    eventually(
        lambda: open_resources(gateway),
        until=lambda observed: not (observed.requests or observed.working or observed.waiting),
        seconds=60,
        description="the gateway at rest",
    )
    observed: list[OpenResources] = []
    for _ in range(10):
        time.sleep(1)
        observed.append(open_resources(gateway))
    least = {name: min(getattr(entry, name) for entry in observed) for name in ("tasks", "files")}
    return replace(observed[-1], **least)

"""What the gateway adds to a request, beside going straight, a bare pass-through, and its rivals.

`python -m hack.bench.gateway`: everything on loopback, one stub of fixed speed behind all, requests
in turn so that what else the machine does hits all alike. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import certifi
from aiohttp import web

from hack.bench import rivals
from hack.testbed.shell import say

Json = dict[str, Any]
TOKENS = 8
STREAM_TOKENS_A_SECOND = 10
APART_SECONDS = 4
"""For streams to be open, and to be gone."""
MODEL = "coder"
NAMES = ("stub", "api", "bare", "gateway", "ccr-1.0.73", "ccr-2.0.0", "litellm", "llama-swap")
NAMESPACE = "bench"


def _event(data: Json) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


USAGE = {"input_tokens": 1, "output_tokens": 1}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": []}
HEAD = _event({"type": "message_start", "message": {**MESSAGE, "usage": USAGE}}) + _event(
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
)
TOKEN = _event(
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " word"}}
)
TAIL = (
    _event({"type": "content_block_stop", "index": 0})
    + _event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE})
    + _event({"type": "message_stop"})
)


def small_body() -> bytes:
    """Return a short question."""
    message = {"role": "user", "content": "What is 2+2?"}
    body = {"model": MODEL, "max_tokens": 9, "stream": True, "messages": [message]}
    return json.dumps(body).encode()


def large_body() -> bytes:
    """Return a request as large as Claude Code's first one, 50 KB."""
    schema = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(20)}}
    tools = [
        {"name": f"tool{n}", "description": "It does things. " * 80, "input_schema": schema}
        for n in range(16)
    ]
    system = [
        {"type": "text", "text": text} for text in ("x-anthropic-billing-header: 1", "y" * 7000)
    ]
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "word " * 1600}]},
        {"role": "system", "content": "Environment: linux"},
    ]
    body = {"model": MODEL, "max_tokens": 9, "stream": True, "messages": messages}
    return json.dumps({**body, "system": system, "tools": tools}).encode()


async def stub(port: int) -> web.AppRunner:
    """Serve answers of a fixed shape: at once, or `x-tokens` of them at a fixed speed."""

    async def messages(request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        slow = body["max_tokens"] if body["max_tokens"] > 100 else 0
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(HEAD)
        for _ in range(slow or TOKENS):
            if slow:
                await asyncio.sleep(1 / STREAM_TOKENS_A_SECOND)
            await response.write(TOKEN)
        await response.write(TAIL)
        await response.write_eof()
        return response

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/messages", messages)
    return await _serve(app, port)


async def api_server(port: int, upstream: str) -> web.AppRunner:
    """Serve the one LlamaModel that the gateway watches."""
    conditions = [
        {"type": kind, "status": "True", "reason": "Serving"} for kind in ("Ready", "Available")
    ]
    status = {"endpoint": upstream, "conditions": conditions}
    model = {"metadata": {"name": MODEL}, "spec": {"parallel": 2000}, "status": status}

    async def models(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({"items": [model], "metadata": {"resourceVersion": "1"}})
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(3600)
        return response

    app = web.Application()
    path = f"/apis/llama-halo.dev/v1alpha1/namespaces/{NAMESPACE}/llamamodels"
    app.router.add_get(path, models)
    return await _serve(app, port)


async def bare(port: int, upstream: str) -> web.AppRunner:
    """Serve a pass-through that knows nothing: the least that a proxy in aiohttp does."""
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))

    async def forward(request: web.Request) -> web.StreamResponse:
        async with session.post(upstream + request.path, data=await request.read()) as answer:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/messages", forward)
    return await _serve(app, port)


async def _serve(app: web.Application, port: int) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=2048).start()
    return runner


@contextmanager
def process(
    *arguments: str | Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that ends with the block."""
    quiet = subprocess.DEVNULL
    started = subprocess.Popen(arguments, stdout=quiet, stderr=quiet, env=environment)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(timeout=10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


async def first_byte_ms(session: aiohttp.ClientSession, url: str, body: bytes) -> float:
    """Return the milliseconds from a request to the first byte of its answer."""
    started = time.perf_counter()
    headers = {"Content-Type": "application/json"}
    async with session.post(f"{url}/v1/messages", data=body, headers=headers) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{url} answered {answer.status}: {(await answer.text())[:300]}")
        await answer.content.readany()
        took = (time.perf_counter() - started) * 1000
        await answer.read()
        return took


async def compare(targets: dict[str, str], body: bytes, rounds: int) -> dict[str, list[float]]:
    """Ask by each way in turn, in another order each time: who comes after a slow one finds the
    processor's caches cold."""
    samples: dict[str, list[float]] = {name: [] for name in targets}
    async with aiohttp.ClientSession() as session:
        for number in range(rounds + 20):
            for name, url in random.sample(list(targets.items()), k=len(targets)):
                took = await first_byte_ms(session, url, body)
                if number >= 20:
                    samples[name].append(took)
    return samples


def summary(samples: dict[str, list[float]]) -> Json:
    """Return what each way adds to going straight, milliseconds."""
    cuts = {name: statistics.quantiles(values, n=100) for name, values in samples.items()}
    return {
        name: {
            f"added_p{percent}_ms": round(cut[percent - 1] - cuts["direct"][percent - 1], 3)
            for percent in (50, 95, 99)
        }
        for name, cut in cuts.items()
        if name != "direct"
    }


class Reader(asyncio.Protocol):
    """A client that costs next to nothing: it asks, and notes how late each token comes."""

    def __init__(self, asked: bytes, late: list[float]) -> None:
        self._asked, self._late = asked, late
        self._before = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        transport.write(self._asked)

    def data_received(self, data: bytes) -> None:
        count = data.count(b"text_delta")
        if not count:
            return
        now = time.perf_counter()
        if self._before:
            pace = count / STREAM_TOKENS_A_SECOND
            self._late += [(now - self._before - pace) * 1000] * count
        self._before = now


async def streams(url: str, count: int, seconds: int, pid: int | None) -> Json:
    """Hold many streams open; return how late each token came after its pace, and what each cost a
    process. The opening and the end are left out: they are no token's."""
    message = {"role": "user", "content": "x"}
    tokens = STREAM_TOKENS_A_SECOND * (seconds + 2 * APART_SECONDS)
    body = {"model": MODEL, "max_tokens": max(tokens, 101), "stream": True, "messages": [message]}
    data = json.dumps(body)
    head = "POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    asked = f"{head}Content-Length: {len(data)}\r\n\r\n{data}".encode()
    host, _, port = url.removeprefix("http://").partition(":")
    loop, late, opened = asyncio.get_running_loop(), list[float](), []
    for _ in range(count):
        transport, _ = await loop.create_connection(lambda: Reader(asked, late), host, int(port))
        opened.append(transport)
    await asyncio.sleep(APART_SECONDS)
    late.clear()
    before = cpu_seconds(pid) if pid else 0
    await asyncio.sleep(seconds)
    figures: Json = {"late_p99_ms": round(statistics.quantiles(late, n=100)[98], 1)}
    if pid:
        figures["cpu_us_a_token"] = round((cpu_seconds(pid) - before) / len(late) * 1e6, 1)
        figures["memory_mib"] = round(memory_mib(pid), 1)
    for transport in opened:
        transport.abort()
    await asyncio.sleep(APART_SECONDS)
    return figures


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """Return what a process has in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


async def measure(arguments: argparse.Namespace) -> Json:
    """Start all there is, ask, and say what it cost: first beside the bare pass-through alone, then
    beside the rivals, whose memory and caches are felt by all."""
    ports = {name: 18400 + number for number, name in enumerate(NAMES)}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        me = (sys.executable, "-m", "hack.bench.gateway", "--part")
        started = {
            part: stack.enter_context(process(*me, part)) for part in ("stub", "api", "bare")
        }
        gateway_command = _gateway(Path(folder), ports["gateway"], urls["api"])
        started["gateway"] = stack.enter_context(process(*gateway_command))
        await _until_ready(urls["gateway"] + "/readyz")
        targets = {"direct": urls["stub"], "bare": urls["bare"], "gateway": urls["gateway"]}
        result: Json = {"alone": await _added(targets, arguments.rounds), "streams": {}}
        for name, url in targets.items():
            pid = started[name].pid if name in started else None
            figures = await streams(url, arguments.streams, arguments.seconds, pid)
            result["streams"][name] = figures
            say(f"{arguments.streams} streams, {name}: {figures}")
        if not arguments.alone:
            common: Json = {"ports": ports, "upstream": urls["stub"], "model": MODEL}
            started_rivals = rivals.all_of_them(Path(folder), **common, swap=arguments.llama_swap)
            for name, rival in started_rivals.items():
                stack.enter_context(process(*rival.command, environment=rival.environment))
                await _until_ready(urls[name] + rival.health)
                targets[name] = urls[name]
            result["rivals"] = await _added(targets, arguments.rounds)
        return result


def _gateway(folder: Path, port: int, api: str) -> tuple[str | Path, ...]:
    """Return the command that starts the gateway."""
    config = {"router": "bench", "namespace": NAMESPACE}
    models = [{"name": MODEL, "llama_model": MODEL, "aliases": ["claude-*"]}]
    file, token = folder / "gateway.json", folder / "token"
    file.write_text(json.dumps({**config, "models": models}))
    token.write_text("none")
    return (
        *(sys.executable, "-m", "llama_halo", "gateway", "--config", file),
        *("--host", "127.0.0.1", "--port", str(port), "--api-server", api),
        *("--token-file", token, "--log-level", "warning"),
        *("--grace-seconds", "1", "--ca-file", certifi.where()),
    )


async def _added(targets: dict[str, str], rounds: int) -> Json:
    added = {}
    for name, body in (("small", small_body()), ("large", large_body())):
        added[name] = summary(await compare(targets, body, rounds))
        say(f"{name} ({len(body)} bytes): {added[name]}")
    return added


async def _until_ready(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.2)
    raise RuntimeError(f"{url} did not become ready")


async def _part(name: str) -> None:
    upstream = "http://127.0.0.1:18400"
    if name == "stub":
        await stub(18400)
    elif name == "api":
        await api_server(18401, upstream)
    else:
        await bare(18402, upstream)
    await asyncio.Event().wait()


def main() -> None:
    """Run the comparison, or one of its parts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=["stub", "api", "bare"])
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--alone", action="store_true", help="without the rivals")
    parser.add_argument("--llama-swap", type=Path, metavar="PROGRAM", help="a rival, too")
    parser.add_argument("--seconds", type=int, default=12, help="of the open streams")
    arguments = parser.parse_args()
    if arguments.part:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_part(arguments.part))
        return
    print(json.dumps(asyncio.run(measure(arguments))))


if __name__ == "__main__":
    main()

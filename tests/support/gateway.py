"""Processes and configurations of the gateway's tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from hack.testbed.llama_server import binary, model_file
from hack.testbed.ports import free_port
from llama_halo.contract.gateway_config import GatewayConfig
from tests.support.api import eventually

NAMESPACE = "gateway"


@dataclass
class Process:
    """A child process that answers HTTP."""

    popen: subprocess.Popen[bytes]
    url: str

    def terminate(self) -> None:
        self.popen.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()


def answers(url: str, status: int = 200) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == status
    except httpx.TransportError:
        return False


@contextmanager
def serving(log: Path, *arguments: str) -> Iterator[Process]:
    """Run llama-server with SmolLM2 on the CPU until the block ends."""
    port = free_port()
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [
                *(binary(), "--model", model_file(), "--host", "127.0.0.1", "--port", str(port)),
                *("--threads", "2", "--fit", "off", "--cache-ram", "0", "--no-webui", *arguments),
            ],
            env={**os.environ, "LLAMA_ARG_DEVICE": "none"},
            stdout=output,
            stderr=output,
        )
    process = Process(popen, f"http://127.0.0.1:{port}")
    try:
        eventually(lambda: answers(f"{process.url}/health"), seconds=60, description="llama-server")
        yield process
    finally:
        process.stop()


SetModel = Callable[..., None]
StartGateway = Callable[..., Process]
CONFIG = GatewayConfig.model_validate(
    {
        "router": "main",
        "namespace": NAMESPACE,
        "models": [
            {"name": "coder", "llama_model": "smollm2", "aliases": ["claude-*", "house/model"]},
            {"name": "small", "llama_model": "little"},
            {"name": "away", "llama_model": "loading"},
            {"name": "missing", "llama_model": "nobody"},
            {"name": "broken", "llama_model": "refusing"},
        ],
        "routes": {"default": "coder", "background": "small"},
        "hold_seconds": 2,
    }
)


def busy_slots(server: Process) -> int:
    """Count llama-server's slots that work."""
    slots: list[dict[str, Any]] = httpx.get(f"{server.url}/slots").json()
    return sum(slot["is_processing"] for slot in slots)


def stream_texts(lines: Iterator[str]) -> Iterator[str]:
    """Yield the pieces of text of an Anthropic stream."""
    for line in lines:
        if line.startswith("data: {"):
            data = json.loads(line.removeprefix("data: "))
            if data.get("type") == "content_block_delta":
                yield data["delta"].get("text", "")

"""The Jobs' own processes, against a small Hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gguf_files import header_bytes
from tests.support.gguf_models import MODELS
from tests.support.hub import Hub, serve

Json = dict[str, Any]
F16 = 1
MODEL_VALUES = 2**22


class Job:
    """Runs `llama-halo inspect` and `fetch` as a container would."""

    def __init__(self, folder: Path, hub: Hub) -> None:
        self.folder = folder
        self.hub = hub
        self.log = ""
        self.report = folder / "report"

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        self.report.unlink(missing_ok=True)
        return subprocess.Popen(
            [sys.executable, "-m", "llama_halo", *arguments, "--report", str(self.report)],
            env={**os.environ, "HF_ENDPOINT": self.hub.url, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> tuple[int, Json]:
        """Return exit status and last words."""
        self.log = process.communicate(timeout=120)[0]
        assert self.report.exists(), self.log
        return process.returncode, json.loads(self.report.read_bytes())

    def __call__(self, *arguments: str, **environment: str) -> tuple[int, Json]:
        return self.end(self.start(*arguments, **environment))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A Hub with one model of 8 MiB."""
    folder = tmp_path / "hub"
    (folder / "sub").mkdir(parents=True)
    head = header_bytes(MODELS["llama-3.2-3b"], [("output.weight", [MODEL_VALUES], F16, 0)])
    data = bytes(range(256)) * (MODEL_VALUES * 2 // 256)
    (folder / "sub/x-Q4_K_M.gguf").write_bytes(head + bytes(-len(head) % 32) + data)
    with serve(Hub(folder)) as served:
        yield served


@pytest.fixture
def job(tmp_path: Path, hub: Hub) -> Job:
    return Job(tmp_path, hub)

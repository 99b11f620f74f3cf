"""The Jobs' own processes, against a small Hub on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gguf_files import header_bytes
from tests.support.gguf_models import MODELS
from tests.support.hub import Hub, serve
from tests.support.job_process import Job

F16 = 1
MODEL_VALUES = 2**22


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

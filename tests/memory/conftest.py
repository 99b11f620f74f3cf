"""llama.cpp itself, which every estimate is held against."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hack.testbed.llama_memory import LlamaMemory


@pytest.fixture(scope="session")
def llama_cpp() -> Iterator[LlamaMemory]:
    """The program on llama.cpp's own library; built from pinned sources when it is not there."""
    program = LlamaMemory()
    yield program
    program.close()

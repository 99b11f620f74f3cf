"""The table of triggers: what a change enqueues, also when a part of it fails."""

from __future__ import annotations

from typing import Any

import pytest

from llama_halo.controllers.state import OperatorState
from llama_halo.kube.cache import Key
from llama_halo.kube.workqueue import Queue
from tests.support.operator_state import operator_state

MODEL = Key("LlamaModel", "llm", "coder")


class RecordingQueue(Queue):
    def __init__(self) -> None:
        super().__init__()
        self.keys: list[Key] = []

    def add(self, key: Key, *, after_seconds: float = 0.0) -> None:
        self.keys.append(key)


def listening() -> tuple[OperatorState, RecordingQueue]:
    queue = RecordingQueue()
    return operator_state(queue)[0], queue


def model(**metadata: Any) -> dict[str, Any]:
    own = {"name": "coder", "namespace": "llm", "uid": "u", "resourceVersion": "1"}
    return {
        "kind": "LlamaModel",
        "apiVersion": "llama-halo.dev/v1alpha1",
        "metadata": own | metadata,
        "spec": {"source": {"local": {"path": "x.gguf"}}},
    }


async def test_a_model_that_placement_cannot_read_is_reconciled_all_the_same() -> None:
    state, queue = listening()
    state.cache.observe({**model(), "status": {"files": [7]}})
    state.changes.drain()
    assert MODEL in queue.keys


@pytest.mark.parametrize("is_own_write", [False, True])
async def test_our_own_write_of_a_model_enqueues_only_what_placement_reads(
    is_own_write: bool,
) -> None:
    state, queue = listening()
    state.cache.observe(model(), is_own_write=is_own_write)
    state.changes.drain()
    assert (MODEL in queue.keys) is not is_own_write

"""Where a model's memory is booked, and the batch sizes of each mode."""

from __future__ import annotations

from typing import Any

import pytest

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.artifacts.inspect import MODEL
from llama_halo.plan.facts import Inspection
from llama_halo.plan.sizing import Sizing, batch_sizes, size
from tests.support.whisper_headers import BASE, MB, SPEC, header, read


@pytest.mark.parametrize(("backend", "on_gpu"), [("Vulkan", True), ("CPU", False)])
def test_its_memory_is_where_it_runs(backend: str, on_gpu: bool) -> None:
    spec = LlamaModelSpec.model_validate({**SPEC, "backend": backend})
    companion = read(header(BASE), 148 * MB)
    expected = {MODEL: Inspection(MODEL, "", "a.bin", 148 * MB, 1, companion=companion)}
    sizing = size(spec, expected)
    assert isinstance(sizing, Sizing)
    assert sizing.method == "UpperBound"
    assert (sizing.gpu_mib > 300) == on_gpu
    assert sizing.host_mib >= 2048
    own = LlamaModelSpec.model_validate({**SPEC, "memory": {"gpu": "1Gi", "host": "2Gi"}})
    given_all = size(own, expected)
    assert isinstance(given_all, Sizing)
    assert (given_all.gpu_mib, given_all.host_mib) == (1024, 2048)


@pytest.mark.parametrize(
    ("more", "sizes"),
    [
        ({}, (8192, 8192)),
        ({"batchSize": 512}, (512, 512)),
        ({"microBatchSize": 256}, (2048, 256)),
        ({"mode": "Chat"}, (2048, 512)),
        ({"mode": "Chat", "batchSize": 4096, "microBatchSize": 1024}, (4096, 1024)),
    ],
)
def test_a_text_fits_in_one_batch(more: dict[str, Any], sizes: tuple[int, int]) -> None:
    spec = LlamaModelSpec.model_validate({**SPEC, "mode": "Embedding", **more})
    assert batch_sizes(spec, 32768) == sizes

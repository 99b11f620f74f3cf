"""Estimates against llama.cpp's own code, for real models' true dimensions and for made-up ones of
every architecture: KV caches and states to the byte, compute buffers within their bound.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hack.testbed.llama_memory import LlamaMemory, MemoryQuery
from llama_halo.errors import GGUFError, UnsupportedModel
from llama_halo.gguf import architectures
from llama_halo.gguf.header import read_header
from llama_halo.gguf.layers import Dimensions, dimensions
from llama_halo.gguf.memory import (
    Serving,
    check,
    compute_bound_bytes,
    drafting_bytes,
    kv_cache_bytes,
    state_bytes,
)
from tests.support.gguf_files import header_bytes
from tests.support.gguf_models import MODELS, small

Json = dict[str, Any]

SETTINGS = {
    "8k": Serving(8192),
    "32k": Serving(32768),
    "64k q8_0": Serving(65536, k_type="q8_0", v_type="q8_0"),
    "128k": Serving(131072),
    "32k, 4 at once": Serving(32768, parallel=4),
    "32k, 4 apart": Serving(32768, parallel=4, unified=False),
    "10000, 3 apart": Serving(10000, parallel=3, unified=False),
    "32k, ubatch 2048": Serving(32768, micro_batch=2048),
    "32k, whole windows": Serving(32768, full_window_cache=True),
    "32k q4_0": Serving(32768, k_type="q4_0", v_type="q4_0"),
    "32k, no flash attention": Serving(32768, flash_attention=False),
    "32k, 3 drafted": Serving(32768, drafted_tokens=3),
}

ABORTS = {("kimi-linear-48b", "10000, 3 apart")}
"""llama.cpp divides the batch by the sequences, and asserts that nothing is left over."""


def question(path: Path, serving: Serving) -> MemoryQuery:
    return MemoryQuery(
        path=path,
        context_size=serving.context_size,
        parallel=serving.parallel,
        unified=serving.unified,
        k_type=serving.k_type,
        v_type=serving.v_type,
        micro_batch=serving.micro_batch,
        full_window_cache=serving.full_window_cache,
        flash_attention=serving.flash_attention,
        drafted_tokens=serving.drafted_tokens,
    )


def read(data: bytes) -> Dimensions:
    return dimensions(read_header(lambda offset, count: data[offset : offset + count], len(data)))


@pytest.mark.parametrize("settings_name", SETTINGS)
@pytest.mark.parametrize("name", MODELS)
def test_caches_and_states_are_llama_cpps_own_numbers(
    name: str, settings_name: str, llama_cpp: LlamaMemory, tmp_path: Path
) -> None:
    serving, data = SETTINGS[settings_name], header_bytes(MODELS[name])
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    result = read(data)
    assert result.known
    theirs = llama_cpp.ask(question(path, serving))
    if (name, settings_name) in ABORTS:
        assert theirs == "llama.cpp aborts"
        return
    assert not isinstance(theirs, str), theirs
    assert kv_cache_bytes(result, serving) == theirs.kv_cache
    assert state_bytes(result, serving) == theirs.state
    assert compute_bound_bytes(result, serving) >= theirs.compute


SMALL_SETTINGS = (
    Serving(4096),
    Serving(10000, parallel=4, unified=False, micro_batch=256),
    Serving(6000, parallel=2, k_type="q8_0", v_type="q8_0", drafted_tokens=2),
    Serving(8192, flash_attention=False, full_window_cache=True),
)


@pytest.mark.parametrize("architecture", sorted(architectures.KNOWN))
def test_a_small_model_of_every_architecture_has_llama_cpps_own_numbers(
    architecture: str, llama_cpp: LlamaMemory, tmp_path: Path
) -> None:
    data, path = header_bytes(small(architecture)), tmp_path / "model.gguf"
    path.write_bytes(data)
    result = read(data)
    for serving in SMALL_SETTINGS:
        theirs = llama_cpp.ask(question(path, serving))
        try:
            check(result, serving)
        except UnsupportedModel:
            assert isinstance(theirs, str), "what is refused here is refused there"
            continue
        assert not isinstance(theirs, str), f"{serving}: {theirs}"
        assert kv_cache_bytes(result, serving) == theirs.kv_cache, serving
        assert state_bytes(result, serving) == theirs.state, serving
        assert compute_bound_bytes(result, serving) >= theirs.compute, serving


DRAFTS = {name: case for name, case in MODELS.items() if "nextn_predict_layers" in str(case)} | {
    f"small {item}": small(item, nextn_predict_layers=1)
    # Of mimo2 llama.cpp wants tensors that a file without any does not have.
    for item in sorted(architectures.DRAFTS - {"mimo2"})
}


@pytest.mark.parametrize("name", DRAFTS)
def test_a_model_that_drafts_with_itself_has_llama_cpps_second_context(
    name: str, llama_cpp: LlamaMemory, tmp_path: Path
) -> None:
    data, path = header_bytes(DRAFTS[name]), tmp_path / "model.gguf"
    path.write_bytes(data)
    result = read(data)
    head = replace(result, layers=result.drafting)
    for serving in (
        Serving(8192),
        Serving(10000, parallel=4, unified=False),
        Serving(8192, k_type="q8_0", v_type="q8_0"),
    ):
        theirs = llama_cpp.ask(replace(question(path, serving), drafting=True))
        assert not isinstance(theirs, str), f"{serving}: {theirs}"
        assert (kv_cache_bytes(head, serving), 0) == (theirs.kv_cache, theirs.state), serving
        assert drafting_bytes(result, serving) >= theirs.kv_cache + theirs.compute, serving


@st.composite
def changes(draw: Any) -> Json:
    """Return changes of a small model, some of which its architecture does not take."""
    blocks = draw(st.sampled_from([8, 8, 12, 64]))
    heads = st.sampled_from([0, 1, 2, 4, 8])
    listed = draw(st.lists(st.booleans(), min_size=blocks, max_size=blocks))
    possible: Json = {
        "blocks": blocks,
        "kv_heads": draw(st.lists(heads, min_size=blocks, max_size=blocks)),
        "attention__key_length": draw(st.sampled_from([64, 96, 128])),
        "attention__value_length": draw(st.sampled_from([64, 96, 128])),
        "attention__sliding_window": draw(st.sampled_from([0, 100, 512, 4096])),
        "attention__sliding_window_pattern": draw(st.sampled_from([2, 3, 6, [True, *listed[1:]]])),
        "nextn_predict_layers": draw(st.sampled_from([1, 2])),
        "ssm__state_size": draw(st.sampled_from([16, 64])),
        "attention__shared_kv_layers": draw(st.integers(0, 4)),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(possible)), max_size=3))
    return {name: possible[name] for name in sorted(chosen)}


SERVINGS = st.builds(
    Serving,
    context_size=st.integers(1, 20000),
    parallel=st.sampled_from([1, 2, 4]),
    unified=st.booleans(),
    k_type=st.sampled_from(["f16", "q8_0", "f32"]),
    v_type=st.sampled_from(["f16", "q8_0", "f32"]),
    micro_batch=st.sampled_from([64, 512, 2048]),
    full_window_cache=st.booleans(),
    flash_attention=st.booleans(),
    drafted_tokens=st.sampled_from([0, 2]),
)


def test_what_llama_cpp_takes_of_made_up_models_has_its_own_numbers(
    llama_cpp: LlamaMemory, tmp_path: Path
) -> None:
    path, compared = tmp_path / "model.gguf", list[str]()

    # The same ones in every run; other seeds are for whoever changes the arithmetic:
    # derandomize=False and --hypothesis-seed.
    @settings(
        max_examples=1000,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(sorted(architectures.KNOWN)), changes(), SERVINGS)
    def compare(architecture: str, changed: Json, serving: Serving) -> None:
        data = header_bytes(small(architecture, **changed))
        path.write_bytes(data)
        try:
            result = read(data)
            check(result, serving)
        except GGUFError:
            return
        theirs = llama_cpp.ask(question(path, serving))
        if isinstance(theirs, str):
            return
        assert kv_cache_bytes(result, serving) == theirs.kv_cache
        assert state_bytes(result, serving) == theirs.state
        compared.append(architecture)

    compare()
    assert len(compared) > 200, "most of them are refused"

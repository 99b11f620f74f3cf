"""Estimates against the log of a real llama-server that loads the real model."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hack.testbed import llama_server
from hack.testbed.ports import free_port
from llama_halo.artifacts.sources import read_model_header
from llama_halo.gguf.bundle import Bundle
from llama_halo.gguf.companions import PROJECTOR, companion
from llama_halo.gguf.memory import MIB, Serving
from llama_halo.gguf.profile import Profile, profile
from tests.support.gguf_projectors import PROJECTORS, adapter, write

KV_CACHE = re.compile(r"llama_kv_cache: size = +([\d.]+) MiB")
COMPUTE = re.compile(r"sched_reserve: .*compute buffer size = +([\d.]+) MiB")
PROJECTOR_COMPUTE = re.compile(r"reserve_compute_meta: .*compute buffer size = +([\d.]+) MiB")
ADAPTER = re.compile(r"LoRA buffer size = +([\d.]+) MiB")


def logged_sizes(
    serving: Serving, patterns: tuple[re.Pattern[str], ...], *more: str | Path
) -> list[list[float]]:
    """Return the MiB that llama-server writes into its log, by pattern, until it listens."""
    binary = llama_server.binary()
    port = free_port()
    split = ["--kv-unified"] if serving.unified else ["--no-kv-unified"]
    process = subprocess.Popen(
        [
            *(binary, "-m", llama_server.model_file(), "--port", str(port), "-lv", "4"),
            *("-c", str(serving.context_size), "-np", str(serving.parallel), *split),
            *("-ctk", serving.k_type, "-ctv", serving.v_type, "-ub", str(serving.micro_batch)),
            *("-ctkd", serving.k_type, "-ctvd", serving.v_type),
            *("-fa", "on", "--fit", "off", *more),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(binary.parent), "LLAMA_ARG_DEVICE": "none"},
    )
    try:
        assert process.stdout is not None
        value: list[list[float]] = [[] for _ in patterns]
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            for sizes, pattern in zip(value, patterns, strict=True):
                if match := pattern.search(line):
                    sizes.append(float(match[1]))
            if "listening on" in line:
                return value
        raise AssertionError("llama-server ended: " + "".join(lines[-10:]))
    finally:
        process.kill()
        process.communicate()


def own() -> Profile:
    file = str(llama_server.model_file())
    return profile(read_model_header(file), file)


@pytest.mark.parametrize(
    "serving",
    [
        Serving(4096),
        Serving(8192, parallel=4),
        Serving(5000, parallel=3, unified=False),
        Serving(4096, k_type="q8_0", v_type="q8_0"),
        Serving(32768, k_type="q5_1", v_type="q4_1", micro_batch=256),
    ],
)
def test_a_real_server_logs_the_kv_cache_of_the_estimate(serving: Serving) -> None:
    (kv_cache, *_), (compute, *_) = logged_sizes(serving, (KV_CACHE, COMPUTE))
    estimate = Bundle(own()).estimate(serving)
    assert estimate.kv_cache / MIB == pytest.approx(kv_cache, abs=0.005)
    assert estimate.compute / MIB >= compute


@pytest.mark.parametrize("name", PROJECTORS)
def test_a_projector_reserves_no_more_than_its_bound(name: str, tmp_path: Path) -> None:
    make, patches = PROJECTORS[name]
    file = write(tmp_path / "mmproj.gguf", *make())
    (sizes,) = logged_sizes(Serving(2048), (PROJECTOR_COMPUTE,), "--mmproj", file)
    described = companion(read_model_header(str(file)), PROJECTOR)
    assert described.positions >= patches
    # llama-server warms up with a smaller image than it takes.
    bound_bytes = replace(described, positions=patches, weights=0).bound_bytes(flash_attention=True)
    print(f"{name}: bound {bound_bytes / MIB:.1f} MiB, llama-server {max(sizes):.1f} MiB")
    assert max(sizes) <= bound_bytes / MIB <= 2 * max(sizes)


@pytest.mark.parametrize("serving", [Serving(4096), Serving(8192, parallel=2, k_type="q8_0")])
def test_a_draft_model_and_an_adapter_are_as_large_as_estimated(
    serving: Serving, tmp_path: Path
) -> None:
    model, lora = llama_server.model_file(), adapter(tmp_path / "lora.gguf")
    more = ("--spec-type", "draft-simple", "--model-draft", model, "--lora-scaled", f"{lora}:0.5")
    caches, computes, adapters = logged_sizes(serving, (KV_CACHE, COMPUTE, ADAPTER), *more)
    own_model = own()
    estimate = Bundle(
        own_model,
        draft=own_model,
        adapters={"sql": companion(read_model_header(str(lora)), "adapter")},
    ).estimate(serving)
    assert estimate.adapters / MIB == pytest.approx(sum(adapters), abs=0.01)
    assert caches == pytest.approx([estimate.kv_cache / MIB] * 2, abs=0.005)
    assert estimate.draft / MIB >= own_model.weights / MIB + caches[1] + computes[-1]

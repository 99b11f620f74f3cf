"""Estimates against the log of a real llama-server that loads the real model."""

from __future__ import annotations

import os
import re
import socket
import subprocess

import pytest

from hack.testbed import llama_server
from llama_halo.artifacts.sources import read_model_header
from llama_halo.gguf.layers import dimensions
from llama_halo.gguf.memory import MIB, Serving, compute_bound_bytes, estimate, weight_bytes

KV_CACHE = re.compile(r"llama_kv_cache: size = +([\d.]+) MiB")
COMPUTE = re.compile(r"compute buffer size = +([\d.]+) MiB")


def told(serving: Serving) -> tuple[float, float]:
    """Return the MiB of KV cache and compute buffers that llama-server writes into its log."""
    binary = llama_server.binary()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    split = ["--kv-unified"] if serving.unified else ["--no-kv-unified"]
    process = subprocess.Popen(
        [
            *(binary, "-m", llama_server.model_file(), "--port", str(port), "-lv", "4"),
            *("-c", str(serving.context_tokens), "-np", str(serving.parallel), *split),
            *("-ctk", serving.k_type, "-ctv", serving.v_type, "-ub", str(serving.micro_batch)),
            *("-fa", "on", "--fit", "off", "--no-warmup"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(binary.parent), "LLAMA_ARG_DEVICE": "none"},
    )
    try:
        assert process.stdout is not None
        found: dict[re.Pattern[str], float] = {}
        for line in process.stdout:
            for pattern in (KV_CACHE, COMPUTE):
                if match := pattern.search(line):
                    found[pattern] = float(match[1])
            if len(found) == 2:
                return found[KV_CACHE], found[COMPUTE]
        raise AssertionError("llama-server ended without telling its memory")
    finally:
        process.kill()
        process.communicate()


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
    header = read_model_header(str(llama_server.model_file()))
    model = dimensions(header)
    kv_cache, compute = told(serving)
    found = estimate(weight_bytes(header, model), model, serving)
    assert found.kv_cache / MIB == pytest.approx(kv_cache, abs=0.005)
    assert compute_bound_bytes(model, serving) / MIB >= compute

"""Why containers end: llama-server's real last words, and what is made of them."""

from __future__ import annotations

import pytest

from llama_halo.contract.reasons import Reason
from llama_halo.status.crash import explain

# Every failed load ends with these.
EPILOGUE = """\
0.00.201.513 E llama_model_load_from_file_impl: failed to load model
0.00.201.542 E cmn  common_init_: failed to load model '/models/x.gguf'
0.00.201.544 E srv    load_model: failed to load model, '/models/x.gguf'
0.00.201.560 I srv    operator(): operator(): cleaning up before exit...
0.00.201.742 E srv  llama_server: exiting due to model loading error
"""
NO_DEVICE = 'error while handling environment variable "LLAMA_ARG_DEVICE": invalid device: Vulkan0'
OPEN = "E gguf_init_from_file: failed to open GGUF file '/models/x.gguf' "
LOADING = "E llama_model_load: error loading model: "
READER = "E gguf_init_from_reader: "
CONTEXT = "E llama_init_from_model: "
WORDS: dict[Reason, list[str]] = {
    Reason.DEVICE_UNAVAILABLE: [
        NO_DEVICE,
        'error while handling argument "--device": invalid device: ROCm0',
        "rocBLAS error: Cannot read /opt/rocm/lib/rocblas/library/TensileLibrary.dat: No such file"
        " or directory for GPU arch : gfx1151",
        "ggml_cuda_compute_forward: ROCm error: no kernel image is available for execution on the"
        " device",
        "/app/llama-server: error while loading shared libraries: libhipblas.so.3: cannot open"
        " shared object file: No such file or directory",
        "/app/llama-server: symbol lookup error: /app/libggml-hip.so: undefined symbol: hipInit",
    ],
    Reason.BAD_FLAG: [
        "error: invalid argument: --no-such-flag",
        'error while handling argument "--ctx-size": stoi',
        'error while handling argument "--temp": expected value for argument',
        'error while handling argument "--cache-type-k": Unsupported cache type: q9_9',
        'error while handling environment variable "LLAMA_ARG_THREADS": stoi',
        "error while handling argument \"--grammar-file\": error: failed to open file '/x'",
        f"{CONTEXT}quantized V cache requires flash_attn to be enabled",
        f"{CONTEXT}quantized V cache was requested, but this requires Flash Attention",
        "E common_chat_templates_init: error: Unexpected token type",
        "error: the supplied chat template is not supported: {% for each in messages %}",
    ],
    Reason.OUT_OF_MEMORY: [
        "E ggml_aligned_malloc: insufficient memory (attempted to allocate 513.13 MB)",
        f"{LOADING}mmap failed: Cannot allocate memory",
        f"{LOADING}unable to allocate Vulkan0 buffer",
        f"{CONTEXT}failed to initialize the context: failed to allocate buffer for kv cache",
        f"{CONTEXT}failed to initialize the context: failed to allocate compute pp buffers",
        f"{CONTEXT}failed to initialize the context: std::bad_alloc",
        "ggml_vulkan: Device memory allocation of size 538060032 failed.",
        "ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory",
    ],
    Reason.CRASH_LOOPING: [
        "E srv start: couldn't bind HTTP server socket, hostname: 0.0.0.0, port: 8080",
        "Memory access fault by GPU node-1 (Agent handle: 0x5f3) on address 0x7f2. Reason: Page not"
        " present or supervisor privilege.",
        "HW Exception by GPU node-1 (Agent handle: 0x55) reason :GPU Hang",
        "ggml_vulkan: vk::Queue::submit: ErrorDeviceLost",
        "ROCm error: an illegal memory access was encountered",
        "/app/ggml/src/ggml.c:3214: GGML_ASSERT(a->ne[2] == b->ne[0]) failed",
        "llama-server: /app/src/unicode.cpp:12: Assertion `n > 0' failed.",
    ],
    Reason.UNSUPPORTED_MODEL: [
        f"{LOADING}unknown model architecture: 'xlama'",
        f"{LOADING}error loading model vocabulary: unknown pre-tokenizer type: 'smollX'",
        f"{LOADING}CLIP cannot be used as main model, use it with --mmproj instead",
        f"{READER}this GGUF file is version 99 but this software only supports up to version 3\n"
        f"{READER}failed to read header",
        f"{LOADING}check_tensor_dims: tensor 'output_norm.weight' not found",
    ],
    Reason.SOURCE_NOT_FOUND: [
        f"{OPEN}(No such file or directory)",
        f"{OPEN}(Permission denied)",
    ],
    Reason.NOT_A_GGUF: [
        f"{READER}invalid magic characters: '<!DO', expected 'GGUF'",
        f"{READER}failed to read magic",
        f"{READER}failed to read key-value pairs",
        f"{LOADING}tensor 'blk.15.attn_output.weight' data is not within the file bounds, model is"
        " corrupted or incomplete",
        f"{LOADING}illegal split file idx: 1 (file: x), model must be loaded with the first split",
    ],
}
CASES = [(reason, line) for reason, lines in WORDS.items() for line in lines]


@pytest.mark.parametrize(("reason", "line"), CASES, ids=[line[:60] for _, line in CASES])
def test_the_telling_line_decides_and_is_shown(reason: Reason, line: str) -> None:
    text = f"0.00.003.364 I cmn  common_param: verbosity = 3\n{line}\n{EPILOGUE}"
    crash = explain("coder-0", "llm", {"exitCode": 1, "message": text})
    assert crash.reason is reason
    assert line.splitlines()[0] in crash.message
    assert crash.advice


def test_a_warning_of_pinned_memory_is_no_cause() -> None:
    text = "WARNING: failed to allocate 10.00 MB of pinned memory\nboom"
    crash = explain("coder-0", "llm", {"exitCode": 1, "message": text})
    assert crash.reason is Reason.CRASH_LOOPING


def test_the_kernels_kill_counts_before_any_words() -> None:
    killed = {"exitCode": 137, "reason": "OOMKilled", "message": NO_DEVICE}
    assert explain("coder-0", "llm", killed).reason is Reason.OUT_OF_MEMORY
    at_once = {
        "exitCode": 128,
        "reason": "StartError",
        "message": "container init was OOM-killed (memory limit too low?)",
    }
    assert explain("coder-0", "llm", at_once).reason is Reason.OUT_OF_MEMORY


@pytest.mark.parametrize("code", [0, 137, 143])
def test_a_server_that_the_kubelet_stopped_did_not_answer_its_probe(code: int) -> None:
    ended = {
        "exitCode": code,
        "reason": "Error",
        "startedAt": "2026-11-21T10:00:00Z",
        "finishedAt": "2026-11-21T11:00:30Z",
    }
    message = explain("coder-0", "llm", ended).message
    assert "stopped by the kubelet after 3630 s" in message
    assert "kubectl logs -n llm coder-0 --previous" in message


def test_a_processor_that_is_too_old_for_the_image_is_named() -> None:
    message = explain("coder-0", "llm", {"exitCode": 132, "message": "init: n_threads = 2"}).message
    assert "the processor lacks an instruction" in message


@pytest.mark.parametrize(
    ("code", "line", "means"),
    [
        (134, "  what():  Unexpected empty grammar stack after accepting piece: x", "aborted"),
        (139, "Segmentation fault (core dumped)", "segmentation fault"),
        (127, "exec: llama-server: executable file failed to start", "lacks the program"),
        (132, "ggml_cpu: illegal instruction error", "lacks an instruction"),
    ],
)
def test_an_abort_shows_its_telling_line(code: int, line: str, means: str) -> None:
    text = f"0.00.1 I srv  load: default thinking = 1\n{line}\n0.00.2 I srv  bye\n"
    crash = explain("coder-0", "llm", {"exitCode": code, "message": text})
    assert crash.reason is Reason.CRASH_LOOPING
    assert line.strip() in crash.message
    assert means in crash.message
    assert "default thinking" not in crash.message


def test_words_that_nobody_knows_are_shown_as_they_are() -> None:
    message = explain(
        "coder-0", "llm", {"exitCode": 3, "message": "a\nfatal error: b\nc\n"}
    ).message
    assert "fatal error: b" in message
    assert "no output" in explain("coder-0", "llm", {"exitCode": 3}).message

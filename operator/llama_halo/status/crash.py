"""Diagnoses why a container ended, from llama-server's last log lines and the kubelet's record.

The phrases come from real failures. llama-server ends every failed load with the same lines
("failed to load model", "exiting due to model loading error"), so none of those is a phrase here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llama_halo.contract.reasons import Reason

LINE_LIMIT = 300


@dataclass(frozen=True)
class Crash:
    """Why a container ended, and what to do about it."""

    reason: Reason
    evidence: str
    advice: str
    is_cut: bool = False
    """Whether the last lines name no cause, although llama-server always logs one: on a busy node
    the kubelet may read the end of a log before the last lines are in it."""

    @property
    def message(self) -> str:
        return f"{self.evidence}: {self.advice}" if self.advice else self.evidence


@dataclass(frozen=True)
class _FailureClass:
    """A class of failures: a log line that contains one of the phrases (in lower case) shows it."""

    reason: Reason
    phrases: tuple[str, ...]
    advice: str


# The first class with a matching line wins. "invalid device" is in a line that also names a bad
# variable, and a bad version or type is followed by the phrases of a broken header.
_CLASSES = (
    _FailureClass(
        Reason.DEVICE_UNAVAILABLE,
        ("invalid device:",),
        "the container does not see the GPU; check spec.devices, spec.backend and spec.image, and"
        " the driver on the node (ls -l /dev/kfd /dev/dri)",
    ),
    _FailureClass(
        Reason.BAD_FLAG,
        ("common_chat_templates_init: error:", "the supplied chat template is not supported"),
        "this llama-server does not take the chat template: correct the one that spec.chatTemplate"
        " names, or give the model another one there",
    ),
    _FailureClass(
        Reason.BAD_FLAG,
        (
            "error: invalid argument:",
            "error while handling argument",
            "error while handling environment variable",
            "to show complete usage, run with -h",
            "quantized v cache requires",
            "quantized v cache was requested",
        ),
        "correct spec.extraArgs or spec.env; `llama-server --help` of this image lists the flags",
    ),
    _FailureClass(
        Reason.DEVICE_UNAVAILABLE,
        (
            "tensilelibrary",
            "no kernel image is available",
            "hiperrornobinaryforgpu",
            "invalid device function",
            "no compatible code objects",
        ),
        "this image has no kernels for the GPU: choose a spec.image that is built for it (gfx1151),"
        " or backend Vulkan",
    ),
    _FailureClass(
        Reason.DEVICE_UNAVAILABLE,
        ("error while loading shared libraries:", "symbol lookup error:"),
        "the image lacks this library: choose another spec.image, or set LD_LIBRARY_PATH in"
        " spec.env to where it is",
    ),
    _FailureClass(
        Reason.CRASH_LOOPING,
        (
            "memory access fault by gpu",
            "hw exception by gpu",
            "gpu hang",
            "errordevicelost",
            "error_device_lost",
            "illegal memory access",
            "unspecified launch failure",
        ),
        "the GPU or its driver failed: `llama-halo doctor` says whether the node's kernel or"
        " firmware is known for this, and `dmesg | grep amdgpu` there what happened; update both,"
        " or choose the other backend",
    ),
    _FailureClass(
        Reason.OUT_OF_MEMORY,
        (
            "insufficient memory",
            "cannot allocate memory",
            "unable to allocate",
            "failed to allocate buffer",
            "buffer of size",
            "failed to allocate compute",
            "failed to allocate memory",
            "std::bad_alloc",
            "erroroutofdevicememory",
            "erroroutofhostmemory",
            "device memory allocation of size",
            "out of memory",
        ),
        "lower contextSize, or raise spec.memory and, on the node, the GPU's limit"
        " (ttm.pages_limit)",
    ),
    _FailureClass(
        Reason.CRASH_LOOPING,
        ("couldn't bind http server socket",),
        "the port is taken inside the pod, or --host in extraArgs is not an address of it; look for"
        " a sidecar that listens there",
    ),
    _FailureClass(
        Reason.UNSUPPORTED_MODEL,
        (
            "unknown model architecture",
            "unknown pre-tokenizer type",
            "cannot be used as main model",
            "only supports up to version",
            "is no longer supported, please",
            "has invalid ggml type",
            "key not found in model",
            "check_tensor_dims:",
            "missing tensor",
            "wrong number of tensors",
        ),
        "this llama.cpp does not know the model, or the file is damaged; choose a newer spec.image"
        " or another file, or compare the file's checksum",
    ),
    _FailureClass(
        Reason.CRASH_LOOPING,
        ("ggml_assert(", "assertion `", "assertion failed"),
        "a check inside of this llama.cpp failed: choose another spec.image, and leave out what is"
        " unusual in spec.extraArgs; the line is what to search for in llama.cpp's issues",
    ),
    _FailureClass(
        Reason.SOURCE_NOT_FOUND,
        ("failed to open gguf file",),
        "put the file into the node's store, readable for the container's user, or correct"
        " spec.source.local.path",
    ),
    _FailureClass(
        Reason.NOT_A_GGUF,
        (
            "invalid magic characters",
            "failed to read magic",
            "failed to read header",
            "failed to read key-value pairs",
            "failed to read tensor",
            "is not within the file bounds",
            "corrupted or incomplete",
            "invalid split file name",
            "illegal split file idx",
        ),
        "the file is not a complete GGUF (an HTML page, a Git LFS pointer, a download that was cut,"
        " a later shard?); get it again, and name the first shard of a split model",
    ),
)
# Vulkan logs a warning with this phrase and continues.
_HARMLESS = "pinned memory"
_EXIT_CODES = {
    127: "the image lacks the program or a library: check spec.image and spec.command",
    132: "the processor lacks an instruction of this build: choose another spec.image",
    134: "the program aborted (SIGABRT)",
    139: "the program crashed (segmentation fault)",
}
_FAILING = re.compile(
    r"error|fail|exception|\bfault\b|\baborted\b|terminate called|what\(\):", re.IGNORECASE
)
# Exit codes of a process that was stopped: a clean end, SIGKILL, SIGTERM.
_STOPPED = (0, 137, 143)


def explain(pod: str, namespace: str, terminated: Mapping[str, Any]) -> Crash:
    """Return why a container ended; `terminated` is the container's state of that name."""
    message, code = terminated.get("message") or "", terminated.get("exitCode")
    if terminated.get("reason") == "OOMKilled" or "OOM-killed" in message:
        return Crash(
            Reason.OUT_OF_MEMORY,
            f"pod {pod} was killed at its memory limit",
            "raise spec.memory.host, or lower contextSize or promptCacheMiB",
        )
    ended = f"pod {pod} ended with code {code}"
    for candidate in _CLASSES:
        line = _line_with(message, candidate.phrases)
        if line:
            return Crash(candidate.reason, f"{ended}: {line}", candidate.advice)
    logs = f"kubectl logs -n {namespace} {pod} --previous"
    if code in _EXIT_CODES:
        telling = _failing_lines(message)
        evidence = f"{ended}, {_EXIT_CODES[code]}" + (f": {telling[-1]}" if telling else "")
        return Crash(Reason.CRASH_LOOPING, evidence[: 2 * LINE_LIMIT], f"see {logs}")
    if code in _STOPPED and terminated.get("reason") != "StartError":
        return Crash(
            Reason.CRASH_LOOPING,
            f"pod {pod} was stopped by the kubelet{_after(terminated)} because it did not answer"
            " GET /health",
            f"it hangs, or loads for longer than the startup probe allows; see {logs}",
        )
    is_cut = not _failing_lines(message)
    return Crash(Reason.CRASH_LOOPING, f"{ended}: {_last_line(message)}", f"see {logs}", is_cut)


def _line_with(text: str, phrases: tuple[str, ...]) -> str | None:
    """Return the first line of a log with any of the phrases: a cause precedes its effects."""
    for line in text.splitlines():
        lower = line.lower()
        if _HARMLESS not in lower and any(phrase in lower for phrase in phrases):
            return line.strip()[:LINE_LIMIT]
    return None


def _last_line(text: str) -> str:
    """Return the last line that speaks of a failure, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (_failing_lines(text) or lines or ["no output"])[-1][:LINE_LIMIT]


def _failing_lines(text: str) -> list[str]:
    """Return the lines that speak of a failure."""
    lines = [line.strip()[:LINE_LIMIT] for line in text.splitlines()]
    return [line for line in lines if _FAILING.search(line)]


def _after(terminated: Mapping[str, Any]) -> str:
    began, ended = terminated.get("startedAt"), terminated.get("finishedAt")
    if not began or not ended:
        return ""
    took = datetime.fromisoformat(ended) - datetime.fromisoformat(began)
    return f" after {took.total_seconds():.0f} s"

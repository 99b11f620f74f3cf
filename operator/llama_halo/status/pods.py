"""What one pod is doing, from its own status, in words a person can act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_halo.api.reasons import FAILED_REASONS, Reason
from llama_halo.plan import labels

RESTARTS_UNTIL_STALLED = 5
_PULL_FAILURES = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
# llama-server's own words, in the order in which they are looked for.
_NO_DEVICE = ("invalid device",)
_NO_MEMORY = (
    "out of memory",
    "outofdevicememory",
    "failed to allocate",
    "unable to allocate",
    "cannot allocate",
)
_NO_FILE = ("no such file", "failed to open", "failed to load model", "error loading model")


@dataclass(frozen=True)
class PodState:
    """One pod, told in one reason and one sentence."""

    name: str
    node: str
    config_hash: str
    reason: Reason
    message: str
    restarts: int = 0
    terminating: bool = False

    @property
    def ready(self) -> bool:
        return self.reason is Reason.SERVING

    @property
    def stalled(self) -> bool:
        return self.reason in FAILED_REASONS and self.restarts >= RESTARTS_UNTIL_STALLED


def pod_state(pod: Mapping[str, Any]) -> PodState:
    """Read the state of a pod with one container of interest, the first."""
    status = pod.get("status", {})
    containers: Sequence[Mapping[str, Any]] = status.get("containerStatuses", ())
    container = containers[0] if containers else {}
    reason, message = _reason(pod, status, container)
    metadata = pod["metadata"]
    return PodState(
        name=metadata["name"],
        node=pod.get("spec", {}).get("nodeName", ""),
        config_hash=metadata.get("annotations", {}).get(labels.CONFIG_HASH, ""),
        reason=reason,
        message=message,
        restarts=container.get("restartCount", 0),
        terminating="deletionTimestamp" in metadata,
    )


def has_ended(pod: Mapping[str, Any]) -> bool:
    """Tell whether a pod is over, such as one that was evicted; its successor counts."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _reason(
    pod: Mapping[str, Any], status: Mapping[str, Any], container: Mapping[str, Any]
) -> tuple[Reason, str]:
    name = pod["metadata"]["name"]
    if _is_ready(status):
        return Reason.SERVING, f"pod {name} answers"
    if not pod.get("spec", {}).get("nodeName"):
        return Reason.SCHEDULING, _unscheduled(name, status)
    state = container.get("state", {})
    crash = state.get("terminated") or container.get("lastState", {}).get("terminated")
    # A first restart may be what it took; from the second on, what ended it is the news.
    if crash and ("running" not in state or container.get("restartCount", 0) > 1):
        return _crashed(name, container, crash)
    if "running" in state:
        after = f" (restart {container['restartCount']})" if container.get("restartCount") else ""
        return Reason.LOADING, f"pod {name} loads the model{after}"
    return _waiting(name, container, state.get("waiting", {}))


def _waiting(
    name: str, container: Mapping[str, Any], waiting: Mapping[str, Any]
) -> tuple[Reason, str]:
    """Tell why a container has not been started yet, in the kubelet's words if there are any."""
    reason, detail = waiting.get("reason"), waiting.get("message")
    if reason in _PULL_FAILURES:
        return Reason.IMAGE_PULL_FAILED, (
            f"pod {name} cannot pull {container.get('image', '')}: {detail or reason}: correct"
            " spec.image, or spec.pod.imagePullSecrets for a private registry"
        )
    if detail:
        return Reason.CRASH_LOOPING, f"pod {name} cannot start: {reason}: {detail}"
    return Reason.PULLING_IMAGE, (
        f"pod {name} is being created (image, volumes, devices); if this lasts:"
        f" kubectl describe pod {name}"
    )


def _crashed(
    name: str, container: Mapping[str, Any], crash: Mapping[str, Any]
) -> tuple[Reason, str]:
    restarts, said = container.get("restartCount", 0), crash.get("message") or ""
    seen = f"pod {name} ended with code {crash.get('exitCode')} ({restarts} restarts): "
    if crash.get("reason") == "OOMKilled":
        return Reason.OUT_OF_MEMORY, (
            f"pod {name} was killed at its memory limit ({restarts} restarts): raise"
            " spec.memory.host, or lower contextSize or promptCacheMiB"
        )
    if line := _line_with(said, _NO_DEVICE):
        return Reason.DEVICE_UNAVAILABLE, (
            f"{seen}{line}: the container does not see the GPU; check spec.devices and"
            " spec.backend, and the node's driver"
        )
    if line := _line_with(said, _NO_MEMORY):
        return Reason.OUT_OF_MEMORY, f"{seen}{line}: lower contextSize, or raise spec.memory"
    if line := _line_with(said, _NO_FILE):
        return Reason.SOURCE_NOT_FOUND, (
            f"{seen}{line}: check that the node's store has the file of spec.source.local.path"
            " and that it is a GGUF"
        )
    return Reason.CRASH_LOOPING, f"{seen}{_last_line(said)}: see kubectl logs --previous {name}"


def _line_with(text: str, words: tuple[str, ...]) -> str | None:
    """Return the first line of a log with any of the words: the cause comes before its effects."""
    for line in text.splitlines():
        if any(each in line.lower() for each in words):
            return line.strip()[:300]
    return None


def _last_line(text: str) -> str:
    """Return the last line that tells of an error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower() or "fail" in line.lower()]
    return (telling or lines or ["no output"])[-1][:300]


def _unscheduled(name: str, status: Mapping[str, Any]) -> str:
    for each in status.get("conditions", ()):
        if each["type"] == "PodScheduled" and each.get("message"):
            return f"pod {name} is not scheduled: {each['message']}"
    return f"pod {name} waits for the scheduler"


def _is_ready(status: Mapping[str, Any]) -> bool:
    return any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in status.get("conditions", ())
    )

"""Derives the state of one pod from its status, with a message that a person can act on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llama_halo.contract import labels
from llama_halo.contract.reasons import FAILED_REASONS, STALLED_REASONS, Reason
from llama_halo.plan.server import PORT
from llama_halo.status.crash import explain

RESTARTS_UNTIL_STALLED = 5
FAILING_SECONDS_UNTIL_STALLED = 600
_PULL_FAILURES = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
# Reasons for which a container waits during an ordinary creation.
_CREATING = ("ContainerCreating", "PodInitializing")
_SERVERS = ("llama-server", "whisper-server")
CONTAINERS = (
    *_SERVERS,
    *("gateway", "claude-code-router", "litellm", "llama-swap"),
)
"""The names of our containers; webhooks may add others to a pod."""


@dataclass(frozen=True)
class PodState:
    """The state of one pod, with one reason and one message."""

    name: str
    node: str
    config_hash: str
    reason: Reason
    message: str
    restarts: int = 0
    terminating: bool = False
    created: str = ""
    memory_mib: int = 0
    """GPU and host memory that it holds, by its annotations."""
    address: str = ""
    """Where its server listens, or will in a moment; empty until it runs."""

    @property
    def ready(self) -> bool:
        return self.reason is Reason.SERVING

    def stalled(self, not_ready_since: str, now: str) -> bool:
        """Tell whether only a person can help: at once for a mistake, else after some time or
        restarts."""
        if self.reason in STALLED_REASONS:
            return True
        if self.reason not in FAILED_REASONS:
            return False
        since = max(self.created, not_ready_since)
        return self.restarts >= RESTARTS_UNTIL_STALLED or has_failed_long(since, now)


def has_failed_long(since: str, now: str) -> bool:
    """Tell whether a failure has lasted for `FAILING_SECONDS_UNTIL_STALLED`."""
    lasted = datetime.fromisoformat(now) - datetime.fromisoformat(since or now)
    return lasted.total_seconds() >= FAILING_SECONDS_UNTIL_STALLED


def pod_state(
    pod: Mapping[str, Any], finding: str = "", *, diagnosis: tuple[Reason, str] | None = None
) -> PodState:
    """Return the state of a pod.

    `finding` is the newest warning among its Events, for a pod stuck in creation. `diagnosis` is
    the failure that the status already reports; it stays if a later crash of the pod names no
    cause.
    """
    status = pod.get("status", {})
    container = _container(status)
    reason, message = _reason(pod, status, container, finding, diagnosis)
    metadata = pod["metadata"]
    return PodState(
        name=metadata["name"],
        node=pod.get("spec", {}).get("nodeName", ""),
        config_hash=metadata.get("annotations", {}).get(labels.CONFIG_HASH, ""),
        reason=reason,
        message=message,
        restarts=container.get("restartCount", 0),
        terminating="deletionTimestamp" in metadata,
        created=metadata.get("creationTimestamp", ""),
        memory_mib=_memory_mib(metadata.get("annotations") or {}),
        address=_address(status, container),
    )


def _address(status: Mapping[str, Any], container: Mapping[str, Any]) -> str:
    ip = status.get("podIP", "")
    if not ip or "running" not in container.get("state", {}):
        return ""
    return f"[{ip}]:{PORT}" if ":" in ip else f"{ip}:{PORT}"


def _memory_mib(annotations: Mapping[str, str]) -> int:
    amounts = [annotations.get(annotation, "") for annotation in (labels.GPU_MIB, labels.HOST_MIB)]
    return sum(int(amount) for amount in amounts if amount.isdecimal())


def has_ended(pod: Mapping[str, Any]) -> bool:
    """Tell whether a pod has ended, for example by eviction; its successor counts instead."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_in_creation(pod: Mapping[str, Any]) -> bool:
    """Tell whether the kubelet still creates the pod; only its Events show why that takes long."""
    if has_ended(pod) or "deletionTimestamp" in pod["metadata"]:
        return False
    waiting = _container(pod.get("status", {})).get("state", {}).get("waiting", {})
    return bool(pod.get("spec", {}).get("nodeName")) and waiting.get("reason") in _CREATING


def rejected(pods: Sequence[Mapping[str, Any]], config_hash: str) -> tuple[Reason, str, str] | None:
    """Return why the kubelet refused the newest pod of a version before its start, or None.

    The result is reason, message and the pod's creation time.
    """
    refused = [
        pod
        for pod in pods
        if pod.get("status", {}).get("phase") == "Failed"
        and not pod["status"].get("containerStatuses")
        and pod["metadata"].get("annotations", {}).get(labels.CONFIG_HASH) == config_hash
    ]
    if not refused:
        return None
    pod = max(refused, key=_created)
    name, status = pod["metadata"]["name"], pod["status"]
    refusal = f"{status.get('reason', '')}: {status.get('message', '')}"
    if status.get("reason") == "UnexpectedAdmissionError":
        advice = "check the device plugin and spec.devices.resource"
        message = f"the node refused pod {name}: {refusal}: {advice}"
        return Reason.DEVICE_UNAVAILABLE, message, _created(pod)
    message = f"the node refused pod {name}: {refusal}: look at the node's conditions"
    return Reason.CANNOT_START, message, _created(pod)


def creation_refusal(deployment: Mapping[str, Any]) -> tuple[Reason, str, str] | None:
    """Return why the cluster refuses to create a Deployment's pods, None if it does not.

    The result is reason, message and the time since which it refuses.
    """
    for condition in deployment.get("status", {}).get("conditions", ()):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            name = deployment["metadata"]["name"]
            message = (
                f"the pods of Deployment {name} are refused: {condition.get('message')}: change the"
                " namespace's quota or Pod Security level, or spec.devices"
            )
            return Reason.CANNOT_START, message, condition.get("lastTransitionTime", "")
    return None


def _created(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"].get("creationTimestamp", ""))


def _container(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the status of our container; the kubelet sorts all containers of a pod by name.

    A router's engine starts after its gateway sidecar, so until then that is the sidecar's status.
    """
    before = [
        init_status
        for init_status in status.get("initContainerStatuses", ())
        if not init_status.get("started")
    ]
    statuses = [*before, *status.get("containerStatuses", ())]
    return next((container for container in statuses if container.get("name") in CONTAINERS), {})


def _reason(
    pod: Mapping[str, Any],
    status: Mapping[str, Any],
    container: Mapping[str, Any],
    finding: str,
    diagnosis: tuple[Reason, str] | None,
) -> tuple[Reason, str]:
    name = pod["metadata"]["name"]
    if _is_ready(status):
        return Reason.SERVING, f"pod {name} answers"
    if not pod.get("spec", {}).get("nodeName"):
        return Reason.SCHEDULING, _unscheduled(name, status)
    state, restarts = container.get("state", {}), container.get("restartCount", 0)
    terminated = state.get("terminated") or container.get("lastState", {}).get("terminated")
    if terminated:
        crash = explain(name, pod["metadata"].get("namespace", ""), terminated)
        # A first restart may have helped. After a second one, or if the same must happen again,
        # report the crash.
        if "running" not in state or restarts > 1 or crash.reason in STALLED_REASONS:
            reason, message = crash.reason, crash.message
            if crash.is_cut and diagnosis and diagnosis[1].startswith(f"pod {name} ended "):
                reason, message = diagnosis[0], diagnosis[1].partition(" (restarts: ")[0]
            return reason, f"{message} (restarts: {restarts})"
    if "running" in state:
        node = pod["spec"]["nodeName"]
        return Reason.LOADING, _loading(name, node, container, status)
    return _waiting(name, container, state.get("waiting", {}), finding)


def _loading(name: str, node: str, container: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    restarts = container.get("restartCount", 0)
    others = [
        container_status["name"]
        for container_status in status.get("containerStatuses", ())
        if not container_status.get("ready") and container_status.get("name") not in CONTAINERS
    ]
    if container.get("ready") and others:
        return f"pod {name} answers, and waits for its other containers: {', '.join(others)}"
    if container.get("ready"):
        return (
            f"pod {name} was ready at its kubelet's last report, and is no longer: its node may be"
            f" down; see kubectl get node {node}"
        )
    return f"pod {name} loads the model" + (f" (restarts: {restarts})" if restarts else "")


def waits_for(pod: Mapping[str, Any], container: Mapping[str, Any]) -> tuple[Reason, str] | None:
    """Return what keeps a pod's container from its first start, None if nothing does."""
    name, waiting = pod["metadata"]["name"], container.get("state", {}).get("waiting", {})
    if waiting.get("reason") == "CrashLoopBackOff":
        return None
    if waiting.get("message"):
        return _waiting(name, container, waiting, "")
    for condition in pod.get("status", {}).get("conditions", ()):
        if (
            condition["type"] == "PodScheduled"
            and condition["status"] != "True"
            and condition.get("message")
        ):
            return Reason.SCHEDULING, _unscheduled(name, pod["status"])
    return None


_CACHE_NOT_SYNCED = re.compile(r"failed to sync (secret|configmap) cache")
"""What a busy kubelet says before it has read a Secret or ConfigMap; it tries again at once."""


def _waiting(
    name: str, container: Mapping[str, Any], waiting: Mapping[str, Any], finding: str
) -> tuple[Reason, str]:
    """Return why a container has not started yet, with the kubelet's message if there is one."""
    reason, detail = waiting.get("reason"), waiting.get("message")
    if reason in _PULL_FAILURES:
        of_a_model = container.get("name") in _SERVERS
        field = "spec.image" if of_a_model else "the version in spec.engine, or spec.pod.image"
        return Reason.IMAGE_PULL_FAILED, (
            f"pod {name} cannot pull {container.get('image', '')}: {detail or reason}: correct"
            f" {field}, or spec.pod.imagePullSecrets for a private registry"
        )
    if detail and _CACHE_NOT_SYNCED.search(detail):
        return Reason.PULLING_IMAGE, f"pod {name} is being created: its kubelet says: {detail}"
    if detail:
        return Reason.CANNOT_START, f"pod {name} cannot start: {reason}: {detail}"
    if "hostPath type check failed: /dev/" in finding:
        return Reason.DEVICE_UNAVAILABLE, (
            f"pod {name} cannot start: {finding}: the node lacks the GPU's device node; load the"
            " amdgpu driver there, or choose other nodes with spec.pod.nodeSelector"
        )
    if finding:
        return Reason.CANNOT_START, f"pod {name} cannot start: {finding}"
    return Reason.PULLING_IMAGE, f"pod {name} is being created (image, volumes, devices)"


def _unscheduled(name: str, status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition.get("message"):
            return f"pod {name} is not scheduled: {condition['message']}"
    return f"pod {name} waits for the scheduler"


def _is_ready(status: Mapping[str, Any]) -> bool:
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in status.get("conditions", ())
    )

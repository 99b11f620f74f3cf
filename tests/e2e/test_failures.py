"""Every failure that a pod can show, provoked for real on the node, and what people are told.

The models fail side by side, so that the waiting is done once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hack.testbed import images, llama_server, node, processes
from hack.testbed.cluster import Testbed
from tests.support.api import eventually, message, ready
from tests.support.kubectl import Kubectl
from tests.support.manifests import smollm2

SQUATTER = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8080)"


@dataclass(frozen=True)
class Failure:
    """A model that fails, and what its status must say then."""

    name: str
    spec: dict[str, Any]
    reason: str
    says: tuple[str, ...]
    stalled_at_once: bool = False


def local(path: str) -> dict[str, Any]:
    return {"source": {"local": {"path": path}}}


FAILURES = (
    Failure(
        "missing-file",
        local("smollm2/nothing.gguf"),
        "SourceNotFound",
        ("nothing.gguf' (No such file or directory)", "spec.source.local.path"),
    ),
    Failure(
        "unreadable-file",
        local("broken/unreadable.gguf"),
        "SourceNotFound",
        ("(Permission denied)", "readable for the container's user"),
    ),
    Failure(
        "text-file",
        local("broken/text.gguf"),
        "NotAGGUF",
        ("invalid magic characters", "get it again"),
        stalled_at_once=True,
    ),
    Failure(
        "cut-file",
        local("broken/cut.gguf"),
        "NotAGGUF",
        ("corrupted or incomplete", "a download that was cut"),
        stalled_at_once=True,
    ),
    Failure(
        "unknown-flag",
        {"extraArgs": ["--no-such-flag"]},
        "BadFlag",
        ("invalid argument: --no-such-flag", "correct spec.extraArgs"),
        stalled_at_once=True,
    ),
    Failure(
        "bad-value",
        {"extraArgs": ["--temp", "warm"]},
        "BadFlag",
        ('error while handling argument "--temp"',),
        stalled_at_once=True,
    ),
    Failure(
        "killed",
        {"memory": {"host": "20Mi"}},
        "OutOfMemory",
        ("killed at its memory limit", "raise spec.memory.host"),
    ),
    Failure(
        "no-allocation",
        # Refused by llama.cpp itself: more than the address space it is allowed.
        {
            "command": ["sh", "-c", 'ulimit -v 1500000; exec llama-server "$@"', "llama-server"],
            "contextSize": 1_000_000,
            "memory": {"host": "1Gi"},
        },
        "OutOfMemory",
        ("allocate", "lower contextSize"),
    ),
    Failure(
        "wrong-image",
        {"image": "localhost/no-such-image:1"},
        "ImagePullFailed",
        ("cannot pull localhost/no-such-image:1", "spec.image"),
    ),
    Failure(
        "no-program",
        {"command": ["/no/such/program"]},
        "CrashLooping",
        ("/no/such/program", "kubectl logs -n e2e"),
    ),
    Failure(
        "no-node",
        {"pod": {"nodeSelector": {"disk": "fast"}}},
        "WaitingForNode",
        ("disk=fast", "label a node"),
    ),
    Failure(
        "no-memory",
        {"memory": {"host": "4Ti"}},
        "ModelTooLarge",
        ("needs 4096.0Gi of memory, and the largest node that may run it, halo-1, has",),
    ),
    Failure(
        "no-secret",
        {"env": [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k"}}}]},
        "CannotStart",
        ('secret "gone" not found',),
    ),
    Failure(
        "unschedulable",
        {"pod": {"resources": {"requests": {"cpu": "900"}}}},
        "Scheduling",
        ("is not scheduled: 0/1 nodes are available", "Insufficient cpu"),
    ),
    Failure(
        "no-resource",
        {
            "backend": "Vulkan",
            "devices": {"resource": {"name": "amd.com/gpu", "count": 1}},
            "memory": {"gpu": "256Mi", "host": "256Mi"},
        },
        "Scheduling",
        ("Insufficient amd.com/gpu",),
    ),
    Failure(
        "no-gpu",
        {"backend": "Vulkan", "memory": {"gpu": "256Mi", "host": "256Mi"}},
        "DeviceUnavailable",
        ("invalid device: Vulkan0", "does not see the GPU"),
    ),
)


@pytest.fixture(scope="module", autouse=True)
def broken_files(kube: Kubectl) -> Iterator[None]:
    """Files in the node's store that are no models, or cannot be read."""
    if not isinstance(kube.cluster, Testbed):
        pytest.skip("these tests break the node, and so are for the testbed's own alone")
    folder = node.MODEL_STORE / "broken"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.gguf").write_text("<!DOCTYPE html><title>Not here</title>\n" * 9)
    with llama_server.model_file().open("rb") as whole:
        (folder / "cut.gguf").write_bytes(whole.read(30_000_000))
    unreadable = folder / "unreadable.gguf"
    unreadable.write_bytes(b"GGUF")
    unreadable.chmod(0)
    yield
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.fixture(scope="module")
def failing(kube: Kubectl, broken_files: None) -> Iterator[None]:
    """All failing models at once, each with hardly any claim on the node's processor."""
    for failure in FAILURES:
        small: dict[str, Any] = {"resources": {"requests": {"cpu": "10m"}}}
        spec = {"memory": {"host": "64Mi"}, **failure.spec}
        kube.apply(smollm2(failure.name, **{**spec, "pod": {**small, **spec.get("pod", {})}}))
    yield
    # Also when a test failed before it did so: they would hold the node's turn to roll.
    names = (failure.name for failure in FAILURES)
    kube("delete", "llamamodels", *names, "--ignore-not-found", "--wait=false")


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("failure", FAILURES, ids=[failure.name for failure in FAILURES])
def test_a_failure_is_told_with_what_was_seen_and_what_to_do(
    kube: Kubectl, failure: Failure
) -> None:
    def read_resource() -> dict[str, Any]:
        return kube.get(f"llamamodel/{failure.name}")

    value = eventually(
        read_resource, until=lambda item: ready(item)[1] == failure.reason, seconds=120
    )
    for say in failure.says:
        assert say in message(value)
    kinds = {condition["type"]: condition["status"] for condition in value["status"]["conditions"]}
    assert kinds["Ready"] == kinds["Available"] == "False"
    if failure.stalled_at_once:
        assert kinds.get("Stalled") == "True"
        assert "Reconciling" not in kinds
    # A second start may be under way just now: STATE is Loading until it fails as the first did.
    eventually(
        lambda: kube("get", "llamamodel", failure.name),
        until=lambda shown: failure.reason in shown,
        seconds=120,
    )
    if failure.reason != "Scheduling":

        def events() -> list[dict[str, Any]]:
            return [e for e in events_of(kube, failure.name) if e["reason"] == failure.reason]

        (event,) = eventually(events, seconds=10)
        assert failure.says[0] in event["note"]


def events_of(kube: Kubectl, name: str) -> list[dict[str, Any]]:
    """Return the Events about a model; its Service has the same name, and Events of others."""
    regarding = {"kind": "LlamaModel", "name": name}
    return [e for e in kube.list("events") if regarding.items() <= e["regarding"].items()]


@pytest.mark.timeout(500)
def test_crashes_become_stalled_after_five_restarts_and_post_no_more_events(
    kube: Kubectl, failing: None
) -> None:
    def stalled() -> bool:
        conditions = kube.get("llamamodel/missing-file")["status"]["conditions"]
        return any(condition["type"] == "Stalled" for condition in conditions)

    eventually(stalled, seconds=400)
    (pod,) = kube.list("pods", "llama-halo.dev/model=missing-file")
    assert pod["status"]["containerStatuses"][0]["restartCount"] >= 5
    assert [e["reason"] for e in events_of(kube, "missing-file")] == ["SourceNotFound"]
    for failure in FAILURES:
        kube("delete", "llamamodel", failure.name, "--wait=false")


def test_without_kfd_rocm_is_told_from_the_pods_events_and_vulkan_serves(kube: Kubectl) -> None:
    """A kernel without CONFIG_HSA_AMD, as Talos had it."""
    device = Path("/dev/kfd")
    number = device.stat().st_rdev
    device.unlink()
    try:
        spec: dict[str, Any] = {
            "devices": {"privileged": {}},
            "memory": {"gpu": "1Gi", "host": "1Gi"},
        }
        kube.apply(smollm2("no-kfd", backend="ROCm", **spec))
        software = [{"name": "GGML_VK_VISIBLE_DEVICES", "value": "0"}]
        kube.apply(smollm2("only-dri", backend="Vulkan", env=software, **spec))
        value = eventually(
            lambda: kube.get("llamamodel/no-kfd"),
            until=lambda item: ready(item)[1] == "DeviceUnavailable",
            seconds=60,
        )
        assert "/dev/kfd" in message(value)
        assert "the node lacks the GPU's device node" in message(value)
        kube.wait_ready("llamamodel/only-dri", seconds=180)
    finally:
        if device.is_dir():
            device.rmdir()  # containerd makes one for a container that starts anew just then
        device.unlink(missing_ok=True)
        os.mknod(device, 0o666 | 0o020000, number)
        kube("delete", "llamamodel", "no-kfd", "only-dri")


def test_a_port_that_a_sidecar_took_is_told(kube: Kubectl) -> None:
    """A sidecar that somebody adds by hand stays, and listens first where the server wants to."""
    kube.apply(smollm2("squatted"))
    (name,) = eventually(
        lambda: kube("get", "deploy", "-l", "llama-halo.dev/model=squatted", "-o", "name").split(),
        seconds=30,
    )
    squatter = {
        "name": "a-squatter",
        "image": images.SERVER_IMAGE,
        "command": ["python3", "-c", SQUATTER],
        "restartPolicy": "Always",
        "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 60},
    }
    patch = {"spec": {"template": {"spec": {"initContainers": [squatter]}}}}
    kube.patch(name, patch)
    value = eventually(
        lambda: kube.get("llamamodel/squatted"),
        until=lambda item: "couldn't bind" in message(item),
        seconds=120,
    )
    assert ready(value)[1] == "CrashLooping"
    assert "sidecar" in message(value)
    kube("delete", "llamamodel", "squatted")


def test_a_server_that_never_answers_is_told(kube: Kubectl) -> None:
    """With the operator's patience set to seconds; the default is an hour."""
    operator = ("-n", "llama-halo-system", "deployment/llama-halo-operator")
    kube("set", "env", *operator, "LLAMA_HALO_STARTUP_TIMEOUT=20s")
    try:
        kube("rollout", "status", *operator, "--timeout=120s")
        # A process that ignores SIGTERM keeps the kubelet waiting for its whole grace period.
        silent = ["sh", "-c", "trap 'exit 143' TERM; sleep 1000 & wait"]
        kube.apply(smollm2("silent", command=silent))
        value = eventually(
            lambda: kube.get("llamamodel/silent"),
            until=lambda item: ready(item)[1] == "CrashLooping",
            seconds=180,
        )
        assert "did not answer GET /health" in message(value)
    finally:
        kube("delete", "llamamodel", "silent")
        kube("set", "env", *operator, "LLAMA_HALO_STARTUP_TIMEOUT-")
        kube("rollout", "status", *operator, "--timeout=120s")


def test_a_model_leaves_a_node_whose_kubelet_died(kube: Kubectl) -> None:
    """For a node that kwok plays; nothing waits for the pod that hangs on the dead one."""
    cluster = kube.cluster
    assert isinstance(cluster, Testbed)
    cluster.add_fake_nodes(1)
    unreachable = {"key": "node.kubernetes.io/unreachable", "operator": "Exists"}
    away = [{**unreachable, "effect": "NoExecute", "tolerationSeconds": 5}]
    spec = {"nodeSelector": {"kubernetes.io/os": "linux"}, "tolerations": away}
    model = smollm2("mover", pod={**spec, "resources": {"requests": {"cpu": "100m"}}})
    model["spec"]["memory"] = {"host": "8Gi"}  # the real node is the smaller one, and is chosen
    kube.apply(model)
    kube.wait_ready("llamamodel/mover")
    assert kube.get("llamamodel/mover")["status"]["nodeSummary"] == "halo-1"
    processes.stop(cluster.layout, "kubelet", grace_seconds=0)
    try:

        def moved() -> bool:
            status = kube.get("llamamodel/mover")["status"]
            return status.get("nodeSummary") == "fake-0" and status["readyReplicas"] == 1

        eventually(moved, seconds=240, description="served by the other node")
        hanging = kube.list("pods", "llama-halo.dev/model=mover")
        assert any(
            entry["spec"].get("nodeName") == "halo-1" and "deletionTimestamp" in entry["metadata"]
            for entry in hanging
        )
    finally:
        cluster.up()
        kube("delete", "llamamodel", "mover", "--wait=false")
        kube("delete", "node", "fake-0")
        kube("wait", "--for=condition=Ready", "node/halo-1", "--timeout=120s")

"""Nodes whose labels and taints come and go, as in clusters where agents restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.api import Api, eventually
from tests.support.resources import Json, model, pods, wait_ready

AGENT_TAINT = [{"key": "node.cilium.io/agent-not-ready", "effect": "NoSchedule"}]
PRESSURE = "node.kubernetes.io/disk-pressure"
HALO = "llama-halo.dev/strix-halo"
HOLDS_SECONDS = 2.0


@contextmanager
def changed(api: Api, node: str, change: Json, back: Json) -> Iterator[None]:
    api.patch("Node", "", node, change)
    try:
        yield
    finally:
        api.patch("Node", "", node, back)


def runs(api: Api, namespace: str, pod: Json) -> bool:
    """Tell whether this very pod is there and stays."""
    return any(
        other["metadata"]["uid"] == pod["metadata"]["uid"]
        and "deletionTimestamp" not in other["metadata"]
        for other in pods(api, namespace)
    )


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(
    ("change", "back"),
    [
        pytest.param(
            {"spec": {"taints": AGENT_TAINT}}, {"spec": {"taints": None}}, id="an agent's taint"
        ),
        pytest.param(
            {"metadata": {"labels": {HALO: None}}},
            {"metadata": {"labels": {HALO: "true"}}},
            id="a label",
        ),
    ],
)
def test_what_a_node_has_lost_for_seconds_keeps_new_models_away_and_moves_none(
    api: Api, namespace: str, change: Json, back: Json
) -> None:
    api.apply(model(namespace))
    node = wait_ready(api, namespace, "coder")["status"]["nodeSummary"]
    (before,) = pods(api, namespace)
    with changed(api, node, change, back):
        api.apply(model(namespace, "other"))
        other = wait_ready(api, namespace, "other")["status"]["nodeSummary"]
        assert other != node
        time.sleep(HOLDS_SECONDS)
        assert runs(api, namespace, before)
    time.sleep(HOLDS_SECONDS)
    assert runs(api, namespace, before)
    assert wait_ready(api, namespace, "coder")["status"]["nodeSummary"] == node


@pytest.mark.usefixtures("operator")
def test_a_node_under_disk_pressure_keeps_its_models_and_gets_none(
    api: Api, namespace: str
) -> None:
    """Kubernetes' own controller makes the taint from the condition."""
    api.apply(model(namespace))
    node = wait_ready(api, namespace, "coder")["status"]["nodeSummary"]
    (before,) = pods(api, namespace)
    with pressed(api, node):
        api.apply(model(namespace, "other"))
        assert wait_ready(api, namespace, "other")["status"]["nodeSummary"] != node
        time.sleep(HOLDS_SECONDS)
        assert runs(api, namespace, before)
    assert wait_ready(api, namespace, "coder")["status"]["nodeSummary"] == node


@contextmanager
def pressed(api: Api, node: str) -> Iterator[None]:
    """Put a node under disk pressure while the context lasts."""

    def taints() -> list[str]:
        spec = (api.get("Node", "", node) or {})["spec"]
        return [taint["key"] for taint in spec.get("taints", ())]

    def press(status: str) -> None:
        conditions = (api.get("Node", "", node) or {})["status"]["conditions"]
        others = [one for one in conditions if one["type"] != "DiskPressure"]
        own = {"type": "DiskPressure", "status": status, "reason": "Test", "message": "test"}
        change = {"status": {"conditions": [*others, own]}}
        api.patch("Node", "", node, change, subresource="/status")

    press("True")
    try:
        eventually(lambda: PRESSURE in taints())
        yield
    finally:
        press("False")
        eventually(lambda: PRESSURE not in taints())


@pytest.mark.usefixtures("operator")
def test_a_model_without_replicas_has_a_scale(api: Api, namespace: str) -> None:
    """An HPA, a VPA or KEDA begins with that request."""
    api.apply(model(namespace))
    scale = api.patch("LlamaModel", namespace, "coder", {}, subresource="/scale")
    assert scale["spec"]["replicas"] == 1
    eventually(lambda: pods(api, namespace))


@pytest.mark.usefixtures("operator")
def test_a_model_whose_device_is_taken_goes_to_a_node_that_has_one(
    api: Api, namespace: str
) -> None:
    """The device plugin offers one `amd.com/gpu` a node."""
    nodes = ("fake-0", "fake-1")
    for node in nodes:
        offer(api, node, "1")
    try:
        device = {"resource": {"name": "amd.com/gpu"}}
        for name in ("coder", "other"):
            api.apply(model(namespace, name, devices=device))
        placed = {
            wait_ready(api, namespace, name)["status"]["nodeSummary"] for name in ("coder", "other")
        }
        assert placed == set(nodes)
    finally:
        for node in nodes:
            offer(api, node, None)


def offer(api: Api, node: str, devices: str | None) -> None:
    amount = {"amd.com/gpu": devices}
    change = {"status": {"capacity": amount, "allocatable": amount}}
    api.patch("Node", "", node, change, subresource="/status")

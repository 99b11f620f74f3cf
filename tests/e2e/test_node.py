"""A node is cordoned, drained and restarted: models go with it and come back by themselves."""

from __future__ import annotations

import shutil

from hack.demo import kubectl
from hack.testbed import processes
from hack.testbed.cluster import Testbed
from tests.support.api import eventually, ready
from tests.support.kubectl import Kubectl
from tests.support.manifests import smollm2

NODE = "halo-1"


def state(kube: Kubectl, name: str) -> str:
    return ready(kube.get(f"llamamodel/{name}"))[1]


def test_cordoned_drained_and_uncordoned(kube: Kubectl) -> None:
    """Two models, one of which was idle: a cordon moves nothing, a drain takes the pod, and when
    the node is back so is what was there."""
    sleeper = smollm2("sleeper", activation={"onDemand": {}})
    kube.apply(smollm2("awake"))
    kube.apply(sleeper)
    kube.wait_ready("llamamodel/awake", "llamamodel/sleeper")
    before = kube.pod_uids("llama-halo.dev/model=awake")
    kubectl(kube.cluster, "cordon", NODE)
    try:
        kube.apply(smollm2("late"))
        eventually(lambda: state(kube, "late") == "WaitingForNode", seconds=30)
        assert kube.pod_uids("llama-halo.dev/model=awake") == before
        drain = ("drain", NODE, "--ignore-daemonsets", "--delete-emptydir-data", "--force")
        selector = ("--pod-selector", "llama-halo.dev/model", "--timeout=90s")
        kubectl(kube.cluster, *drain, *selector)
        eventually(lambda: state(kube, "awake") == "WaitingForNode", seconds=30)
        assert state(kube, "sleeper") == "Idle"
    finally:
        kubectl(kube.cluster, "uncordon", NODE)
    kube.wait_ready("llamamodel/awake", "llamamodel/late", "llamamodel/sleeper")
    assert kube.pod_uids("llama-halo.dev/model=awake").isdisjoint(before)
    kube("delete", "llamamodels", "late", "sleeper")


def test_the_nodes_daemons_start_anew_and_the_model_goes_on(kube: Kubectl) -> None:
    """kubelet and containerd end and come back: pods that run go on, and nothing moves."""
    cluster = kube.cluster
    assert isinstance(cluster, Testbed)
    assert shutil.which("containerd")
    kube.apply(smollm2("awake"))
    kube.wait_ready("llamamodel/awake")
    before = kube.pod_uids("llama-halo.dev/model=awake")
    for name in ("kubelet", "containerd"):
        processes.stop(cluster.layout, name, grace_seconds=0)
    cluster.up()
    kubectl(cluster, "wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=120s")
    eventually(lambda: state(kube, "awake") == "Serving", seconds=120)
    assert kube.pod_uids("llama-halo.dev/model=awake") == before
    kube("delete", "llamamodel", "awake")

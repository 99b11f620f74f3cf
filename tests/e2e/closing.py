"""After all other tests on the node: what was refused, what may be read, and what pods may do."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from typing import Any

import httpx
import pytest
import yaml

from hack import chart
from hack.demo import kubectl
from hack.manifests import CHART
from hack.testbed import audit
from hack.testbed.cluster import Testbed
from tests.support.api import eventually
from tests.support.kubectl import (
    NAMESPACE,
    NO_PERMISSIONS_PERIODS,
    ROUTER_DELETION_PERIODS,
    Kubectl,
)
from tests.support.manifests import router, smollm2

Json = dict[str, Any]
SYSTEM = chart.NAMESPACE
ACCOUNTS = {
    "operator": f"system:serviceaccount:{SYSTEM}:llama-halo-operator",
    "node agent": f"system:serviceaccount:{SYSTEM}:llama-halo-node-agent",
    "gateway": f"system:serviceaccount:{NAMESPACE}:main-router",
}
# What anybody is refused while a namespace is being collected.
GOING = "because it is being terminated"


@pytest.fixture(scope="module")
def served(kube: Kubectl) -> None:
    # Nobody else's pods are there, also none that are still ending.
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")
    eventually(lambda: not kube("get", "pods", "-o", "name").split(), seconds=90)
    kube.apply(smollm2("one"))
    kube.apply(router(models=[{"name": "one", "modelRef": {"name": "one"}}], routes=None))
    kube.wait_ready("llamamodel/one", "modelrouter/main")


@pytest.mark.parametrize("who", ACCOUNTS)
def test_nobody_of_ours_was_ever_refused_anything(kube: Kubectl, served: None, who: str) -> None:
    """A 403 in the audit log of all that ran before is a permission that lacks."""
    assert isinstance(kube.cluster, Testbed)
    log = kube.cluster.layout.audit_log
    refused: Counter[str] = Counter()
    answered = 0
    for entry in audit.entries(log, user=ACCOUNTS[who]):
        answered += 1
        message = entry["responseStatus"].get("message", "")
        at = entry["requestReceivedTimestamp"]
        expected = GOING in message or any(
            began <= at <= ended for began, ended in NO_PERMISSIONS_PERIODS
        )
        # A gateway that ends takes its entry off the Leases; its RoleBinding may be gone by then.
        if 'cannot patch resource "leases"' in message:
            expected |= any(began <= at <= ended for began, ended in ROUTER_DELETION_PERIODS)
        if entry["responseStatus"]["code"] == 403 and not expected:
            refused[f"{audit.name_of(entry)}: {message[:200]}"] += 1
    assert answered
    assert not refused


@pytest.mark.parametrize("who", ACCOUNTS)
@pytest.mark.parametrize(
    "description", ["get secrets", "list secrets", "create pods/exec", "get pods/log"]
)
def test_nobody_of_ours_may(kube: Kubectl, served: None, who: str, description: str) -> None:
    arguments = (kube.cluster.kubectl, "--kubeconfig", kube.cluster.kubeconfig)
    asked = ("auth", "can-i", *description.split(), "--as", ACCOUNTS[who], "--namespace", NAMESPACE)
    assert answer(*arguments, *asked) == "no"


@pytest.mark.parametrize(
    ("who", "description"),
    [
        ("operator", "list pods"),
        ("node agent", "patch nodes"),
        ("gateway", "patch leases.coordination.k8s.io/llama-halo-one"),
    ],
)
def test_and_what_each_needs_it_may(
    kube: Kubectl, served: None, who: str, description: str
) -> None:
    arguments = (kube.cluster.kubectl, "--kubeconfig", kube.cluster.kubeconfig)
    asked = ("auth", "can-i", *description.split(), "--as", ACCOUNTS[who], "--namespace", NAMESPACE)
    assert answer(*arguments, *asked) == "yes"


def test_a_gateway_may_patch_no_lease_but_those_of_its_models(kube: Kubectl, served: None) -> None:
    arguments = (kube.cluster.kubectl, "--kubeconfig", kube.cluster.kubeconfig)
    asked = ("auth", "can-i", "patch", "leases.coordination.k8s.io/llama-halo-other")
    account = ("--as", ACCOUNTS["gateway"], "--namespace", NAMESPACE)
    assert answer(*arguments, *asked, *account) == "no"


def answer(*arguments: object) -> str:
    """Return what `kubectl auth can-i` answers; its status says no as well as that it failed."""
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def test_operator_and_node_agent_pass_the_restricted_level(kube: Kubectl) -> None:
    assert _violations(kube, SYSTEM) == []


def test_of_the_others_only_pods_with_the_nodes_files_do_not(kube: Kubectl, served: None) -> None:
    """A store on the node is a hostPath, which no level but privileged allows: gateways pass."""
    names = {line.partition(":")[0].strip() for line in _violations(kube, NAMESPACE)}
    assert not [name for name in names if "router" in name], names
    assert [name for name in names if name.startswith("one-")]


def _violations(kube: Kubectl, namespace: str) -> list[str]:
    """Return what the API server says of a namespace's pods, were it restricted."""
    label = "pod-security.kubernetes.io/enforce=restricted"
    arguments = (kube.cluster.kubectl, "--kubeconfig", kube.cluster.kubeconfig)
    done = subprocess.run(
        [
            *map(str, arguments),
            "label",
            "--dry-run=server",
            "--overwrite",
            "namespace",
            namespace,
            label,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    warned = [line.removeprefix("Warning: ") for line in done.stderr.splitlines()]
    return [line for line in warned if line and not line.startswith("existing pods in namespace")]


def _names(kube: Kubectl, namespace: str, selector: str) -> set[str]:
    """Return the names of the series that a running pod tells of."""
    arguments = ("-n", namespace, "get", "pods", "-l", selector, "-o", "json")
    (pod,) = json.loads(kubectl(kube.cluster, *arguments))["items"]
    text = httpx.get(f"http://{pod['status']['podIP']}:8080/metrics", timeout=10).text
    series = set(re.findall(r"^# TYPE (\S+) \S+$", text, re.MULTILINE))
    samples = set(re.findall(r"^(llama_halo\w+)", text, re.MULTILINE))
    buckets = set(re.findall(r"^# TYPE (\S+) histogram$", text, re.MULTILINE))
    return series | samples | {f"{bucket}_bucket" for bucket in buckets}


def test_alerts_and_dashboard_ask_for_series_that_there_are(kube: Kubectl, served: None) -> None:
    message: set[str] = set()
    for namespace, selector in (
        (SYSTEM, "app.kubernetes.io/name=llama-halo-operator"),
        (SYSTEM, "app.kubernetes.io/name=llama-halo-node-agent"),
        (NAMESPACE, "llama-halo.dev/router=main"),
    ):
        eventually(lambda n=namespace, s=selector: _names(kube, n, s), seconds=30)  # type: ignore[misc]
        message |= _names(kube, namespace, selector)
    alerts = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    rules = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = {name for text in rules + queries for name in re.findall(r"llama_halo_\w+", text)}
    assert len(asked) > 15
    assert asked - message == set()

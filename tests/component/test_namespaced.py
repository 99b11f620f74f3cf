"""The operator for some namespaces, with the chart's permissions for that and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from hack.manifests import CHART
from hack.testbed import audit, tools
from hack.testbed.cluster import Testbed
from hack.testbed.control_plane import kubectl
from hack.testbed.operator_process import OperatorProcess, token, write_kubeconfig
from hack.testbed.shell import run
from tests.support.api import Api, eventually
from tests.support.resources import deployments, model, router, wait_state

OURS, THEIRS, SYSTEM = "team-a", "team-b", "scoped-system"
ACCOUNT = "scoped-operator"


@pytest.fixture(scope="module")
def scoped(
    api: Api, control_plane: Testbed, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """An operator that serves one namespace of two."""
    folder = tmp_path_factory.mktemp("scoped")
    for name in (OURS, THEIRS, SYSTEM):
        api.namespace(name)
    values = folder / "values.json"
    rbac = {"gatewayClusterRole": False, "aggregate": False}
    values.write_text(json.dumps({"namespaces": [OURS], "rbac": rbac}))
    only = [f"--show-only=templates/{name}.yaml" for name in ("serviceaccount", "rbac")]
    helm = tools.build(tools.HELM) / "helm"
    arguments = ("template", "scoped", CHART, "--namespace", SYSTEM, "--values", values, *only)
    run(*kubectl(control_plane.layout), "apply", "-f", "-", stdin=run(helm, *arguments))
    kubeconfig = write_kubeconfig(
        control_plane,
        folder / "kubeconfig",
        credentials=token(control_plane, ACCOUNT, SYSTEM),
    )
    process = OperatorProcess(
        kubeconfig,
        folder / "operator.log",
        LLAMA_HALO_NAMESPACES=OURS,
        LLAMA_HALO_POD_NAMESPACE=SYSTEM,
    )
    process.wait_ready()
    yield process
    process.stop()
    for namespace in (OURS, THEIRS):
        for kind in ("LlamaModel", "ModelRouter"):
            for obj in api.list(kind, namespace):
                api.delete(kind, namespace, obj["metadata"]["name"])


def test_it_serves_its_namespace_and_touches_no_other(
    api: Api, control_plane: Testbed, scoped: OperatorProcess
) -> None:
    for namespace in (OURS, THEIRS):
        api.apply(model(namespace))
        api.apply(router(namespace))
    wait_state(api, OURS, "coder", "Serving")
    eventually(lambda: deployments(api, OURS))
    assert deployments(api, THEIRS) == []
    theirs = api.get("LlamaModel", THEIRS, "coder") or {}
    assert theirs["status"] == {"observedGeneration": -1}, "nobody looked at it"
    user = f"system:serviceaccount:{SYSTEM}:{ACCOUNT}"
    entries = list(audit.entries(control_plane.layout.audit_log, user=user))
    assert {entry["responseStatus"]["code"] for entry in entries} & {403} == set()
    outside = {
        (audit.name_of(entry), entry["objectRef"].get("namespace", ""))
        for entry in entries
        if entry["objectRef"].get("namespace") not in (OURS, SYSTEM)
    }
    assert {name for name, _ in outside} <= {
        *("list nodes", "watch nodes", "get persistentvolumes"),
        *("get customresourcedefinitions", "create selfsubjectrulesreviews"),
    }
    assert {namespace for _, namespace in outside} <= {""}
    in_system = {
        audit.name_of(entry) for entry in entries if entry["objectRef"].get("namespace") == SYSTEM
    }
    assert in_system <= {"patch leases", "list leases", "watch leases", "create leases"}

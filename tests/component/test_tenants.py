"""Two tenants attack the operator of all, while a model of another namespace serves and is edited.

`writer` may write LlamaModels and ModelRouters of one namespace, and `editor` has the ClusterRole
`edit` there. What a kubelet would report of a tenant's pods, the administrator writes.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from hack.testbed.cluster import Testbed
from hack.testbed.operator_process import NAMESPACE as SYSTEM
from hack.testbed.operator_process import OperatorProcess
from tests.support.api import Api, Refused, eventually, message, ready
from tests.support.resources import (
    Json,
    StartOperator,
    deployments,
    model,
    router,
    wait_ready,
    wait_state,
)

TENANT = "tenant"
LIMIT_MIB = 512
"""The memory limit of the operator's container (charts/llama-halo/values.yaml)."""
MANAGED = {"app.kubernetes.io/managed-by": "llama-halo"}
CPU = {"backend": "CPU", "memory": {"host": "1Gi"}}
HUB = {"huggingFace": {"repo": "somebody/model", "file": "x.gguf"}}
RBAC = "rbac.authorization.k8s.io"


def rbac(kind: str, name: str, namespace: str, **fields: Any) -> Json:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": metadata, **fields}


def account_of(api: Api, namespace: str, name: str, role: Json) -> Api:
    """Create a ServiceAccount with a role and return a client with its token."""
    metadata = {"name": name, "namespace": namespace}
    api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    subject = {"kind": "ServiceAccount", **metadata}
    reference = {"apiGroup": RBAC, **role}
    api.apply(rbac("RoleBinding", name, namespace, roleRef=reference, subjects=[subject]))
    return api.with_token(api.token(namespace, name))


def nested(body: Json, depth: int) -> str:
    """Return a resource as JSON, with a deep object in place of "DEEP"."""
    return json.dumps(body).replace('"DEEP"', '{"a":' * depth + "1" + "}" * depth)


def pod(
    name: str,
    *,
    labels: Json,
    namespace: str = TENANT,
    spec: Json | None = None,
    **metadata: Any,
) -> Json:
    """Return a pod that no scheduler takes."""
    container = {"name": "inspect", "image": "example.com/none"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {**MANAGED, **labels},
            **metadata,
        },
        "spec": {"schedulerName": "none", "containers": [container], **(spec or {})},
    }


@dataclass
class Tenants:
    """The administrator, the two tenants, and a number for names."""

    admin: Api
    writer: Api
    editor: Api
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def name(self) -> str:
        return f"x{next(self.numbers)}"


def deep_router(tenants: Tenants) -> None:
    for depth in (900, 3000):
        engine = {"claudeCodeRouter": {"transformers": {"local": {"use": "DEEP"}}}}
        body = router(TENANT, tenants.name(), engine=engine)
        tenants.writer.create_text("ModelRouter", TENANT, nested(body, depth))


def deep_model(tenants: Tenants) -> None:
    """The schema has no open object: the API server prunes what it does not know."""
    body = model(TENANT, tenants.name(), **CPU, pod={"affinity": {"podAffinity": "DEEP"}})
    tenants.writer.create_text("LlamaModel", TENANT, nested(body, 3000))
    wait_ready(tenants.admin, TENANT, body["metadata"]["name"])


def deployment_without_owner(tenants: Tenants) -> None:
    name = tenants.name()
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"schedulerName": "none", "containers": [{"name": "c", "image": "none"}]},
    }
    for more in ({}, {"llama-halo.dev/deployment": name}, {"llama-halo.dev/model": "ghost"}):
        name = tenants.name()
        tenants.editor.create(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {
                    "name": name,
                    "namespace": TENANT,
                    "labels": {**MANAGED, **more},
                    "annotations": {
                        "llama-halo.dev/node": "fake-0",
                        "llama-halo.dev/gpu-mib": "9" * 400,
                    },
                },
                "spec": {
                    "selector": {"matchLabels": template["metadata"]["labels"]},
                    "template": template,
                },
            }
        )


def last_words(tenants: Tenants) -> None:
    """A pod says what a Job's pod says: brackets, a wrong type, a number of 1,000 digits."""
    owner = tenants.writer.create(model(TENANT, tenants.name(), **CPU, source=HUB))
    profile = {"vocabulary": "x", "weights": 10**1000, "heads": "8"}
    answer = json.dumps({"files": [], "profile": profile})
    for text in ("[" * 4000, answer[:4096], '{"profile": 5}', "\x1b]52;c;aGk=\x07"):
        metadata = {
            "apiVersion": "llama-halo.dev/v1alpha1",
            "kind": "LlamaModel",
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
        }
        labels = {
            "llama-halo.dev/files-of": owner["metadata"]["name"],
            "llama-halo.dev/work": "inspect",
        }
        name = tenants.name()
        tenants.editor.create(pod(name, labels=labels, ownerReferences=[metadata]))
        state = {"terminated": {"exitCode": 0, "message": text, "reason": "Completed"}}
        status = {
            "name": "inspect",
            "state": state,
            "ready": False,
            "restartCount": 0,
            "image": "none",
            "imageID": "",
        }
        patch = {"status": {"phase": "Succeeded", "containerStatuses": [status]}}
        tenants.admin.patch("Pod", TENANT, name, patch, subresource="/status")


def large_routers(tenants: Tenants) -> None:
    """Each is 30 MiB of Python objects. The API server needs seconds for it, too."""
    for _ in range(6):
        transformers = {"local": {"x": [[] for _ in range(400_000)]}}
        engine = {"claudeCodeRouter": {"transformers": transformers}}
        tenants.writer.create(router(TENANT, tenants.name(), engine=engine))


def large_models(tenants: Tenants) -> None:
    """Nearly as large as the operator reads them. They ask for no pod: the node is everybody's."""
    arguments = [argument for _ in range(31) for argument in ("--chat-template", "x" * 1000)]
    env = [{"name": f"A{number}", "value": "x" * 4096} for number in range(32)]
    large = {"extraArgs": arguments, "env": env}
    for _ in range(200):
        tenants.writer.create(model(TENANT, tenants.name(), **CPU, replicas=0, **large))


def large_config_maps(tenants: Tenants) -> None:
    data = {"a": "x" * (2**20 - 1000)}
    for _ in range(100):
        metadata = {"name": tenants.name(), "namespace": TENANT, "labels": MANAGED}
        tenants.editor.create(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        )


def large_pods(tenants: Tenants) -> None:
    env = [{"name": f"A{number}", "value": "x" * 64} for number in range(13_000)]
    container = {"name": "inspect", "image": "example.com/none", "env": env}
    for _ in range(15):
        spec = {"containers": [container]}
        tenants.editor.create(pod(tenants.name(), labels={}, spec=spec))


def lease_of_digits(tenants: Tenants) -> None:
    name = tenants.name()
    tenants.writer.create(
        model(TENANT, name, **CPU, activation={"onDemand": {"idleTimeout": "1h"}})
    )
    eventually(lambda: tenants.admin.get("Lease", TENANT, f"llama-halo-{name}"))
    for text in ("1/" + "9" * 5000, "9" * 5000 + "/1", "1/-1", "1/1e400", "\x00"):
        annotations = {f"gateway.llama-halo.dev/{tenants.name()}": text}
        patch = {"metadata": {"annotations": annotations}}
        tenants.editor.patch("Lease", TENANT, f"llama-halo-{name}", patch)


def pods_that_reserve(tenants: Tenants) -> None:
    """Pods without a request claim the memory of each node, in numbers of many digits, too."""
    for node in tenants.admin.list("Node", None):
        for number in ("9" * 400, "999999", "-5", "1e400"):
            annotations = {"llama-halo.dev/gpu-mib": number, "llama-halo.dev/node": node_name(node)}
            labels = {"llama-halo.dev/deployment": "x", "llama-halo.dev/model": "ghost"}
            spec = {"nodeName": node_name(node)}
            tenants.editor.create(
                pod(tenants.name(), labels=labels, spec=spec, annotations=annotations)
            )


def node_name(node: Json) -> str:
    return str(node["metadata"]["name"])


def deputies(tenants: Tenants) -> None:
    """What the administrator's settings forbid is refused, and nothing runs."""
    forbidden = {
        "serviceAccountName": router(TENANT, tenants.name(), pod={"serviceAccountName": "editor"}),
        "pod.image": router(TENANT, tenants.name(), pod={"image": "evil/shell:1"}),
        "secretRef": router(TENANT, tenants.name(), auth={"secretRef": {"name": "others"}}),
        "privileged": model(TENANT, tenants.name(), devices={"privileged": {}}),
    }
    for text, resource in forbidden.items():
        created = tenants.writer.create(resource)
        kind, name = created["kind"], created["metadata"]["name"]
        refused = wait_state(tenants.admin, TENANT, name, "InvalidSpec", kind=kind)
        assert text in message(refused)
        label = f"app.kubernetes.io/instance={name}"
        assert tenants.admin.list("Deployment", TENANT, label) == []


def groups(tenants: Tenants) -> None:
    """A group and a priority of the innocent model's node reach no other namespace."""
    on_demand = {"idleTimeout": "1h", "group": "innocent", "priority": 1000, "preload": True}
    name = tenants.name()
    tenants.writer.create(
        model(
            TENANT,
            name,
            activation={"onDemand": on_demand},
            memory={"gpu": "900Gi", "host": "1Gi"},
            devices={"resource": {"name": "amd.com/gpu"}},
        )
    )
    waiting = eventually(
        lambda: tenants.admin.get("LlamaModel", TENANT, name), until=lambda live: ready(live)[1]
    )
    assert "innocent" not in json.dumps(waiting["status"])


ATTACKS: tuple[Callable[[Tenants], None], ...] = (
    deep_router,
    deep_model,
    deployment_without_owner,
    last_words,
    large_routers,
    large_config_maps,
    large_pods,
    large_models,
    lease_of_digits,
    pods_that_reserve,
    deputies,
    groups,
)


@pytest.fixture(scope="class")
def restricted_operator(start_operator: StartOperator) -> OperatorProcess:
    process = start_operator(
        LLAMA_HALO_ALLOW_SERVICE_ACCOUNTS="false",
        LLAMA_HALO_ALLOWED_IMAGES="ghcr.io/",
        LLAMA_HALO_SECRET_PREFIX="llm-",
        LLAMA_HALO_ALLOW_PRIVILEGED="false",
    )
    process.wait_ready()
    return process


@pytest.fixture(scope="class")
def tenants(api: Api) -> Iterator[Tenants]:
    api.namespace(TENANT)
    rules = [
        {
            "apiGroups": ["llama-halo.dev"],
            "resources": ["llamamodels", "modelrouters"],
            "verbs": ["*"],
        }
    ]
    api.apply(rbac("Role", "writer", TENANT, rules=rules))
    writer = account_of(api, TENANT, "writer", {"kind": "Role", "name": "writer"})
    editor = account_of(api, TENANT, "editor", {"kind": "ClusterRole", "name": "edit"})
    yield Tenants(api, writer, editor)
    writer.close()
    editor.close()
    api.delete("Namespace", "", TENANT)
    eventually(lambda: api.get("Namespace", "", TENANT) is None, seconds=120)


@pytest.fixture(scope="class")
def innocent(api: Api, restricted_operator: OperatorProcess) -> Iterator[str]:
    """The namespace of a model that serves."""
    name = api.namespace("innocent")
    api.apply(model(name, **CPU))
    wait_ready(api, name, "coder")
    yield name
    api.delete("Namespace", "", name)


def edited(api: Api, namespace: str) -> float:
    """Edit the innocent model; return the seconds until its Deployment has the edit."""
    (deployment,) = deployments(api, namespace)
    context = 8192 if "4096" in json.dumps(deployment["spec"]) else 4096
    began = time.monotonic()
    api.apply(model(namespace, **CPU, contextSize=context))
    eventually(
        lambda: str(context) in json.dumps(deployments(api, namespace)[0]["spec"]),
        seconds=10,
        description="the edit of the innocent model",
    )
    return time.monotonic() - began


class TestTenants:
    """In order: the objects of an attack are still there when the next one comes."""

    @pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
    def test_an_innocent_model_serves_and_its_edit_arrives(
        self,
        api: Api,
        tenants: Tenants,
        innocent: str,
        restricted_operator: OperatorProcess,
        attack: Callable[[Tenants], None],
    ) -> None:
        attack(tenants)
        times = [edited(api, innocent) for _ in range(3)]
        assert wait_ready(api, innocent, "coder")
        later = f"after-{attack.__name__}-x".replace("_", "-")
        api.apply(model(innocent, later, **CPU))
        wait_ready(api, innocent, later)
        api.delete("LlamaModel", innocent, later)
        assert restricted_operator.running
        assert restricted_operator.why_not_ready() == ""
        memory = restricted_operator.memory_mib("VmHWM")
        seconds = ", ".join(f"{value:.2f}" for value in times)
        print(f"{attack.__name__}: an edit arrives after {seconds} s; at most {memory:.0f} MiB")
        assert memory < LIMIT_MIB

    def test_an_operator_that_starts_among_all_that_serves_too(
        self,
        api: Api,
        tenants: Tenants,
        innocent: str,
        restricted_operator: OperatorProcess,
        start_operator: StartOperator,
    ) -> None:
        restricted_operator.stop()
        began = time.monotonic()
        process = start_operator()
        process.wait_ready()
        print(f"ready after {time.monotonic() - began:.1f} s")
        edited(api, innocent)
        memory = process.memory_mib("VmHWM")
        print(f"at most {memory:.0f} MiB, {process.memory_mib():.0f} MiB at rest")
        assert memory < LIMIT_MIB

    def test_a_gateway_may_not_take_the_operators_identity_and_an_editor_not_for_long(
        self,
        api: Api,
        tenants: Tenants,
        innocent: str,
        start_operator: StartOperator,
        control_plane: Testbed,
    ) -> None:
        process = start_operator()
        process.wait_ready()
        # An operator asks for its own pod before it claims the Lease again.
        own_pod = f"operator-{process.port}"
        names = {"app.kubernetes.io/name": "llama-halo", "app.kubernetes.io/instance": "llama-halo"}
        security = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        container = {"name": "operator", "image": "example.com/none", "securityContext": security}
        spec = {"containers": [container]}
        api.create(pod(own_pod, labels=names, namespace=SYSTEM, spec=spec))
        api.apply(model(SYSTEM, **CPU, activation={"onDemand": {"idleTimeout": "1h"}}))
        api.apply(router(SYSTEM))
        wait_ready(api, SYSTEM, "main", kind="ModelRouter")
        gateway = api.with_token(api.token(SYSTEM, "main-router"))
        intruder = {"spec": {"holderIdentity": "intruder"}}
        with pytest.raises(Refused, match="cannot patch"):
            gateway.patch("Lease", SYSTEM, "llama-halo-operator", intruder)
        eventually(lambda: api.get("Lease", SYSTEM, "llama-halo-coder"))
        own = {"metadata": {"annotations": {"gateway.llama-halo.dev/x": "1/0"}}}
        gateway.patch("Lease", SYSTEM, "llama-halo-coder", own)
        gateway.close()
        editor = account_of(api, SYSTEM, "editor", {"kind": "ClusterRole", "name": "edit"})
        editor.patch("Lease", SYSTEM, "llama-halo-operator", intruder)
        editor.close()
        eventually(lambda: not process.is_ready(), description="the operator stands by")
        eventually(process.is_ready, seconds=60, description="the operator acts again")
        edited(api, innocent)
        api.delete("Pod", SYSTEM, own_pod)
        for kind, name in (("ModelRouter", "main"), ("LlamaModel", "coder")):
            api.delete(kind, SYSTEM, name)

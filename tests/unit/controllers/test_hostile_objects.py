"""No object of one tenant, whatever is in it, keeps another tenant's model from its node.

Mutated objects of every watched kind pass through the real listeners. Then an innocent model is
placed, planned and reported.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llama_halo.contract import labels
from llama_halo.controllers.placement.controller import run_placement
from llama_halo.controllers.reconcile import reconcile
from llama_halo.controllers.state import OperatorState
from llama_halo.errors import MalformedAnswer
from llama_halo.kube.cache import Key
from llama_halo.kube.metadata import listed_object
from llama_halo.kube.resources import BY_KIND
from llama_halo.status.conditions import condition
from llama_halo.status.jobs import inspection_entry
from tests.support.inspections import inspection
from tests.support.mutations import mutated
from tests.support.operator_state import operator_state

Json = dict[str, Any]
INNOCENT = Key("LlamaModel", "innocent", "coder")
HOSTILE = Key("LlamaModel", "hostile", "bad")
NODE = "n1"


def metadata(name: str, namespace: str = "hostile", **more: Any) -> Json:
    own = {"name": name, "namespace": namespace, "uid": f"u-{namespace}-{name}", "generation": 1}
    return {**own, "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z", **more}


def model(key: Key, **spec: Any) -> Json:
    base = {
        "source": {"local": {"path": "x.gguf"}},
        "contextSize": 4096,
        "memory": {"gpu": "10Gi", "host": "1Gi"},
        "verify": {"toolCalling": "Off"},
    }
    return {
        "apiVersion": "llama-halo.dev/v1alpha1",
        "kind": "LlamaModel",
        "metadata": metadata(key.name, key.namespace),
        "spec": base | spec,
    }


def node(name: str = NODE, **spec: Any) -> Json:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    own = metadata(
        name, annotations={labels.GPU_MEMORY: "48Gi"}, labels={labels.STRIX_HALO: "true"}
    )
    del own["namespace"]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": own,
        "spec": spec,
        "status": {"allocatable": {"memory": "64Gi"}, "conditions": [ready]},
    }


OWNER = {"kind": "LlamaModel", "name": "bad", "uid": "u-hostile-bad", "controller": True}
OURS = {
    labels.MANAGED_BY: labels.PART_OF,
    labels.MODEL: "bad",
    labels.DEPLOYMENT: "bad-1",
}
WRITTEN = {labels.NODE: NODE, labels.GPU_MIB: "10240", labels.HOST_MIB: "1024"}
ON_DEMAND = {"onDemand": {"idleTimeout": "1m"}}
ENTRY = inspection_entry(inspection())
CONTAINERS = [{"name": "llama-server", "resources": {"requests": {"memory": "11Gi"}}}]
TEMPLATE = {
    "metadata": {"labels": OURS, "annotations": WRITTEN},
    "spec": {"containers": CONTAINERS},
}
RUN = {"name": "inspect", "state": {"terminated": {"exitCode": 0, "message": "{}"}}}
CONDITIONS = [
    {"type": "Ready", "status": "False", "reason": "CrashLooping", "lastTransitionTime": "x"},
    {"type": "Available", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
]
OBJECTS: list[Json] = [
    {
        **model(HOSTILE, activation=ON_DEMAND, replicas=2),
        "status": {
            "conditions": CONDITIONS,
            "files": [{"node": NODE, "path": "x.gguf", "bytes": 7}],
            "inspected": [ENTRY],
        },
    },
    {
        "kind": "ModelRouter",
        "apiVersion": "llama-halo.dev/v1alpha1",
        "metadata": metadata("main"),
        "spec": {"models": [{"name": "bad", "modelRef": {"name": "bad"}}]},
        "status": {"conditions": CONDITIONS},
    },
    {
        "kind": "Deployment",
        "metadata": metadata("bad-1", labels=OURS, annotations=WRITTEN, ownerReferences=[OWNER]),
        "spec": {"replicas": 1, "template": TEMPLATE},
        "status": {"observedGeneration": 1, "updatedReplicas": 1, "conditions": CONDITIONS},
    },
    {
        "kind": "Pod",
        "metadata": metadata("bad-pod", labels=OURS, annotations=WRITTEN, ownerReferences=[OWNER]),
        "spec": {
            "nodeName": NODE,
            "containers": CONTAINERS,
            "volumes": [{"name": "config", "configMap": {"name": "c"}}],
        },
        "status": {"phase": "Running", "conditions": CONDITIONS, "containerStatuses": [RUN]},
    },
    {
        "kind": "Pod",
        "metadata": metadata(
            "bad-inspect",
            labels={labels.FILES_OF: "bad", labels.WORK: "inspect", labels.ROLE: "model"},
            ownerReferences=[
                {"kind": "Job", "name": "bad-job", "uid": "u-hostile-bad-job", "controller": True}
            ],
        ),
        "spec": {"nodeName": NODE},
        "status": {"phase": "Succeeded", "containerStatuses": [RUN]},
    },
    {
        "kind": "Job",
        "metadata": metadata(
            "bad-job",
            labels={labels.FILES_OF: "bad", labels.WORK: "inspect"},
            annotations={labels.NODE: NODE, labels.SOURCE: "x"},
            ownerReferences=[OWNER],
        ),
        "status": {"active": 1, "conditions": CONDITIONS},
    },
    {
        "kind": "Lease",
        "metadata": metadata(
            "llama-halo-bad",
            labels=OURS,
            annotations={"gateway.llama-halo.dev/pod": "17/2", "llama-halo.dev/phase": "Loaded"},
            ownerReferences=[OWNER],
        ),
    },
    {"kind": "ConfigMap", "metadata": metadata("bad-config", labels=OURS), "data": {"a": "b"}},
    {"kind": "Service", "metadata": metadata("bad", labels=OURS), "spec": {"ports": []}},
    node("n2", taints=[{"key": "a", "value": "b", "effect": "NoSchedule"}]),
]


def take_in(state: OperatorState, obj: Any) -> None:
    """Store an object as the client and a reflector would."""
    kind = obj.get("kind") if isinstance(obj, dict) else None
    if not isinstance(kind, str) or kind not in BY_KIND:
        return
    try:
        listed = listed_object(BY_KIND[kind], obj)
    except MalformedAnswer:
        return
    state.cache.observe(listed)


async def serve(hostile: list[Any]) -> None:
    """Let the operator serve an innocent model beside hostile objects."""
    state, cluster = operator_state()
    for obj in [model(INNOCENT), node(), *hostile]:
        take_in(state, obj)
    state.changes.drain()
    run_placement(state)
    for _ in range(2):
        await reconcile(state, INNOCENT)
    status = cluster.statuses[INNOCENT]
    assert condition(status, "Ready")["reason"] == "Scheduling", status
    deployments = [obj for key, obj in cluster.objects.items() if key[0] == "Deployment"]
    nodes = [obj["metadata"]["annotations"][labels.NODE] for obj in deployments]
    assert len(nodes) == 1
    # A Node's name is the administrator's: any that the operator has read will do.
    assert state.cache.get(Key("Node", "", nodes[0]))


@st.composite
def reported(draw: st.DrawFn) -> Json:
    """Return the pod of an inspect Job with any termination message."""
    report = draw(mutated({**ENTRY, "error": {"reason": "NotAGGUF", "message": "m"}}))
    if isinstance(report, dict) and draw(st.booleans()):
        report.pop("error", None)
    try:
        message = json.dumps(report)
    except ValueError:
        message = "[" * 4000
    pod = json.loads(json.dumps(OBJECTS[4]))
    pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = message
    return dict(pod)


ANY_OBJECT = st.sampled_from(OBJECTS).flatmap(mutated)
ANSWERED = reported().map(lambda pod: [OBJECTS[0], OBJECTS[5], pod])
"""A model, its Job, and the Job's pod."""


@given(hostile=st.lists(ANY_OBJECT, max_size=6) | ANSWERED)
@example(hostile=OBJECTS)
@example(hostile=[model(HOSTILE, memory={"gpu": "10Gi", "host": 10**400})])
@example(hostile=[{**node(""), "status": {}}])
@settings(max_examples=300)
def test_an_innocent_model_is_served(hostile: list[Any]) -> None:
    asyncio.run(serve(hostile))


FULL = {**WRITTEN, labels.GPU_MIB: "999999999", labels.HOST_MIB: "999999999"}


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param({"ownerReferences": []}, id="no owner"),
        pytest.param({"ownerReferences": [{**OWNER, "uid": "u-another"}]}, id="another uid"),
        pytest.param({"ownerReferences": [{**OWNER, "controller": False}]}, id="no controller"),
        pytest.param(
            {"ownerReferences": [OWNER], "labels": {**OURS, labels.MODEL: "nobody"}},
            id="the label of a model that does not exist",
        ),
    ],
)
def test_a_deployment_that_is_no_models_child_takes_no_memory_and_no_turn(forged: Json) -> None:
    template = {
        "metadata": {"labels": OURS, "annotations": FULL},
        "spec": {"containers": [{"resources": {"requests": {"memory": "900Ti"}}}]},
    }
    deployment = {
        "kind": "Deployment",
        "metadata": {**metadata("bad-1", labels=OURS, annotations=FULL), **forged},
        "spec": {"replicas": 1, "template": template},
        "status": {"observedGeneration": 0},
    }
    asyncio.run(serve([OBJECTS[0], deployment]))
    state, _ = operator_state()
    for obj in (model(HOSTILE), model(INNOCENT), node(), deployment):
        take_in(state, obj)
    state.changes.drain()
    assert state.placement.reservations.held() == []
    turns = state.placement.rollout_turns.nodes_taken(INNOCENT, [NODE], state.cache)
    assert turns == frozenset()


def test_a_pod_fills_a_node_only_as_far_as_it_requests() -> None:
    pod = {
        "kind": "Pod",
        "metadata": metadata("bad-pod", labels=OURS, annotations=FULL),
        "spec": {"nodeName": NODE, "containers": [{"name": "x"}]},
        "status": {"phase": "Pending"},
    }
    asyncio.run(serve([pod, {**pod, "metadata": {**pod["metadata"], "name": "bad-pod-2"}}]))

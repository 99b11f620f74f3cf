"""What placement reads of pods and Deployments, and which of their changes wake it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.controllers.placement.refusals import AVOIDED_SECONDS, Refusals
from llama_halo.controllers.placement.reservations import ReservationIndex
from llama_halo.kube.cache import Key, ObjectCache, key_of
from llama_halo.plan.facts import MemoryReservation
from llama_halo.plan.node_selection import pod_affinity

OWNER = Key("LlamaModel", "llm", "coder")
MARKS = {
    "labels": {"llama-halo.dev/model": "coder", "llama-halo.dev/deployment": "coder-1"},
    "annotations": {"llama-halo.dev/gpu-mib": "1000", "llama-halo.dev/host-mib": "100"},
}


def containers(requested_mib: int) -> list[dict[str, Any]]:
    """Return a server that requests memory, beside a container that requests none."""
    return [{"resources": {"requests": {"memory": f"{requested_mib}Mi"}}}, {"name": "sidecar"}]


def pod(requested_mib: int = 1100, **more: Any) -> dict[str, Any]:
    metadata = {"name": "coder-1-x", "namespace": "llm", "uid": "p", **MARKS}
    spec = {"nodeName": "n1", "containers": containers(requested_mib)}
    base = {"kind": "Pod", "apiVersion": "v1", "spec": spec, "status": {}}
    return {**base, "metadata": {**metadata, **more.pop("metadata", {})}, **more}


def deployment(*, replicas: int = 1, gpu: str = "1000", **more: Any) -> dict[str, Any]:
    template = {**MARKS, "annotations": {**MARKS["annotations"], "llama-halo.dev/gpu-mib": gpu}}
    return {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {
            "name": "coder-1",
            "namespace": "llm",
            "uid": "d",
            "labels": MARKS["labels"],
            "annotations": {"llama-halo.dev/node": "n1"},
        },
        "spec": {
            "replicas": replicas,
            "template": {"metadata": template, "spec": {"containers": containers(int(gpu) + 100)}},
        },
        **more,
    }


def after(*objects: dict[str, Any]) -> ReservationIndex:
    index = ReservationIndex()
    for obj in objects:
        index.note(key_of(obj), obj)
    return index


def test_a_deployment_and_its_pod_hold_once_what_the_larger_of_them_needs() -> None:
    assert after(pod(), deployment(gpu="3000")).held() == [
        MemoryReservation("llm/coder", "n1", 3000, 100)
    ]


def test_a_pod_that_ends_and_one_that_begins_hold_both() -> None:
    ending = pod(metadata={"name": "coder-1-old", "uid": "o", "deletionTimestamp": "2026"})
    assert after(ending, pod(), deployment()).held() == [
        MemoryReservation("llm/coder", "n1", 2000, 200, ending_gpu_mib=1000, ending_host_mib=100)
    ]


@pytest.mark.parametrize(
    "message",
    [
        "0/2 nodes are available: 1 Insufficient memory, 1 node(s) didn't match",
        "0/2 nodes are available: 1 Insufficient amd.com/gpu, 1 node(s) didn't match",
        "0/2 nodes are available: 1 Too many pods, 1 node(s) didn't match",
    ],
)
def test_a_pod_that_its_node_has_no_place_for_is_told_by_the_node(message: str) -> None:
    text = {"type": "PodScheduled", "status": "False", "message": message}
    waits = pod(spec={"affinity": pod_affinity(None, "n1")}, status={"conditions": [text]})
    index = after(deployment(), waits)
    assert index.refused_nodes(OWNER) == frozenset({"n1"})
    assert index.running_nodes(OWNER) == frozenset()
    assert after(pod()).refused_nodes(OWNER) == frozenset()


def test_a_pod_that_lacks_a_claim_is_refused_by_no_node() -> None:
    missing = '0/2 nodes are available: persistentvolumeclaim "models" not found'
    text = {"type": "PodScheduled", "status": "False", "message": missing}
    waits = pod(spec={"affinity": pod_affinity(None, "n1")}, status={"conditions": [text]})
    assert after(waits).refused_nodes(OWNER) == frozenset()


def test_a_deployment_says_by_which_constraints_its_node_was_chosen() -> None:
    chosen = deployment()
    chosen["metadata"]["annotations"]["llama-halo.dev/node-constraints"] = "569f661aed"
    assert after(chosen).chosen_by(OWNER) == {"n1": "569f661aed"}
    chosen["spec"]["replicas"] = 0
    assert after(chosen).chosen_by(OWNER) == {}, "its next pod is a new one"


def test_a_refusal_is_remembered_for_a_while() -> None:
    now = [0.0]
    refusals = Refusals(lambda: now[0])
    assert refusals.next_end_seconds() is None
    refusals.note(OWNER, frozenset({"n1"}))
    now[0] = AVOIDED_SECONDS - 1
    refusals.note(OWNER, frozenset({"n2"}))
    assert refusals.of_late(OWNER) == {"n1", "n2"}
    assert refusals.next_end_seconds() == 2
    now[0] = AVOIDED_SECONDS + 1
    assert refusals.of_late(OWNER) == {"n2"}
    refusals.forget(OWNER)
    assert refusals.of_late(OWNER) == frozenset()


def test_a_pod_holds_until_it_has_ended_or_is_gone() -> None:
    ending = pod(metadata={"deletionTimestamp": "2026"})
    assert after(ending).held() == [MemoryReservation("llm/coder", "n1", 1000, 100, 1000, 100)]
    assert after(ending).running_nodes(OWNER) == frozenset()
    assert after(pod(status={"phase": "Failed"})).held() == []
    index = after(pod())
    assert index.running_nodes(OWNER) == {"n1"}
    assert index.note(key_of(pod()), None)
    assert index.held() == []


def test_a_deployment_at_zero_holds_nothing_and_keeps_its_node() -> None:
    index = after(deployment(replicas=0))
    assert index.held() == []
    assert index.current_nodes(OWNER) == ("n1",)


def test_a_pod_that_lost_its_model_label_still_holds() -> None:
    lost = pod(metadata={"labels": {"llama-halo.dev/deployment": "coder-1"}})
    assert after(lost).held() == [MemoryReservation("llm/coder-1", "n1", 1000, 100)]
    assert after(lost).running_nodes(OWNER) == frozenset()


def test_what_a_pod_without_its_model_label_holds_is_its_deployments_in_any_order() -> None:
    lost = pod(metadata={"labels": {"llama-halo.dev/deployment": "coder-1"}})
    for objects in ([lost, deployment()], [deployment(), lost]):
        assert after(*objects).held() == [MemoryReservation("llm/coder", "n1", 1000, 100)]


@pytest.mark.parametrize(
    ("requested_mib", "held"),
    [(5000, (1000, 100)), (1050, (1000, 50)), (700, (700, 0)), (0, (0, 0))],
)
def test_a_pod_holds_no_more_than_it_requests(requested_mib: int, held: tuple[int, int]) -> None:
    """Anybody may write annotations; requests are what the scheduler counts and quota bounds."""
    assert after(pod(requested_mib)).held() == [MemoryReservation("llm/coder", "n1", *held)]


def test_a_deployment_whose_pods_are_refused_holds_nothing() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
    refused = deployment(status={"conditions": [condition]})
    assert after(refused).held() == []
    assert after(refused).current_nodes(OWNER) == ("n1",)
    assert len(after(pod(), refused).held()) == 1, "its older pod still holds"


@pytest.mark.parametrize(
    ("change", "wakes"),
    [
        ({"status": {"phase": "Running"}}, False),
        ({"status": {"phase": "Running", "containerStatuses": [{"ready": True}]}}, False),
        ({"metadata": {"annotations": {**MARKS["annotations"], "sidecar": "yes"}}}, False),
        ({"metadata": {"deletionTimestamp": "2026"}}, True),
        ({"status": {"phase": "Succeeded"}}, True),
        ({"spec": {}}, True),
    ],
)
def test_only_changes_that_placement_reads_wake_it(change: dict[str, Any], wakes: bool) -> None:
    assert after(pod()).note(key_of(pod()), pod(**change)) is wakes


_PODS = st.builds(
    lambda index, node, ended, ending, labelled: {
        **pod(
            spec={"containers": containers(1100), **({"nodeName": node} if node else {})},
            status={"phase": "Failed"} if ended else {},
        ),
        "metadata": {
            **pod()["metadata"],
            "name": f"p{index}",
            **({"deletionTimestamp": "2026"} if ending else {}),
            **({} if labelled else {"labels": {}}),
        },
    },
    st.integers(0, 3),
    st.sampled_from(["", "n1", "n2"]),
    *[st.booleans()] * 3,
)


@given(st.lists(st.tuples(_PODS, st.booleans()), max_size=30))
def test_after_any_changes_the_records_are_those_of_what_is_there(
    changes: list[tuple[dict[str, Any], bool]],
) -> None:
    cache, index = ObjectCache(), ReservationIndex()
    cache.listen(lambda key, _, __: index.note(key, cache.get(key)))
    for version, (obj, gone) in enumerate(changes, start=1):
        obj["metadata"]["resourceVersion"] = str(version)
        cache.forget(obj) if gone else cache.observe(obj)
    fresh = after(*cache.all("Pod"))  # type: ignore[arg-type]
    assert sorted(index.held(), key=str) == sorted(fresh.held(), key=str)
    assert index.running_nodes(OWNER) == fresh.running_nodes(OWNER)

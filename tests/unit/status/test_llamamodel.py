"""Status: what each state of the pods and each outcome shows, and the rules of kstatus."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract.reasons import READY_REASONS, Reason
from llama_halo.plan.facts import FileFacts, Owner
from llama_halo.plan.outcome import Invalid, Outcome, Plan, Wait
from llama_halo.plan.sizing import sizing_of
from llama_halo.status.conditions import Verdict, conditions, is_next_step
from llama_halo.status.llamamodel import Children, llamamodel_status
from llama_halo.status.pods import pod_state

OWNER = Owner("LlamaModel", "llm", "coder", "uid", 7)
NOW, THEN = "2026-11-21T10:00:00Z", "2026-11-20T10:00:00Z"
SPEC = LlamaModelSpec.model_validate(
    {
        "source": {"local": {"path": "a/Qwen.gguf"}},
        "contextSize": 4096,
        "memory": {"gpu": "24Gi", "host": "2Gi"},
    }
)
Json = dict[str, Any]


def pod(
    *,
    node: str = "n1",
    config_hash: str = "new",
    ready: bool = False,
    container: Json | None = None,
    conditions: list[Json] | None = None,
    **metadata: Any,
) -> Json:
    state = conditions or [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {
            "name": f"coder-{node}",
            "annotations": {"llama-halo.dev/config-hash": config_hash},
            **metadata,
        },
        "spec": {"nodeName": node} if node else {},
        "status": {
            "conditions": state,
            "containerStatuses": [{"name": "llama-server", **container}] if container else [],
        },
    }


def crashed(message: str, *, restarts: int = 1, **terminated: Any) -> Json:
    return {
        "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "message": message, **terminated}},
    }


PULL = {"image": "reg/x:1", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}
UNSCHEDULED = [
    {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient memory"}
]


@pytest.mark.parametrize(
    ("pod_object", "reason", "says"),
    [
        (pod(ready=True), Reason.SERVING, "answers"),
        (pod(node=""), Reason.SCHEDULING, "waits for the scheduler"),
        (pod(node="", conditions=UNSCHEDULED), Reason.SCHEDULING, "Insufficient memory"),
        (pod(), Reason.PULLING_IMAGE, "is being created"),
        (pod(container=PULL), Reason.IMAGE_PULL_FAILED, "cannot pull reg/x:1: no: correct"),
        (pod(container={"state": {"running": {}}}), Reason.LOADING, "loads the model"),
        (
            pod(container=crashed("error: invalid argument: --foo")),
            Reason.BAD_FLAG,
            "invalid argument: --foo: correct spec.extraArgs",
        ),
        (
            pod(container=crashed("", reason="OOMKilled")),
            Reason.OUT_OF_MEMORY,
            "(restarts: 1)",
        ),
        (pod(container=crashed("")), Reason.CRASH_LOOPING, "no output"),
    ],
)
def test_a_pod_is_told_in_one_reason_and_sentence(
    pod_object: Json, reason: Reason, says: str
) -> None:
    state = pod_state(pod_object)
    assert state.reason is reason
    assert says in state.message


def test_a_pod_that_is_started_again_and_again_tells_why_it_ended() -> None:
    again = {**crashed("boom"), "state": {"running": {}}}
    assert pod_state(pod(container=again)).reason is Reason.LOADING
    often = pod_state(pod(container={**again, "restartCount": 2}))
    assert often.reason is Reason.CRASH_LOOPING


MISSING = (
    "E gguf_init_from_file: failed to open GGUF file '/models/x.gguf' (No such file or directory)"
)


def test_a_crash_that_leaves_no_words_keeps_the_diagnosis_of_the_one_before() -> None:
    """On a busy node the kubelet reads the end of a log before the last lines are in it."""
    before = pod_state(pod(container=crashed(MISSING)))
    assert before.reason is Reason.SOURCE_NOT_FOUND
    cut = pod(container={**crashed("I srv init: The UI is disabled"), "restartCount": 4})
    assert pod_state(cut).reason is Reason.CRASH_LOOPING
    kept = pod_state(cut, diagnosis=(before.reason, before.message))
    assert kept.reason is Reason.SOURCE_NOT_FOUND
    assert kept.message == before.message.replace("(restarts: 1)", "(restarts: 4)")
    # Another pod's failure says nothing of this one, and words that name a cause count.
    other = (before.reason, before.message.replace("pod ", "pod x"))
    assert pod_state(cut, diagnosis=other).reason is Reason.CRASH_LOOPING
    flag = pod(container=crashed("error: invalid argument: --foo"))
    assert pod_state(flag, diagnosis=(before.reason, before.message)).reason is Reason.BAD_FLAG


def test_a_mistake_is_told_from_the_first_crash_on() -> None:
    again = {**crashed("error: invalid argument: --foo"), "state": {"running": {}}}
    assert pod_state(pod(container=again)).reason is Reason.BAD_FLAG


def test_a_sidecar_is_not_taken_for_the_server() -> None:
    both = pod(container={"state": {"running": {}}, "ready": True})
    sidecar = {"name": "a-first-by-name", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    both["status"]["containerStatuses"].insert(0, sidecar)
    state = pod_state(both)
    assert state.reason is Reason.LOADING
    assert "waits for its other containers: a-first-by-name" in state.message


def test_a_pod_whose_node_went_silent_is_not_said_to_load() -> None:
    state = pod_state(pod(container={"state": {"running": {}}, "ready": True}))
    assert "its node may be down; see kubectl get node n1" in state.message


CREATING: Json = {"state": {"waiting": {"reason": "ContainerCreating"}}}
NO_KFD = (
    'FailedMount: MountVolume.SetUp failed for volume "kfd" : hostPath type check failed:'
    " /dev/kfd is not a character device"
)


def test_what_the_events_of_a_hanging_pod_say_is_told() -> None:
    assert pod_state(pod(container=CREATING)).reason is Reason.PULLING_IMAGE
    device = pod_state(pod(container=CREATING), NO_KFD)
    assert device.reason is Reason.DEVICE_UNAVAILABLE
    assert "/dev/kfd is not a character device: the node lacks the GPU" in device.message
    other = pod_state(pod(container=CREATING), 'FailedMount: configmap "x" not found')
    assert other.reason is Reason.CANNOT_START


def test_pods_that_the_cluster_refuses_are_told() -> None:
    deployment = {
        "metadata": {"name": "coder-1"},
        "status": {
            "conditions": [
                {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q"}
            ]
        },
    }
    current = status(PLAN, deployments=[deployment])
    assert current["conditions"][0]["reason"] == "CannotStart"
    assert "exceeded quota: q" in current["conditions"][0]["message"]


def test_a_pod_that_the_node_refuses_is_told() -> None:
    refused = pod()
    refused["status"] = {
        "phase": "Failed",
        "reason": "UnexpectedAdmissionError",
        "message": "Allocate failed: amd.com/gpu",
    }
    current = status(PLAN, refused)
    assert current["conditions"][0]["reason"] == "DeviceUnavailable"


def test_an_evicted_pod_does_not_hide_its_serving_successor() -> None:
    evicted = pod()
    evicted["status"]["phase"] = "Failed"
    current = status(PLAN, evicted, pod(ready=True))
    assert current["conditions"][0]["reason"] == "Serving"
    assert current["replicas"] == 1


def test_a_message_never_exceeds_what_the_crd_takes() -> None:
    current = status(Wait(Reason.WAITING_FOR_MEMORY, "x" * 9000))
    assert len(current["conditions"][0]["message"]) <= 4096


def test_a_container_that_cannot_be_made_tells_the_kubelets_words() -> None:
    config = {"reason": "CreateContainerConfigError", "message": 'secret "hf" not found'}
    state = pod_state(pod(container={"state": {"waiting": config}}))
    assert 'secret "hf" not found' in state.message


def test_a_kubelet_that_is_still_reading_a_secret_is_no_failure() -> None:
    message = "failed to sync secret cache: timed out waiting for the condition"
    config = {"reason": "CreateContainerConfigError", "message": message}
    state = pod_state(pod(container={"state": {"waiting": config}}))
    assert state.reason == "PullingImage"
    assert message in state.message


@pytest.mark.parametrize(
    ("container", "since", "created", "stalled"),
    [
        (crashed("x", restarts=4), NOW, NOW, False),
        (crashed("x", restarts=5), NOW, NOW, True),
        (crashed("x"), THEN, THEN, True),
        (crashed("x"), THEN, NOW, False),
        (crashed("x"), NOW, THEN, False),
        (crashed("error: invalid argument: --foo"), NOW, NOW, True),
        (PULL, THEN, THEN, True),
        ({"state": {"running": {}}}, THEN, THEN, False),
    ],
    ids=[
        "4 restarts are not enough",
        "5 restarts are",
        "failing for long is enough",
        "a new pod gets its own time",
        "an old pod that just failed gets its time",
        "a mistake needs none",
        "no image for long",
        "loading for long is no failure",
    ],
)
def test_when_only_a_person_can_help(
    container: Json, since: str, created: str, stalled: bool
) -> None:
    before = {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": since}]}
    current = status(PLAN, pod(container=container, creationTimestamp=created), previous=before)
    kinds = {condition["type"] for condition in current["conditions"]}
    assert ("Stalled" in kinds) is stalled


def status(outcome: Outcome, *pods: Json, previous: Json | None = None, **more: Any) -> Json:
    return llamamodel_status(
        OWNER,
        spec=SPEC,
        outcome=outcome,
        conflict=more.get("conflict"),
        files=FileFacts(),
        sizing=sizing_of(SPEC, FileFacts()),
        verifications=more.get("verifications", ()),
        children=Children(pods=pods, deployments=more.get("deployments", ())),
        previous=previous or {},
        requested_at=more.get("requested_at"),
        now=NOW,
    )


PLAN = Plan(objects=(), config_hash="new", replicas=1)


@pytest.mark.parametrize(
    ("outcome", "pods", "shown"),
    [
        (PLAN, [pod(ready=True)], "True Serving"),
        (PLAN, [pod(ready=True, config_hash="old")], "False Rolling"),
        (replace(PLAN, idle_deadline="10m"), [pod(ready=True)], "False Rolling"),
        (PLAN, [], "False Scheduling"),
        (PLAN, [pod(ready=True, deletionTimestamp=NOW)], "False Rolling"),
        (Plan((), config_hash="new", replicas=2), [pod(ready=True)], "False Rolling"),
        (Plan((), config_hash="new", replicas=0), [], "True Stopped"),
        (Plan((), config_hash="new", replicas=0), [pod(ready=True)], "False Rolling"),
        (Wait(Reason.SUSPENDED, "x"), [pod(ready=True)], "True Suspended"),
        (Wait(Reason.WAITING_FOR_MEMORY, "x"), [], "False WaitingForMemory"),
        (Invalid(Reason.INVALID_SPEC, "x"), [pod(ready=True)], "False InvalidSpec"),
    ],
)
def test_ready_and_its_reason(outcome: Outcome, pods: list[Json], shown: str) -> None:
    ready = status(outcome, *pods)["conditions"][0]
    assert f"{ready['status']} {ready['reason']}" == shown


def test_a_foreign_child_is_a_stalled_conflict() -> None:
    current = status(PLAN, conflict="Service llm/coder belongs to Deployment x")
    kinds = {condition["type"]: condition["reason"] for condition in current["conditions"]}
    assert kinds["Stalled"] == "NameConflict"


def test_the_status_has_what_the_columns_show() -> None:
    current = status(PLAN, pod(ready=True), requested_at="now")
    assert current["memory"]["summary"] == "26.0Gi"
    assert current["model"]["summary"] == "Qwen"
    assert current["nodeSummary"] == "n1"
    assert current["lastHandledReconcileAt"] == "now"
    assert current["observedGeneration"] == 7
    conditions = {condition["type"]: condition for condition in current["conditions"]}
    assert conditions["Ready"]["message"] == "1 of 1 replica serves on n1"
    assert conditions["Available"]["message"] == "1 pod answers"
    assert conditions["MemoryReserved"]["reason"] == "Held"


def test_a_transition_time_moves_only_with_its_status() -> None:
    before = {
        "conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": THEN},
            {"type": "Available", "status": "False", "lastTransitionTime": THEN},
        ]
    }
    loading = status(PLAN, pod(container={"state": {"running": {}}}), previous=before)
    assert loading["conditions"][0]["lastTransitionTime"] == THEN
    serving = status(PLAN, pod(ready=True), previous=before)
    assert serving["conditions"][0]["lastTransitionTime"] == NOW


@given(st.sampled_from(list(Reason)), st.booleans(), st.booleans())
def test_kstatus_can_tell_every_state(reason: Reason, stalled: bool, available: bool) -> None:
    verdict = Verdict(reason, "m", stalled=stalled, available=available)
    value = {
        condition["type"]: condition
        for condition in conditions(verdict, generation=1, previous={}, now=NOW)
    }
    assert (value["Ready"]["status"] == "True") == (reason in READY_REASONS)
    at_work = {"Reconciling", "Stalled"} & set(value)
    assert len(at_work) == (0 if reason in READY_REASONS else 1)
    assert all(value[kind]["status"] == "True" for kind in at_work)


RUNS = [{"node": "n", "address": "10.0.0.1:8080"}]


def status_with(
    reason: Reason, *, available: bool = False, stalled: bool = False, of: int = 7
) -> Json:
    verdict = Verdict(reason, "m", available=available, stalled=stalled)
    condition_list = conditions(verdict, generation=of, previous={}, now=NOW)
    return {"conditions": condition_list, "observedGeneration": of}


@pytest.mark.parametrize(
    ("old", "new", "waits"),
    [
        (status_with(Reason.SCHEDULING), status_with(Reason.LOADING), True),
        (status_with(Reason.ROLLING), status_with(Reason.SCHEDULING), True),
        (
            status_with(Reason.SCHEDULING),
            {**status_with(Reason.LOADING), "placements": [{"node": "n"}]},
            True,
        ),
        (
            status_with(Reason.SCHEDULING),
            {**status_with(Reason.LOADING), "placements": RUNS},
            False,
        ),
        (status_with(Reason.LOADING), status_with(Reason.SERVING, available=True), False),
        (status_with(Reason.SERVING, available=True), status_with(Reason.ROLLING), False),
        (status_with(Reason.ROLLING, available=True), status_with(Reason.SCHEDULING), False),
        (status_with(Reason.LOADING), status_with(Reason.CRASH_LOOPING), False),
        (status_with(Reason.LOADING, of=6), status_with(Reason.LOADING), False),
        (status_with(Reason.LOADING), status_with(Reason.LOADING, stalled=True), False),
        ({"observedGeneration": -1}, status_with(Reason.SCHEDULING), False),
    ],
)
def test_only_the_next_step_of_a_start_that_was_told_may_wait(
    old: Json, new: Json, waits: bool
) -> None:
    assert is_next_step(old, new) is waits

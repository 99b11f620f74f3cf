"""Status: what each state of the pods and each outcome shows, and the rules of kstatus."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.api.reasons import READY_REASONS, Reason
from llama_halo.plan.facts import Identity
from llama_halo.plan.outcome import Invalid, Outcome, Plan, Wait
from llama_halo.status.conditions import Verdict, conditions
from llama_halo.status.llamamodel import llamamodel_status
from llama_halo.status.pods import pod_state

OWNER = Identity("LlamaModel", "llm", "coder", "uid", 7)
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
        "status": {"conditions": state, "containerStatuses": [container] if container else []},
    }


def crashed(message: str, *, restarts: int = 1, **terminated: Any) -> Json:
    return {
        "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "message": message, **terminated}},
    }


# As llama-server writes them.
NO_FILE = """\
E llama_model_load: error loading model: llama_model_loader: failed to load model from /models/x
E llama_model_load_from_file_impl: failed to load model
I srv    operator(): operator(): cleaning up before exit...
E srv  llama_server: exiting due to model loading error
"""
NO_MEMORY = """\
E ggml_vulkan: Device memory allocation of size 9663676416 failed.
E ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory
E llama_model_load: error loading model: unable to allocate Vulkan0 buffer
E srv  llama_server: exiting due to model loading error
"""
PULL = {"image": "reg/x:1", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}
UNSCHEDULED = [
    {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient memory"}
]


@pytest.mark.parametrize(
    ("given_", "reason", "says"),
    [
        (pod(ready=True), Reason.SERVING, "answers"),
        (pod(node=""), Reason.SCHEDULING, "waits for the scheduler"),
        (pod(node="", conditions=UNSCHEDULED), Reason.SCHEDULING, "Insufficient memory"),
        (pod(), Reason.PULLING_IMAGE, "is being created"),
        (pod(container=PULL), Reason.IMAGE_PULL_FAILED, "cannot pull reg/x:1: no: correct"),
        (pod(container={"state": {"running": {}}}), Reason.LOADING, "loads the model"),
        (
            pod(container=crashed("main: error: invalid device: Vulkan0\n")),
            Reason.DEVICE_UNAVAILABLE,
            "does not see the GPU",
        ),
        (
            pod(container=crashed(NO_FILE)),
            Reason.SOURCE_NOT_FOUND,
            "spec.source.local.path",
        ),
        (
            pod(container=crashed("", reason="OOMKilled")),
            Reason.OUT_OF_MEMORY,
            "raise spec.memory.host",
        ),
        (
            pod(container=crashed(NO_MEMORY)),
            Reason.OUT_OF_MEMORY,
            "lower contextSize",
        ),
        (
            pod(container=crashed("error: invalid argument: --foo\nusage: …")),
            Reason.CRASH_LOOPING,
            "invalid argument: --foo",
        ),
        (pod(container=crashed("")), Reason.CRASH_LOOPING, "no output"),
    ],
)
def test_a_pod_is_told_in_one_reason_and_sentence(given_: Json, reason: Reason, says: str) -> None:
    found = pod_state(given_)
    assert found.reason is reason
    assert says in found.message


def test_a_pod_that_is_started_again_and_again_tells_why_it_ended() -> None:
    again = {**crashed("error: invalid argument: --foo"), "state": {"running": {}}}
    assert pod_state(pod(container=again)).reason is Reason.LOADING
    often = pod_state(pod(container={**again, "restartCount": 2}))
    assert often.reason is Reason.CRASH_LOOPING


def test_an_evicted_pod_does_not_hide_its_serving_successor() -> None:
    evicted = pod()
    evicted["status"]["phase"] = "Failed"
    found = status(PLAN, evicted, pod(ready=True))
    assert found["conditions"][0]["reason"] == "Serving"
    assert found["replicas"] == 1


def test_a_message_never_exceeds_what_the_crd_takes() -> None:
    found = status(Wait(Reason.WAITING_FOR_MEMORY, "x" * 9000))
    assert len(found["conditions"][0]["message"]) <= 4096


def test_a_container_that_cannot_be_made_tells_the_kubelets_words() -> None:
    config = {"reason": "CreateContainerConfigError", "message": 'secret "hf" not found'}
    found = pod_state(pod(container={"state": {"waiting": config}}))
    assert 'secret "hf" not found' in found.message


def test_a_failing_pod_is_stalled_after_five_restarts() -> None:
    assert not pod_state(pod(container=crashed("x", restarts=4))).stalled
    assert pod_state(pod(container=crashed("x", restarts=5))).stalled


def status(outcome: Outcome, *pods: Json, previous: Json | None = None, **more: Any) -> Json:
    return llamamodel_status(
        OWNER,
        spec=SPEC,
        outcome=outcome,
        conflict=more.get("conflict"),
        pods=pods,
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
    found = status(PLAN, conflict="Service llm/coder belongs to Deployment x")
    kinds = {each["type"]: each["reason"] for each in found["conditions"]}
    assert kinds["Stalled"] == "NameConflict"


def test_the_status_has_what_the_columns_show() -> None:
    found = status(PLAN, pod(ready=True), requested_at="now")
    assert found["memory"]["summary"] == "26.0Gi"
    assert found["model"]["summary"] == "Qwen"
    assert found["nodeSummary"] == "n1"
    assert found["lastHandledReconcileAt"] == "now"
    assert found["observedGeneration"] == 7


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
    found = {each["type"]: each for each in conditions(verdict, generation=1, previous={}, now=NOW)}
    assert (found["Ready"]["status"] == "True") == (reason in READY_REASONS)
    at_work = {"Reconciling", "Stalled"} & set(found)
    assert len(at_work) == (0 if reason in READY_REASONS else 1)
    assert all(found[kind]["status"] == "True" for kind in at_work)

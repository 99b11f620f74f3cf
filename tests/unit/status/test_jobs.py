"""A Job's last words: answers, troubles, and whatever else a container can leave behind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llama_halo.contract import labels
from llama_halo.contract.reasons import Reason
from llama_halo.gguf.companions import Companion
from llama_halo.plan.facts import Inspection, JobFacts, StoredAt
from llama_halo.status.jobs import inspection_entry, inspection_from, job_facts
from tests.support.inspections import VISION_PROJECTOR, inspection

Json = dict[str, Any]


def job(work: str = "inspect", *, done: str = "") -> Json:
    conditions = [{"type": done, "status": "True"}] if done else []
    return {
        "metadata": {
            "name": f"coder-{work}-1",
            "labels": {labels.WORK: work, labels.ROLE: "model"},
            "annotations": {labels.SOURCE: "key", labels.NODE: "n1"},
        },
        "status": {"conditions": conditions},
    }


def pod(work: str = "inspect", *, created: str = "1", **container: Any) -> Json:
    return {
        "metadata": {"name": "p", "labels": {labels.WORK: work}, "creationTimestamp": created},
        "status": {"containerStatuses": [{"name": work, **container}]},
    }


def ended(arguments: Any, *, exit_code: int = 0) -> Json:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"terminated": {"exitCode": exit_code, "message": text, "reason": "Error"}}


def read(work: str, *pods: Json, done: str = "") -> JobFacts:
    return job_facts(job(work, done=done), pods)


ANSWER = {
    name: item
    for name, item in inspection_entry(inspection()).items()
    if name not in ("role", "source")
}


@pytest.mark.parametrize(
    "value",
    [
        inspection(),
        inspection(role="projector", profile=None, companion=VISION_PROJECTOR),
        inspection(role="adapter-sql", profile=None, companion=Companion("adapter", "llama", 7)),
    ],
    ids=lambda value: value.role,
)
def test_an_inspection_survives_the_status(value: Inspection) -> None:
    assert inspection_from(json.loads(json.dumps(inspection_entry(value)))) == value


def test_an_answer_is_read_and_belongs_to_what_the_job_asked_for() -> None:
    answer = read("inspect", pod(state=ended(ANSWER))).answer
    assert isinstance(answer, Inspection)
    assert (answer.source, answer.role, answer.path) == ("key", "model", inspection().path)
    stored = read("fetch", pod("fetch", state=ended({"bytes": 7, "sha256": "a"}))).answer
    assert stored == StoredAt("n1", "key", 7, "a")


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "Traceback (most recent call last)",
        "[]",
        "null",
        "{}",
        {"bytes": "many"},
        '{"bytes": 1e999}',
        '{"error": "x"}',
        {**ANSWER, "bytes": None},
        {**ANSWER, "profile": {"layers": {"of": [], "runs": "9999999x0"}}},
        {**ANSWER, "profile": "none"},
        {**ANSWER, "companion": "none"},
        {**ANSWER, "companion": {"kind": "projector", "architecture": "mlp", "weights": "x"}},
        json.dumps(ANSWER)[:-5],
    ],
    ids=lambda arguments: str(arguments)[:20],
)
def test_words_that_are_no_answer_are_told_and_asked_for_by_nobody(arguments: Any) -> None:
    for work in ("inspect", "fetch"):
        if work == "fetch" and isinstance(arguments, dict) and "folder" in arguments:
            continue  # a fetch asks for the bytes alone
        result = read(work, pod(work, state=ended(arguments)), done="Complete")
        assert (result.answer, result.failed) == (None, False), work
        assert result.problem is not None
        assert result.problem.final
        assert "delete the Job to run it again" in result.problem.message


def test_a_bad_answer_is_final_and_a_failed_try_is_not() -> None:
    message = {"error": {"reason": "ChecksumMismatch", "message": "other bytes"}}
    problem = read("fetch", pod("fetch", state=ended(message))).problem
    assert problem is not None
    assert (problem.reason, problem.final) == (Reason.CHECKSUM_MISMATCH, True)
    again = pod(
        "fetch",
        state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
        lastState=ended({"error": {"reason": "StoreFull", "message": "no room"}}, exit_code=1),
    )
    problem = read("fetch", again).problem
    assert problem is not None
    assert (problem.reason, problem.final, problem.message) == (Reason.STORE_FULL, False, "no room")


def test_while_a_fetch_runs_again_its_progress_is_the_news() -> None:
    failed = ended({"error": {"reason": "Retrying", "message": "cut"}}, exit_code=1)
    assert read("fetch", pod("fetch", state={"running": {}}, lastState=failed)).problem is None
    assert read("inspect", pod(state={"running": {}}, lastState=failed)).problem is not None


@pytest.mark.parametrize(
    ("end", "says"),
    [
        ({"exitCode": 137, "reason": "OOMKilled"}, "OOMKilled"),
        ({"exitCode": 1, "message": "ImportError: x", "reason": "Error"}, "ImportError: x"),
        ({"exitCode": 1, "message": '{"error": 5}', "reason": "Error"}, "failed without a message"),
        ({"exitCode": 1, "message": '{"error": {"reason": "Odd"}}'}, "failed without a message"),
        ({"exitCode": 1, "message": '{"error": {"reason": []}}'}, "failed without a message"),
    ],
    ids=["killed", "crashed", "odd words", "an unknown reason", "a reason that is none"],
)
def test_a_crash_is_told_with_what_it_left(end: Json, says: str) -> None:
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    problem = read("inspect", pod(state=state, lastState={"terminated": end})).problem
    assert problem is not None
    assert says in problem.message


@pytest.mark.parametrize(
    ("waiting", "reason"),
    [
        ({"reason": "ErrImagePull", "message": "no such image"}, Reason.IMAGE_PULL_FAILED),
        (
            {"reason": "CreateContainerConfigError", "message": 'secret "hf" not found'},
            Reason.CANNOT_START,
        ),
    ],
    ids=["image", "secret"],
)
def test_what_keeps_a_pod_from_its_start_is_told(waiting: Json, reason: Reason) -> None:
    problem = read("inspect", pod(state={"waiting": waiting})).problem
    assert problem is not None
    assert problem.reason is reason
    assert str(waiting["message"]) in problem.message


def test_of_several_pods_the_one_that_answered_counts() -> None:
    lost = pod(created="2", state={"waiting": {"reason": "ContainerCreating"}})
    assert read("inspect", lost, pod(state=ended(ANSWER))).answer is not None


def test_a_job_whose_pods_are_gone_is_made_anew_only_when_it_is_over() -> None:
    assert not read("inspect").failed
    assert read("inspect", done="Complete").failed, "its pod is gone, and its words"
    assert read("inspect", done="Failed").failed


def test_a_job_whose_pods_are_refused_says_why() -> None:
    refused = 'FailedCreate: pods "x" is forbidden: exceeded quota: small'
    problem = job_facts(job(), [], refused).problem
    assert problem is not None
    assert (problem.reason, problem.final) == (Reason.CANNOT_START, False)
    assert "Job coder-inspect-1 are refused: FailedCreate" in problem.message
    active = {**job(), "status": {"active": 1}}
    assert job_facts(active, [], refused).problem is None


def test_a_job_that_did_not_end_in_time_is_told_and_not_created_again() -> None:
    late = job("fetch")
    late["status"]["conditions"] = [
        {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}
    ]
    facts = job_facts(late, [])
    assert facts.problem is not None
    assert (facts.failed, facts.problem.final) == (False, True)
    assert "delete the Job" in facts.problem.message
    late["status"]["conditions"][0]["reason"] = "BackoffLimitExceeded"
    assert job_facts(late, []).failed

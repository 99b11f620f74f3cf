"""Reads the results of inspect and fetch Jobs from their pods' termination messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llama_halo.contract import labels
from llama_halo.contract.reasons import Reason
from llama_halo.errors import DamagedGGUF
from llama_halo.gguf import companions, profile
from llama_halo.plan.facts import FETCH, INSPECT, Inspection, JobFacts, Problem, StoredAt
from llama_halo.status.pods import waits_for

Object = Mapping[str, Any]
MAX_NUMBER = 2**53
MAX_TEXT_CHARACTERS = 4096


def job_facts(job: Object, pods: Sequence[Object], finding: str = "") -> JobFacts:
    """Return the facts about a Job, from its pods.

    A termination message can contain anything; one that cannot be read becomes a final problem.
    `finding` is the newest warning among the Job's Events, for pods that cannot be created.
    """
    try:
        return _facts(job, pods, finding)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        name = job["metadata"]["name"]
        message = (
            f"the result of Job {name} cannot be read ({error!r}): delete the Job to run it again"
        )
        return JobFacts(**_named(job), problem=Problem(Reason.CANNOT_START, message, final=True))


def has_no_pod(job: Object) -> bool:
    """Tell whether a Job that has not ended has no active pod."""
    status = job.get("status") or {}
    return not status.get("active") and not any(map(_true, status.get("conditions", ())))


def _named(job: Object) -> dict[str, Any]:
    metadata = job["metadata"]
    annotations, job_labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    return {
        "name": metadata["name"],
        "work": job_labels.get(labels.WORK, ""),
        "role": job_labels.get(labels.ROLE, ""),
        "node": annotations.get(labels.NODE, ""),
        "source": annotations.get(labels.SOURCE, ""),
    }


def _facts(job: Object, pods: Sequence[Object], finding: str) -> JobFacts:
    facts, annotations = _named(job), job["metadata"].get("annotations") or {}
    conditions = {
        condition["type"]: condition.get("reason", "")
        for condition in job.get("status", {}).get("conditions", ())
        if _true(condition)
    }
    newest_first = sorted(pods, key=_created, reverse=True)
    answers = [answer for pod in newest_first if (answer := _report_of(pod, ended_well=True))]
    if "error" in (answers[0] if answers else {}):
        return JobFacts(**facts, problem=_problem(answers[0], final=True))
    if answers:
        requested_at = annotations.get(labels.REQUESTED_AT, "")
        return JobFacts(**facts, answer=_answer(facts, answers[0], requested_at))
    if conditions.get("Failed") == "DeadlineExceeded":
        message = (
            f"Job {facts['name']} did not end in time (its activeDeadlineSeconds): check the server"
            " of the source and the node's disk, then delete the Job to run it again"
        )
        return JobFacts(**facts, problem=Problem(Reason.CANNOT_START, message, final=True))
    if "Failed" in conditions or ("Complete" in conditions and not pods):
        return JobFacts(**facts, failed=True)  # its answer is lost, so the Job is created again
    if "Complete" in conditions:
        message = (
            f"Job {facts['name']} ended without a usable result: delete the Job to run it again"
        )
        return JobFacts(**facts, problem=Problem(Reason.CANNOT_START, message, final=True))
    problem = next((trouble for pod in newest_first[:1] if (trouble := _trouble(pod))), None)
    if finding and has_no_pod(job):
        message = (
            f"the pods of Job {facts['name']} are refused: {finding}: change the namespace's quota"
            " or Pod Security level"
        )
        problem = Problem(Reason.CANNOT_START, message)
    return JobFacts(**facts, problem=problem)


def inspection_from(entry: Mapping[str, Any]) -> Inspection:
    """Return an inspection from its entry in the status."""
    return Inspection(
        role=_text(entry["role"]),
        source=_text(entry["source"]),
        file=_text(entry["file"]),
        bytes=_count(entry["bytes"]),
        shards=_count(entry["shards"]),
        folder=_text(entry.get("folder") or ""),
        sha256=_text(entry.get("sha256") or ""),
        revision=_text(entry.get("revision") or ""),
        version=_text(entry.get("version") or ""),
        requested_at=_text(entry.get("requestedAt") or ""),
        **_described(entry),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARACTERS:
        raise TypeError("a value is no text within bounds")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MAX_NUMBER:
        raise TypeError("a value is no number within bounds")
    return value


def _described(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the header says: a companion for projectors, adapters and whisper models, else a
    profile."""
    if "companion" in entry:
        return {"companion": companions.from_json(entry["companion"])}
    return {"profile": profile.from_json(entry["profile"])}


def inspection_entry(inspection: Inspection) -> dict[str, Any]:
    """Return the status entry of an inspection; empty fields are left out."""
    entry = {
        "role": inspection.role,
        "source": inspection.source,
        "file": inspection.file,
        "bytes": inspection.bytes,
        "shards": inspection.shards,
        "folder": inspection.folder,
        "sha256": inspection.sha256,
        "revision": inspection.revision,
        "version": inspection.version,
        "requestedAt": inspection.requested_at,
        "profile": profile.to_json(inspection.profile) if inspection.profile else None,
        "companion": companions.to_json(inspection.companion) if inspection.companion else None,
    }
    return {name: value for name, value in entry.items() if value not in ("", None)}


def _answer(
    facts: Mapping[str, str], report: Mapping[str, Any], requested_at: str
) -> Inspection | StoredAt:
    if facts["work"] == INSPECT:
        about = {"role": facts["role"], "source": facts["source"], "requestedAt": requested_at}
        return inspection_from({**report, **about})
    return StoredAt(
        node=facts["node"],
        path=facts["source"],
        bytes=_count(report["bytes"]),
        sha256=_text(report.get("sha256") or ""),
        requested_at=requested_at,
    )


def _report_of(pod: Object, *, ended_well: bool) -> dict[str, Any] | None:
    """Return the JSON of a termination message, None without one.

    It is an answer if the container ended with code 0, else why the container tries again.
    """
    container, work = _container(pod), _work(pod)
    ends = [container.get(field, {}).get("terminated") for field in ("state", "lastState")]
    for end in filter(None, ends):
        if (end.get("exitCode") == 0) != ended_well:
            continue
        try:
            report = json.loads(end.get("message") or "")
        except (ValueError, RecursionError):
            continue
        if isinstance(report, dict) and (not ended_well or _is_whole(report, work)):
            return report
    return None


def _is_whole(report: Mapping[str, Any], work: str) -> bool:
    """Tell whether an answer can be used: the Job may be of another version than the operator."""
    if isinstance(report.get("error"), dict):
        return True
    try:
        if work == INSPECT:
            inspection_from({**report, "role": "", "source": ""})
        return _count(report["bytes"]) >= 0
    except (ArithmeticError, DamagedGGUF, LookupError, TypeError, ValueError):
        return False


def _problem(report: Mapping[str, Any], *, final: bool = False) -> Problem:
    error = report.get("error")
    error = error if isinstance(error, dict) else {}
    reason = error.get("reason", "")
    reason_or_retrying = Reason(reason) if str(reason) in set(Reason) else Reason.RETRYING
    return Problem(
        reason_or_retrying, str(error.get("message", "it failed without a message")), final
    )


def _trouble(pod: Object) -> Problem | None:
    """Return why a pod has no answer yet, None while it works."""
    container = _container(pod)
    waiting = waits_for(pod, container)
    if waiting:
        return Problem(*waiting)
    if _work(pod) == FETCH and "running" in container.get("state", {}):
        return None  # the status reports its progress instead
    report = _report_of(pod, ended_well=False)
    if report:
        return _problem(report)
    end = container.get("state", {}).get("terminated") or container.get("lastState", {}).get(
        "terminated"
    )
    if not end or end.get("exitCode") == 0:
        return None
    last_words = " ".join((end.get("message") or "").split())[-300:]
    return Problem(
        Reason.CANNOT_START,
        f"pod {pod['metadata']['name']} ended with exit code {end.get('exitCode')}"
        f" ({end.get('reason', '')}): {last_words or 'it left no message'}",
    )


def _container(pod: Object) -> Mapping[str, Any]:
    work = _work(pod)
    container_statuses: Sequence[Mapping[str, Any]] = pod.get("status", {}).get(
        "containerStatuses", ()
    )
    return next(
        (
            container_status
            for container_status in container_statuses
            if container_status.get("name") == work
        ),
        {},
    )


def _work(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get(labels.WORK, ""))


def _created(pod: Object) -> str:
    return str(pod["metadata"].get("creationTimestamp", ""))


def _true(condition: Mapping[str, Any]) -> bool:
    return bool(condition["status"] == "True")

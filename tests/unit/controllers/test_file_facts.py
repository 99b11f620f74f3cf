"""What counts as a Job's answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llama_halo.contract import labels
from llama_halo.controllers.file_facts import build_file_facts
from llama_halo.status.jobs import inspection_entry
from tests.support.inspections import inspection
from tests.support.operator_state import operator_state

MODEL: dict[str, Any] = {
    "kind": "LlamaModel",
    "metadata": {"name": "coder", "namespace": "llm", "uid": "u-model"},
    "spec": {},
}
LABELS = {labels.FILES_OF: "coder", labels.WORK: "inspect", labels.ROLE: "model"}


def answered(message: str, *, is_controller: bool = True) -> Any:
    """Return the answer of a Job whose pod ended with a termination message."""
    state, _ = operator_state()
    owner = {"kind": "LlamaModel", "name": "coder", "uid": "u-model", "controller": True}
    job = {
        "kind": "Job",
        "metadata": {"name": "job", "uid": "u-job", "ownerReferences": [owner]},
        "status": {},
    }
    made_by = {"kind": "Job", "name": "job", "uid": "u-job", "controller": is_controller}
    terminated = {"exitCode": 0, "message": message}
    pod = {
        "kind": "Pod",
        "metadata": {"name": "pod", "uid": "u-pod", "ownerReferences": [made_by]},
        "status": {"containerStatuses": [{"name": "inspect", "state": {"terminated": terminated}}]},
    }
    for obj in (MODEL, job, pod):
        metadata = {"namespace": "llm", "resourceVersion": "7", "labels": LABELS}
        state.cache.observe({**obj, "metadata": {**metadata, **obj["metadata"]}})
    (facts,) = build_file_facts(state, MODEL).jobs
    return facts.answer


REPORT = {
    name: value
    for name, value in inspection_entry(inspection()).items()
    if name not in ("role", "source")
}


def test_only_the_jobs_own_pod_answers_for_it() -> None:
    assert answered(json.dumps(REPORT)).bytes == REPORT["bytes"]
    assert answered(json.dumps(REPORT), is_controller=False) is None


@pytest.mark.parametrize(
    "part",
    [
        {"bytes": -1},
        {"bytes": "7"},
        {"bytes": 10**400},
        {"shards": True},
        {"file": ["x"]},
        {"profile": {**REPORT["profile"], "vocabulary": "x"}},
        {"profile": {**REPORT["profile"], "heads": "8"}},
        {"profile": {**REPORT["profile"], "weights": 10**1000}},
        {"profile": {**REPORT["profile"], "head_lengths": [1, 2, 3]}},
        {"profile": {**REPORT["profile"], "layers": {"of": [["x"]], "runs": "1x0"}}},
        {"profile": {**REPORT["profile"], "layerWeights": {"of": [1.5], "runs": "1x0"}}},
    ],
    ids=",".join,
)
def test_an_answer_beyond_its_bounds_is_none(part: dict[str, Any]) -> None:
    assert answered(json.dumps(REPORT | part)) is None


def test_an_answer_that_is_nested_too_deeply_is_none() -> None:
    assert answered("[" * 4000) is None

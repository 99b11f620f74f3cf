"""What `llama-halo status` makes of the objects of a cluster."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from llama_halo.cli.report import ClusterSnapshot, bar, report, text

Json = dict[str, Any]
NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
NODE: Json = {
    "metadata": {
        "name": "halo-1",
        "labels": {"llama-halo.dev/strix-halo": "true"},
        "annotations": {"llama-halo.dev/gpu-memory": "104Gi"},
    },
    "status": {
        "allocatable": {"memory": "120Gi"},
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}
POD: Json = {
    "metadata": {
        "labels": {"llama-halo.dev/model": "coder"},
        "annotations": {"llama-halo.dev/gpu-mib": "53248", "llama-halo.dev/host-mib": "2048"},
    },
    "spec": {"nodeName": "halo-1"},
}


def model(state: str, status: str, **more: Any) -> Json:
    ready = {"type": "Ready", "status": status, "reason": state, "message": f"because of {state}"}
    return {
        "metadata": {"namespace": "llm", "name": "coder"},
        "status": {"conditions": [ready], **more},
    }


def shown(observed: ClusterSnapshot, columns: int = 120) -> list[str]:
    return text(report(observed), now=NOW, columns=columns).splitlines()


def test_a_node_has_a_bar_of_its_gpu_memory() -> None:
    lines = shown(ClusterSnapshot(nodes=[NODE], pods=[POD]))
    assert (
        lines[1] == f"halo-1  {'█' * 12}{'░' * 12}  52.0Gi of 104.0Gi GPU, 54.0Gi of 120.0Gi memory"
    )


def test_a_node_that_is_away_or_cordoned_says_so() -> None:
    away = {**NODE, "status": {"allocatable": {"memory": "120Gi"}}, "spec": {"unschedulable": True}}
    assert shown(ClusterSnapshot(nodes=[away]))[1].endswith("NOT READY  cordoned")


def test_a_node_of_another_kind_shows_all_of_its_memory() -> None:
    other = {**NODE, "metadata": {"name": "plain"}}
    line = shown(ClusterSnapshot(nodes=[other]))[1]
    assert line.endswith("0Mi of 120.0Gi memory")
    assert "GPU" not in line


def test_a_budget_that_nobody_gave_is_marked_and_one_that_cannot_be_read_is_none() -> None:
    labels = {"llama-halo.dev/strix-halo": "true"}
    assumed = {**NODE, "metadata": {"name": "a", "labels": labels}}
    assert "of 112.0Gi GPU (assumed)" in shown(ClusterSnapshot(nodes=[assumed]))[1]
    wrong = {"llama-halo.dev/gpu-memory": "lots"}
    broken = {**NODE, "metadata": {"name": "a", "labels": labels, "annotations": wrong}}
    assert "0Mi of 0Mi GPU, " in shown(ClusterSnapshot(nodes=[broken]))[1]


def test_a_pod_that_was_evicted_holds_nothing() -> None:
    ended = {**POD, "status": {"phase": "Failed"}}
    assert "0Mi of 104.0Gi GPU" in shown(ClusterSnapshot(nodes=[NODE], pods=[ended]))[1]


def test_a_model_that_calls_no_tools_says_why() -> None:
    row = model("Serving", "True")
    row["status"]["conditions"].append(
        {"type": "ToolCalling", "status": "False", "reason": "X", "message": "it only talks"}
    )
    assert "    tools: it only talks" in shown(ClusterSnapshot(models=[row]))


def test_a_model_that_is_not_ready_says_why_and_one_that_is_does_not() -> None:
    assert "because of OutOfMemory" in "\n".join(
        shown(ClusterSnapshot(models=[model("OutOfMemory", "False")]))
    )
    assert "because of" not in "\n".join(shown(ClusterSnapshot(models=[model("Serving", "True")])))


def test_a_download_is_shown_with_its_bar_and_rate() -> None:
    download = {"percent": 32, "totalBytes": 21 * 2**30, "bytesPerSecond": 85 * 2**20}
    row = model("Downloading", "False", download={**download, "remainingSeconds": 130})
    lines = shown(ClusterSnapshot(models=[row]))
    assert lines[-1].strip() == f"{'█' * 8}{'░' * 16}  32% of 21.0Gi, 85.0 MiB/s, 2m10s left"


def test_an_object_that_nobody_looked_at_is_shown_all_the_same() -> None:
    new = {"metadata": {"namespace": "llm", "name": "new"}}
    lines = "\n".join(shown(ClusterSnapshot(models=[new], routers=[new])))
    assert lines.count("llm/new") == 2
    assert "no operator has reconciled it yet" in lines


def test_the_newest_events_come_first_and_few() -> None:
    events = [
        {
            "eventTime": f"2026-11-25T11:{minute:02}:00.000000Z",
            "reason": f"R{minute}",
            "note": "n",
            "regarding": {"kind": "LlamaModel", "namespace": "llm", "name": "coder"},
        }
        for minute in range(10, 20)
    ]
    lines = shown(ClusterSnapshot(events=events))
    assert [line.split()[0] for line in lines[-6:]] == ["41m", "42m", "43m", "44m", "45m", "46m"]


def test_no_line_is_longer_than_the_terminal_and_no_word_is_lost() -> None:
    row = model("OutOfMemory", "False", nodeSummary="x" * 200)
    row["status"]["conditions"][0]["message"] = f"{'needs more ' * 20}: lower contextSize"
    lines = shown(ClusterSnapshot(nodes=[NODE], models=[row]), columns=60)
    assert all(len(line) <= 60 for line in lines)
    assert "lower contextSize" in " ".join(" ".join(lines).split())


@pytest.mark.parametrize(
    ("part", "whole", "full"), [(0, 100, 0), (1, 100, 1), (50, 100, 12), (200, 100, 24), (5, 0, 0)]
)
def test_a_bar(part: int, whole: int, full: int) -> None:
    assert bar(part, whole) == "█" * full + "░" * (24 - full)

"""What the Events of a hanging pod say, and when they no longer count."""

from __future__ import annotations

import pytest

from llama_halo.controllers.pollers.pod_creation import newest_warning

MOUNT = {"type": "Warning", "reason": "FailedMount", "note": "no kfd"}
PULL = {"type": "Normal", "reason": "Pulling", "note": "image"}
UNSCHEDULED = {"type": "Warning", "reason": "FailedScheduling", "note": "no room"}


def at(second: int, event: dict[str, str]) -> dict[str, str]:
    return {**event, "deprecatedLastTimestamp": f"2026-11-21T10:00:{second:02}Z"}


@pytest.mark.parametrize(
    ("events", "value"),
    [
        ([], ""),
        ([at(1, MOUNT)], "FailedMount: no kfd"),
        ([at(1, MOUNT), at(2, PULL)], ""),
        ([at(2, MOUNT), at(1, PULL)], "FailedMount: no kfd"),
        ([at(1, UNSCHEDULED)], ""),
    ],
    ids=[
        "nothing said",
        "a warning",
        "a warning that was got over",
        "a warning after a step",
        "that it was not scheduled once does not matter any more",
    ],
)
def test_only_a_newest_warning_counts(events: list[dict[str, str]], value: str) -> None:
    assert newest_warning(events) == value

"""Whether a Deployment's pods answer somebody."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from llama_halo.controllers.facts import answers


def conditions(progress: str, available: str, seconds_ago: float) -> dict[str, Any]:
    since = datetime.fromtimestamp(time.time() - seconds_ago, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "conditions": [
            {"type": "Progressing", "status": "True", "reason": progress},
            {"type": "Available", "status": available, "lastTransitionTime": since},
        ]
    }


@pytest.mark.parametrize(
    ("progress", "available", "seconds_ago", "answer"),
    [
        pytest.param("NewReplicaSetAvailable", "True", 600, True, id="it serves"),
        pytest.param("NewReplicaSetAvailable", "False", 20, True, id="a missed probe"),
        pytest.param("NewReplicaSetAvailable", "False", 90, False, id="it is down"),
        pytest.param("ReplicaSetUpdated", "False", 20, False, id="it still loads"),
        pytest.param("ProgressDeadlineExceeded", "False", 20, False, id="it never came up"),
    ],
)
def test_a_deployment_answers(
    progress: str, available: str, seconds_ago: float, answer: bool
) -> None:
    assert answers(conditions(progress, available, seconds_ago)) is answer


def test_one_that_no_controller_has_seen_does_not() -> None:
    assert not answers({})

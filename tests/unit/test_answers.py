"""Whether a Deployment's pods answer somebody."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from llama_halo.reconcile.gather import answers


def conditions(progress: str, available: str, seconds_ago: float) -> dict[str, Any]:
    since = datetime.fromtimestamp(time.time() - seconds_ago, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "conditions": [
            {"type": "Progressing", "status": "True", "reason": progress},
            {"type": "Available", "status": available, "lastTransitionTime": since},
        ]
    }


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        pytest.param(conditions("NewReplicaSetAvailable", "True", 600), True, id="it serves"),
        pytest.param(conditions("NewReplicaSetAvailable", "False", 20), True, id="a missed probe"),
        pytest.param(conditions("NewReplicaSetAvailable", "False", 90), False, id="it is down"),
        pytest.param(conditions("ReplicaSetUpdated", "False", 20), False, id="it still loads"),
        pytest.param(
            conditions("ProgressDeadlineExceeded", "False", 20), False, id="it never came up"
        ),
        pytest.param({}, False, id="no controller has seen it"),
    ],
)
def test_a_deployment_answers(status: dict[str, Any], answer: bool) -> None:
    assert answers(status) is answer

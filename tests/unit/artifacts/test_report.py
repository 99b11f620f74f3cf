"""Last words: never longer than Kubernetes keeps, never cut in the middle."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from llama_halo.artifacts.report import MAX_BYTES, failure, result
from llama_halo.errors import NotAGGUF


@given(st.text(max_size=5000))
def test_a_failure_is_whole_json_within_the_limit(message: str) -> None:
    report = failure(NotAGGUF(message))
    assert len(report) <= MAX_BYTES
    error = json.loads(report)["error"]
    assert error["reason"] == "NotAGGUF"
    assert message.startswith(error["message"])


def test_a_result_that_is_too_long_is_an_error() -> None:
    message = json.loads(result({"profile": "x" * 5000}))
    assert "5014 bytes; a termination message holds at most 4096" in message["error"]["message"]

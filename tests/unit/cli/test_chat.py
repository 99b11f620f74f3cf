"""What `llama-halo chat` makes of lines and errors."""

from __future__ import annotations

import pytest

from llama_halo.cli.chat import failure_message, parse_delta
from llama_halo.errors import CliError, ClusterError


@pytest.mark.parametrize(
    ("line", "thought", "word"),
    [
        (b'data: {"choices":[{"delta":{"content":"Hi"}}]}', "", "Hi"),
        (b'data: {"choices":[{"delta":{"reasoning_content":"Hm"}}]}', "Hm", ""),
        (b'data: {"choices":[{"delta":{"content":null}}]}', "", ""),
        (b'data: {"choices":[],"usage":{}}', "", ""),
        (b"data: [DONE]", "", ""),
        (b": ping", "", ""),
    ],
)
def test_a_line_brings(line: bytes, thought: str, word: str) -> None:
    assert parse_delta(line) == (thought, word)


@pytest.mark.parametrize(
    "line", [b'data: {"error":{"message":"no room"}}', b'data: {"error":"no room"}']
)
def test_an_error_in_a_stream_is_told(line: bytes) -> None:
    with pytest.raises(CliError, match="the answer broke off: no room"):
        parse_delta(line)


def test_a_line_of_a_stream_that_is_no_json_ends_the_answer() -> None:
    with pytest.raises(CliError, match="the answer broke off: a line of it is not JSON"):
        parse_delta(b'data: {"choices":[{"delta"')


@pytest.mark.parametrize(
    ("error", "has_key", "message"),
    [
        (ClusterError(404, "there is no model typo"), False, "there is no model typo"),
        (
            ClusterError(503, 'no endpoints available for service "a"'),
            False,
            "a has no pod that answers: llama-halo status shows why",
        ),
        (
            ClusterError(503, "coder does not answer now: WaitingForMemory"),
            False,
            "WaitingForMemory",
        ),
        (ClusterError(401, "no key"), False, "LLAMA_HALO_KEY is not set"),
        (ClusterError(401, "wrong key"), True, "wrong key (the key in LLAMA_HALO_KEY is wrong"),
        (TimeoutError("slow"), False, "a did not answer: slow"),
    ],
)
def test_what_is_told_of_an_answer_that_did_not_come(
    error: Exception, has_key: bool, message: str
) -> None:
    assert message in failure_message(error, "a", has_key)

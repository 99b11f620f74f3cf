"""What a server's answer may take of the gateway's memory."""

from __future__ import annotations

import json

import pytest

from llama_halo.gateway.dispatch.upstream import MAX_ANSWER_VALUES, UpstreamAnswer
from llama_halo.gateway.http.answers import (
    MAX_HELD_BYTES,
    MAX_VALUES,
    SMALL_BYTES,
    HeldAnswer,
    parse,
)
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.http.sse import SseEvent


@pytest.mark.parametrize("part", ["[]", "{}", "1", '""'])
def test_an_answer_of_too_many_values_is_refused(part: str) -> None:
    text = f"[{','.join([part] * (MAX_VALUES + 1))}]"
    for data in (text, text.encode()):
        with pytest.raises(Failure, match="too many values"):
            parse(data)
    with pytest.raises(Failure, match="too many values"):
        _ = SseEvent(b"data: " + text.encode()).value


def test_a_long_text_is_one_value() -> None:
    text = json.dumps({"content": "word " * 100_000})
    assert parse(text) == json.loads(text)


def test_an_answer_that_is_read_whole_may_have_many_numbers_but_not_many_lists() -> None:
    numbers = [0.5] * 1_000_000
    answer = UpstreamAnswer("application/json", json.dumps({"data": numbers}).encode())
    assert answer.value() == {"data": numbers}
    for part, count in (("[]", MAX_VALUES), ("1", MAX_ANSWER_VALUES)):
        data = f'{{"data": [{",".join([part] * (count + 1))}]}}'.encode()
        with pytest.raises(Failure, match="too many values"):
            UpstreamAnswer("application/json", data).value()


def test_unfinished_answers_are_bounded_together_and_small_ones_go_on() -> None:
    with HeldAnswer() as large, HeldAnswer() as other, HeldAnswer() as small:
        large.resize(MAX_HELD_BYTES - 1)
        small.resize(SMALL_BYTES)
        with pytest.raises(Failure, match="too many large answers at once") as raised:
            other.resize(SMALL_BYTES + 1)
        assert raised.value.status == 503
        large.resize(0)
        other.resize(SMALL_BYTES + 1)
    assert HeldAnswer.total_bytes == 0

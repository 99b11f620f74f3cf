"""The token counts of an answer, in the words of each API."""

from __future__ import annotations

from typing import Any

import pytest

from llama_halo.gateway.http.token_usage import TokenUsage


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}, (7, 0, 3)),
        ({"usage": {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}}, (9, 4, 0)),
        (
            {"message": {"usage": {"cache_read_input_tokens": 5, "input_tokens": 2}}},
            (7, 5, 0),
        ),
        (
            {
                "message": {
                    "usage": {
                        "input_tokens": 2,
                        "cache_creation_input_tokens": 30,
                        "cache_read_input_tokens": 100,
                    }
                }
            },
            (132, 100, 0),
        ),
        ({"response": {"usage": {"input_tokens": 6, "output_tokens": 1}}}, (6, 0, 1)),
        (
            {
                "response": {
                    "usage": {"input_tokens": 6, "input_tokens_details": {"cached_tokens": 4}}
                }
            },
            (6, 4, 0),
        ),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": "9"}}, (0, 0, 0)),
        ({"usage": None, "message": 3}, (0, 0, 0)),
        ([], (0, 0, 0)),
    ],
)
def test_tokens_are_read_in_each_apis_words(data: Any, value: tuple[int, int, int]) -> None:
    usage = TokenUsage()
    usage.note(data)
    assert (usage.prompt, usage.cached, usage.answer) == value


def test_a_count_that_a_stream_repeats_with_0_stays() -> None:
    usage = TokenUsage()
    usage.note({"message": {"usage": {"input_tokens": 8, "cache_read_input_tokens": 4}}})
    usage.note({"usage": {"input_tokens": 0, "output_tokens": 3}})
    assert (usage.prompt, usage.cached, usage.answer) == (12, 4, 3)

"""What is noted of a request."""

from __future__ import annotations

from typing import Any

import pytest

from llama_halo.gateway.request_record import TokenUsage


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}, (7, 0, 3)),
        ({"usage": {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}}, (9, 4, 0)),
        (
            {"message": {"usage": {"cache_read_input_tokens": 5, "input_tokens": 2}}},
            (7, 5, 0),
        ),
        ({"response": {"usage": {"input_tokens": 6, "output_tokens": 1}}}, (6, 0, 1)),
        ({"usage": None, "message": 3}, (0, 0, 0)),
        ([], (0, 0, 0)),
    ],
)
def test_tokens_are_read_in_each_apis_words(data: Any, value: tuple[int, int, int]) -> None:
    usage = TokenUsage()
    usage.note(data)
    assert (usage.prompt, usage.cached, usage.answer) == value

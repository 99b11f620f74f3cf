"""What a request is for, by its shape."""

from __future__ import annotations

from typing import Any

import pytest

from llama_halo.gateway.routing.features import features_of

CLAUDE = {"user-agent": "claude-cli/2.1.331 (external, sdk-cli)"}


FIRST: dict[str, Any] = {"model": "x", "messages": [{"role": "user", "content": "Hi"}]}


TITLE = {**FIRST, "output_config": {"format": {"type": "json_schema", "schema": {}}}}


TASK = {"model": "x", "messages": [{"role": "user", "content": "### Task:\nSuggest titles"}]}


EMOJI = "Your task is to reflect the speaker's likely facial expression through a fitting emoji."


FACE = {"model": "x", "messages": [{"role": "user", "content": EMOJI}]}


CONTINUE = "Given the following... please reply with a title for the chat that is 3-4 words"


NAMED = {"model": "x", "messages": [{"role": "user", "content": CONTINUE}]}


PARTS = {"model": "x", "messages": [{"role": "user", "content": [{"text": "### Task: x"}]}]}


@pytest.mark.parametrize(
    ("headers", "body", "background"),
    [
        ({}, {"model": "claude-haiku-5", "tools": [{}]}, True),
        (CLAUDE, FIRST, True),
        (CLAUDE, {**FIRST, "tools": [{}]}, False),
        (CLAUDE, {**FIRST, "thinking": {"type": "adaptive"}}, False),
        (CLAUDE, {"model": "x", "messages": [{"role": "user"}, {"role": "assistant"}]}, False),
        (CLAUDE, {"model": "x", "messages": [7], "thinking": "loud"}, True),
        (CLAUDE, {"model": "x", "prompt": "no messages at all"}, False),
        ({"user-agent": "opencode/1.18.33 ai-sdk"}, FIRST, True),
        ({}, FIRST, False),
        ({"user-agent": "OpenAI/Python 3.1"}, FIRST, False),
        ({}, TITLE, True),
        ({}, TASK, True),
        ({}, PARTS, True),
        ({}, FACE, True),
        ({}, NAMED, True),
    ],
)
def test_a_side_task_is_told_by_its_shape_and_not_taken_for_a_first_question(
    headers: dict[str, str], body: dict[str, Any], background: bool
) -> None:
    assert features_of(headers, body, 0).background is background

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


URL, BASE64 = "http://169.254.169.254/latest/meta-data", "UklGRiQAAABXQVZFZm10IBAAAAABAAEA"
PARTS_BY_URL: list[dict[str, Any]] = [
    {"type": "image_url", "image_url": {"url": URL}},
    {"type": "image_url", "image_url": URL},
    {"type": "image", "source": {"type": "url", "url": URL}},
    {"type": "input_image", "image_url": URL},
    {"type": "input_audio", "input_audio": {"data": URL, "format": "wav"}},
    {"type": "input_audio", "input_audio": {"data": "HTTPS://x", "format": "wav"}},
    {"type": "input_audio", "input_audio": {"url": URL}},
    {"type": "input_video", "input_video": {"data": URL}},
    {"type": "input_video", "input_video": {"url": URL}},
    {"type": "video_url", "video_url": {"url": URL}},
    {"type": "file", "file": {"file_data": "file:///etc/passwd"}},
    {"type": "input_file", "file_url": URL},
    {"input_audio": {"data": URL}},
    {"type": "text", "text": "x", "input_video": {"data": URL}},
    {"type": "input_audio", "input_audio": {"type": "text", "data": URL}},
    {"type": "input_video", "input_video": {"path": "/etc/passwd.mp4"}},
    {"type": "input_audio", "input_audio": {"uri": URL}},
    {"type": "audio_url", "audio_url": "s3://bucket/a.wav"},
    {"type": "video", "video": URL},
]
PARTS_INLINE: list[dict[str, Any]] = [
    {"type": "text", "text": URL},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64}"}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}},
    {"type": "input_audio", "input_audio": {"data": BASE64, "format": "wav"}},
    {"type": "input_audio", "input_audio": {"data": f"data:audio/wav;base64,{BASE64}"}},
    {"type": "document", "source": {"type": "text", "data": f"see {URL}: it is a text"}},
    {"type": "tool_use", "name": "fetch", "input": {"url": URL, "file": {"data": URL}}},
]


@pytest.mark.parametrize("nested", [False, True], ids=["in a message", "in a tool's result"])
@pytest.mark.parametrize(
    ("part", "is_remote"),
    [*((part, True) for part in PARTS_BY_URL), *((part, False) for part in PARTS_INLINE)],
    ids=str,
)
def test_what_a_server_would_fetch_is_noticed(
    part: dict[str, Any], is_remote: bool, nested: bool
) -> None:
    content = [{"type": "tool_result", "content": [part]}] if nested else [part]
    body = {"model": "x", "messages": [{"role": "user", "content": content}]}
    assert features_of({}, body, 10_000).has_remote_url is is_remote


@pytest.mark.parametrize(
    ("body", "unknown"),
    [
        (
            {"messages": [{"content": [{"type": "text"}, {"type": "hologram"}]}]},
            "messages.0.content.1.type: 'hologram'",
        ),
        ({"messages": [{"content": [{"text": "x"}]}]}, "messages.0.content.0.type: nothing"),
        (
            {"messages": [{"content": [{"type": ["text"]}]}]},
            "messages.0.content.0.type: \"['text']\"",
        ),
        ({"input": [{"output": [{"type": "x" * 900}]}]}, f"input.0.output.0.type: '{'x' * 40}'"),
        (
            {"messages": [{"content": [{"type": "tool_result", "content": [{"type": "gif"}]}]}]},
            "messages.0.content.0.content.0.type: 'gif'",
        ),
        ({"input": [{"type": "function_call", "arguments": "{}"}, "text", 7]}, ""),
        ({"messages": [{"content": "text"}], "input": {"content": [{"type": "x"}]}}, ""),
    ],
    ids=str,
)
def test_a_part_of_an_unknown_kind_is_named(body: dict[str, Any], unknown: str) -> None:
    assert features_of({}, body, 1000).unknown_part == unknown

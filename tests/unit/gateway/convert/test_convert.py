"""Between the APIs: what a translation must not lose, and what no answer may do to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llama_halo.gateway.apis import openai_responses
from llama_halo.gateway.convert import (
    anthropic_to_chat,
    chat_to_anthropic,
    chat_to_ollama,
    responses_to_chat,
)
from llama_halo.gateway.convert.tool_calls import ToolCallIndex
from tests.support.conversations import ANTHROPIC, CHAT, PIXEL


def test_a_message_is_a_chat_in_all_that_it_says() -> None:
    assert anthropic_to_chat.request_to_chat(ANTHROPIC) == CHAT


def test_a_chat_is_a_message_in_all_that_it_says() -> None:
    message = chat_to_anthropic.request_to_anthropic(CHAT)
    expected = json.loads(json.dumps(ANTHROPIC))
    expected["system"] = "Be brief."
    del expected["messages"][1]["content"][0]  # a thought is nobody else's
    assert message == expected


def test_a_response_is_a_chat_in_all_that_it_says() -> None:
    chat = responses_to_chat.request_to_chat(
        {
            "model": "m",
            "instructions": "Be brief.",
            "max_output_tokens": 9,
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What is this?"},
                        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
                    ],
                },
                {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"},
                {"type": "function_call", "call_id": "c2", "name": "add", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "3"},
            ],
            "tools": [{"type": "function", "name": "add", "parameters": {}, "strict": True}],
            "tool_choice": {"type": "function", "name": "add"},
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        }
    )
    assert [message["role"] for message in chat["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert [tool_call["id"] for tool_call in chat["messages"][2]["tool_calls"]] == ["c1", "c2"]
    assert chat["messages"][1]["content"] == CHAT["messages"][1]["content"]
    assert chat["max_tokens"] == 9
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert chat["response_format"]["json_schema"] == {"name": "n", "schema": {"type": "object"}}


def test_a_chat_is_ollamas_in_all_that_it_says() -> None:
    chat = chat_to_ollama.request_to_ollama(
        {**CHAT, "chat_template_kwargs": {"enable_thinking": False}}
    )
    assert chat["options"] == {"temperature": 0.5, "num_predict": 9, "stop": ["END"]}
    assert chat["think"] is False
    user, assistant, tool = chat["messages"][1:]
    assert user == {"role": "user", "content": "What is this?", "images": [PIXEL]}
    assert assistant["tool_calls"] == [{"function": {"name": "add", "arguments": {"a": 1}}}]
    assert tool == {"role": "tool", "content": "3", "tool_name": "add"}


def test_a_schema_of_the_answer_reaches_each() -> None:
    schema = {"type": "object"}
    body = {**ANTHROPIC, "output_config": {"format": {"type": "json_schema", "schema": schema}}}
    chat = anthropic_to_chat.request_to_chat(body)
    assert chat["response_format"]["json_schema"]["schema"] == schema
    assert (
        chat_to_anthropic.request_to_anthropic(chat)["output_config"]["format"]["schema"] == schema
    )
    assert chat_to_ollama.request_to_ollama(chat)["format"] == schema


@pytest.mark.parametrize(
    "pieces",
    [
        [{"index": 0, "id": "a"}, {"index": 0}, {"index": 1, "id": "b"}, {"index": 1}],
        [{"index": 0, "id": "a"}, {"index": 0}, {"index": 0, "id": "b"}, {"index": 0}],
        [{"id": "a"}, {}, {"id": "b"}, {}],
        [{"index": 0, "id": "a"}, {"index": 0, "id": "a"}, {"index": 1, "id": "b"}, {"index": 1}],
    ],
)
def test_the_pieces_of_two_calls_are_told_apart_however_a_server_counts(pieces: Any) -> None:
    calls = ToolCallIndex()
    places = [calls.assign(piece) for piece in pieces]
    assert places == [(0, True), (0, False), (1, True), (1, False)]


def test_pictures_of_results_follow_all_results_of_a_turn() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": PIXEL}}
    results = [
        {"type": "tool_result", "tool_use_id": name, "content": [image]} for name in ("a", "b")
    ]
    body = {"model": "m", "messages": [{"role": "user", "content": results}]}
    roles = [message["role"] for message in anthropic_to_chat.request_to_chat(body)["messages"]]
    assert roles == ["tool", "tool", "user"]
    shown = [{"type": "input_image", "image_url": "data:,"}]
    supplied = [
        {"type": "function_call_output", "call_id": name, "output": shown} for name in ("a", "b")
    ]
    items = openai_responses.build_exchange({"model": "m", "input": supplied}).body["input"]
    assert [item["type"] for item in items] == [*["function_call_output"] * 2, "message"]

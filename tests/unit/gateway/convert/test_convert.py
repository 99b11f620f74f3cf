"""Between the APIs: what a translation must not lose, and what no answer may do to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_halo.contract.gateway_config import ProviderConfig
from llama_halo.gateway.apis import anthropic, ollama, openai_chat, openai_responses
from llama_halo.gateway.apis.upstream_request import UpstreamRequest
from llama_halo.gateway.convert import (
    anthropic_to_chat,
    chat_to_anthropic,
    chat_to_ollama,
    responses_to_chat,
)
from llama_halo.gateway.convert.common import ToolCallIndex
from llama_halo.gateway.dispatch.encode import EncodedRequest, encode_request
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.http.sse import encode
from llama_halo.gateway.models.model import Model

Json = dict[str, Any]
PROTOCOLS = ("OpenAI", "Anthropic", "Ollama")
PIXEL = "iVBORw0KGgo="
ANTHROPIC: Json = {
    "model": "m",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "Be brief."}],
    "stop_sequences": ["END"],
    "temperature": 0.5,
    "tools": [{"name": "add", "description": "Add.", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "3"}],
        },
    ],
}
CHAT: Json = {
    "model": "m",
    "max_tokens": 9,
    "temperature": 0.5,
    "stop": ["END"],
    "tools": [
        {
            "type": "function",
            "function": {"name": "add", "parameters": {"type": "object"}, "description": "Add."},
        }
    ],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            ],
        },
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {
                    "id": "toolu_1",
                    "type": "function",
                    "function": {"name": "add", "arguments": '{"a": 1}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "3"},
    ],
}


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
    ("base", "path"),
    [
        ("https://api.example.com", "/v1/messages"),
        ("https://api.example.com/", "/v1/messages"),
        ("https://api.example.com/v1", "/messages"),
        ("https://api.example.com/v1/", "/messages"),
    ],
)
def test_the_version_is_in_an_anthropic_address_once(base: str, path: str) -> None:
    provider = ProviderConfig(name="p", protocol="Anthropic", base_url=base)
    model = Model("p/m", base, True, "Elsewhere", provider=provider)
    assert (
        encode_request(
            model,
            UpstreamRequest(
                "/v1/messages", native_path="/v1/messages", client_body={"messages": []}
            ),
            "",
        ).path
        == path
    )


def test_a_server_of_chats_alone_is_sent_no_words_of_llama_server() -> None:
    options = {"num_keep": 3, "repeat_penalty": 1.1, "top_k": 4, "temperature": 0.5}
    chat = {"model": "m", "messages": [{"role": "user", "content": "x"}], "think": True}
    exchange = ollama.chat({**chat, "options": options})
    sent = to(
        "OpenAI", UpstreamRequest(exchange.path, exchange.body, native_path=exchange.native_path)
    ).body
    names = {"model", "messages", "temperature", "stream", "stream_options"}
    assert set(sent) == names
    assert sent["model"] == "theirs"


def test_a_server_of_the_clients_own_api_is_sent_the_clients_own_words() -> None:
    supplied = {
        **CHAT,
        "top_k": 4,
        "tool_choice": {"type": "function", "function": {"name": "add"}},
    }
    exchange = openai_chat.build_exchange(supplied)
    sent = to(
        "OpenAI",
        UpstreamRequest(
            exchange.path, exchange.body, native_path=exchange.native_path, client_body=supplied
        ),
    ).body
    whole = {"model": "theirs", "stream": True, "stream_options": {"include_usage": True}}
    assert sent == {**supplied, **whole}


async def test_a_schema_for_an_anthropic_server_is_asked_in_the_clients_own_words() -> None:
    form = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    supplied = {**ANTHROPIC, "output_config": form, "thinking": {"type": "adaptive"}}
    exchange = anthropic.build_exchange(supplied)
    sent = to(
        "Anthropic",
        UpstreamRequest(
            exchange.path, exchange.body, native_path=exchange.native_path, client_body=supplied
        ),
    )
    signed = chat_to_anthropic.drop_unsigned_thinking(supplied["messages"])
    assert "hm" not in str(signed), "a thought that nobody signed is refused there"
    assert sent.body == {**supplied, "messages": signed, "model": "theirs", "stream": True}
    lines = [
        encode({"type": "message_start", "message": {"usage": {"input_tokens": 4}}}),
        encode({"type": "content_block_delta", "index": 0, "delta": {"text": "{}"}}),
        encode({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
        encode({"type": "message_stop"}),
    ]
    answer = await exchange.collect(sent.read(_pieces(lines)))
    assert answer["content"] == [{"type": "text", "text": "{}"}]
    assert answer["usage"]["input_tokens"] == 4


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


async def test_two_calls_of_one_index_and_a_stop_are_two_calls() -> None:
    def piece(number: str) -> Json:
        call = {"index": 0, "id": number, "function": {"name": "add", "arguments": "{}"}}
        return {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}

    events: list[Any] = [piece("a"), piece("b")]
    events += [{"choices": [{"delta": {}, "finish_reason": "stop"}]}, "[DONE]"]
    lines = [encode(event) for event in events]
    for built in (
        anthropic.build_exchange(ANTHROPIC),
        openai_responses.build_exchange({"model": "m", "input": "x"}),
    ):
        read = to("OpenAI", UpstreamRequest(built.path, built.body)).read(_pieces(lines))
        answer = await built.collect(read)
        content = answer.get("content") or answer["output"]
        assert [block.get("call_id") or block["id"] for block in content] == ["a", "b"]
        assert answer.get("stop_reason", "tool_use") == "tool_use"


def test_openais_own_servers_are_told_the_length_by_its_newer_name() -> None:
    url = "https://api.openai.com/v1"
    provider = ProviderConfig(name="p", protocol="OpenAI", base_url=url)
    exchange = anthropic.build_exchange(ANTHROPIC)
    sent = encode_request(
        Model("p/m", url, True, "x", provider=provider),
        UpstreamRequest(exchange.path, exchange.body),
        "",
    )
    assert sent.body["max_completion_tokens"] == 9
    assert "max_tokens" not in sent.body


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
    items = openai_responses.upstream_body({"model": "m", "input": supplied})["input"]
    assert [item["type"] for item in items] == [*["function_call_output"] * 2, "message"]


def to(protocol: Any, upstream_request: UpstreamRequest) -> EncodedRequest:
    provider = ProviderConfig(name="p", protocol=protocol, base_url="http://p")
    return encode_request(
        Model("p/m", "http://p", True, "x", provider=provider, provider_name="theirs"),
        upstream_request,
        "key",
    )


NAMES = st.sampled_from(
    [
        *("type", "index", "delta", "content", "text", "message", "choices", "usage", "error"),
        *(
            "tool_calls",
            "function",
            "arguments",
            "name",
            "id",
            "partial_json",
            "thinking",
            "done",
        ),
        *("content_block", "finish_reason", "output_tokens", "stop_reason", "input_tokens"),
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=15,
)
KINDS = st.sampled_from(
    [
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop", "error", "response.completed", "x"),
    ]
)
TYPED = st.builds(lambda data, kind: {**data, "type": kind}, st.dictionaries(NAMES, JSON), KINDS)
CHUNKS = st.builds(
    lambda delta, more: {"choices": [{"index": 0, "delta": delta, **more}]},
    st.dictionaries(NAMES, JSON),
    st.dictionaries(NAMES, JSON, max_size=2),
)
EVENT = st.one_of(JSON, TYPED, CHUNKS, st.just("[DONE]"))


@settings(max_examples=200)
@given(st.lists(EVENT, max_size=6), st.sampled_from(PROTOCOLS), st.booleans())
async def test_whatever_a_server_answers_is_an_answer_or_a_failure(
    events: list[Any], protocol: str, whole: bool
) -> None:
    lines = [encode(event, "x" if number % 2 else "") for number, event in enumerate(events)]
    if protocol == "Ollama":
        lines = [json.dumps(event).encode() + b"\n" for event in events]
    for built in (
        anthropic.build_exchange({**ANTHROPIC}),
        openai_chat.build_exchange({**CHAT}),
        openai_responses.build_exchange({"model": "m", "input": "x"}),
        ollama.chat({"model": "m", "messages": [{"role": "user", "content": "x"}]}),
    ):
        read = to(protocol, UpstreamRequest(built.path, built.body)).read(_pieces(lines))
        try:
            if whole:
                json.dumps(await built.collect(read))
            else:
                assert all([isinstance(chunk, bytes) async for chunk in built.stream(read)])
        except Failure:
            continue


async def _pieces(lines: Iterable[bytes]) -> AsyncIterator[bytes]:
    for line in lines:
        yield line

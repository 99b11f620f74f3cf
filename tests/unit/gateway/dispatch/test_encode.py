"""What a provider is sent, and what its answer becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_halo.contract.gateway_config import ProviderConfig
from llama_halo.gateway.apis import anthropic, ollama, openai_chat, openai_responses
from llama_halo.gateway.apis.upstream_request import UpstreamRequest
from llama_halo.gateway.convert import (
    chat_to_anthropic,
)
from llama_halo.gateway.dispatch.encode import encode_request
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.http.sse import encode
from llama_halo.gateway.models.model import Model
from tests.support.conversations import ANTHROPIC, CHAT, Json, pieces_of, to

PROTOCOLS = ("OpenAI", "Anthropic", "Ollama")


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
        encode({"type": "content_block_start", "index": 0, "content_block": {"type": "text"}}),
        encode(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": "{}"},
            }
        ),
        encode({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
        encode({"type": "message_stop"}),
    ]
    answer = await exchange.collect(sent.read(pieces_of(lines)))
    assert answer["content"] == [{"type": "text", "text": "{}"}]
    assert answer["usage"]["input_tokens"] == 4


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
        read = to("OpenAI", UpstreamRequest(built.path, built.body)).read(pieces_of(lines))
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
        read = to(protocol, UpstreamRequest(built.path, built.body)).read(pieces_of(lines))
        try:
            if whole:
                json.dumps(await built.collect(read))
            else:
                assert all([isinstance(chunk, bytes) async for chunk in built.stream(read)])
        except Failure:
            continue


def test_a_client_chooses_no_slot_of_a_model() -> None:
    body = {"model": "m", "messages": [], "id_slot": 1, "cache_prompt": True}
    sent = encode_request(Model("m", "http://m", True, "Serving"), UpstreamRequest("/x", body), "")
    assert sent.body == {"model": "m", "messages": [], "cache_prompt": True}
    assert body["id_slot"] == 1, "what another target is sent is its own"

"""What other APIs become on the way to llama-server, and what its events become on the way back."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llama_halo.contract.gateway_config import ProviderConfig
from llama_halo.gateway.apis import (
    anthropic,
    ollama,
    openai_chat,
    openai_completions,
    openai_responses,
)
from llama_halo.gateway.apis.client_api import ANTHROPIC, OLLAMA, OPENAI, RESPONSES
from llama_halo.gateway.apis.exchange import ApiExchange
from llama_halo.gateway.apis.system_messages import fold_system
from llama_halo.gateway.apis.upstream_request import UpstreamRequest
from llama_halo.gateway.convert.turns import join_text
from llama_halo.gateway.dispatch.encode import encode_request
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.http.sse import SseEvent
from llama_halo.gateway.models.model import Model
from llama_halo.gateway.routing.features import features_of
from llama_halo.gateway.routing.sessions import session_of

Json = dict[str, Any]


async def upstream(*values: Any) -> AsyncIterator[SseEvent]:
    for value in values:
        yield SseEvent.of(value)


async def streamed(built: ApiExchange, *values: Any) -> list[bytes]:
    return [chunk async for chunk in built.stream(upstream(*values))]


def delta(text: str = "", **more: Any) -> Json:
    return {"choices": [{"index": 0, "delta": {"content": text, **more}, "finish_reason": None}]}


def user(content: Any = "hi", **more: Any) -> Json:
    return {"role": "user", "content": content, **more}


LAST: Json = {
    "choices": [],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    "timings": {"prompt_ms": 2.5, "predicted_ms": 4.0},
}
END: Json = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


class TestOllama:
    def test_a_chat_becomes_a_chat(self) -> None:
        body = {
            "model": "coder",
            "messages": [user("look", images=["iVBORw0"]), user("x")],
            "options": {"num_predict": 5, "num_ctx": 131072, "temperature": 0.5, "num_gpu": 99},
            "format": {"type": "object"},
            "think": "high",
            "keep_alive": -1,
        }
        exchange = ollama.chat(body)
        assert exchange.path == "/v1/chat/completions"
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0"}}
        assert exchange.body["messages"][0]["content"] == [
            {"type": "text", "text": "look"},
            picture,
            {"type": "text", "text": "x"},
        ]
        message = ("max_tokens", "temperature", "reasoning_effort", "chat_template_kwargs")
        assert [exchange.body[message] for message in message] == [
            5,
            0.5,
            "high",
            {"enable_thinking": True},
        ]
        assert exchange.body["response_format"]["json_schema"]["schema"] == {"type": "object"}
        assert not {"num_ctx", "num_gpu", "keep_alive", "options", "format"} & exchange.body.keys()
        assert exchange.streams, "Ollama streams unless told not to"

    def test_results_get_the_numbers_of_their_calls(self) -> None:
        call = {"function": {"name": "add", "arguments": {"a": 1}}}
        other = {"function": {"name": "sub", "arguments": {}}}
        messages = [
            user(),
            {"role": "assistant", "content": "", "tool_calls": [call, other]},
            {"role": "tool", "content": "2", "tool_name": "sub"},
            {"role": "tool", "content": "1"},
        ]
        value = ollama.chat({"model": "m", "messages": messages}).body["messages"]
        numbers = [tool_call["id"] for tool_call in value[1]["tool_calls"]]
        assert len(set(numbers)) == 2
        assert [item["tool_call_id"] for item in value[2:]] == [numbers[1], numbers[0]]
        assert value[1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'

    async def test_a_stream_is_lines_with_whole_calls_and_counts_at_the_end(self) -> None:
        exchange = ollama.chat({"model": "coder", "messages": [user()]})
        first = {"index": 0, "id": "c1", "function": {"name": "add", "arguments": '{"a"'}}
        rest = {"index": 0, "function": {"arguments": ": 1}"}}
        values = (
            delta("", reasoning_content="hm"),
            delta("2"),
            delta("", tool_calls=[first]),
            delta("", tool_calls=[rest]),
            END,
            LAST,
            "[DONE]",
        )
        lines = [json.loads(chunk) for chunk in await streamed(exchange, *values)]
        assert [line["done"] for line in lines] == [False, False, False, True]
        assert lines[0]["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
        assert lines[1]["message"]["content"] == "2"
        (call,) = lines[2]["message"]["tool_calls"]
        assert call["function"] == {"index": 0, "name": "add", "arguments": {"a": 1}}
        assert lines[3]["done_reason"] == "stop"
        assert lines[3]["prompt_eval_count"] == 7
        assert lines[3]["eval_count"] == 3
        assert lines[3]["prompt_eval_duration"] == 2_500_000
        assert lines[3]["total_duration"] == 6_500_000
        whole = await exchange.collect(upstream(*values))
        assert whole["message"]["content"] == "2"
        assert whole["message"]["tool_calls"] == lines[2]["message"]["tool_calls"]
        assert whole["done"]

    def test_a_prompt_is_a_chat_or_plain_or_fills_a_gap(self) -> None:
        chat = ollama.generate({"model": "m", "prompt": "a", "system": "s", "images": ["R0lGOD"]})
        assert [message["role"] for message in chat.body["messages"]] == ["system", "user"]
        assert "data:image/gif" in str(chat.body["messages"])
        raw = ollama.generate({"model": "m", "prompt": "a", "raw": True, "stream": False})
        assert (raw.path, raw.body["prompt"], raw.streams) == ("/v1/completions", "a", False)
        gap = ollama.generate({"model": "m", "prompt": "a", "suffix": "b"})
        assert (gap.path, gap.body["input_suffix"]) == ("/infill", "b")

    async def test_what_fills_a_gap_comes_in_llama_servers_own_words(self) -> None:
        exchange = ollama.generate({"model": "m", "prompt": "a", "suffix": "b"})
        ending = {"content": "", "stop": True, "tokens_evaluated": 2, "tokens_predicted": 1}
        lines = [json.loads(block) for block in await streamed(exchange, {"content": "x"}, ending)]
        assert lines[0]["response"] == "x"
        assert (lines[1]["done"], lines[1]["eval_count"]) == (True, 1)

    @pytest.mark.parametrize(
        ("path", "body", "reason"),
        [
            ("/api/chat", {"messages": []}, "load"),
            ("/api/chat", {"messages": [], "keep_alive": 0}, "unload"),
            ("/api/generate", {}, "load"),
            ("/api/generate", {"prompt": "", "keep_alive": "0"}, "unload"),
            ("/api/chat", {"messages": [user()]}, None),
            ("/api/generate", {"prompt": "x"}, None),
            ("/v1/messages", {}, None),
        ],
    )
    def test_to_load_and_unload_is_the_operators(
        self, path: str, body: Json, reason: str | None
    ) -> None:
        without_prompt = ollama.without_prompt(path, {"model": "m", **body})
        assert (without_prompt and without_prompt["done_reason"]) == reason

    def test_embeddings_have_length_one_and_the_older_route_one_vector(self) -> None:
        answer = {"data": [{"embedding": [3.0, 4.0]}], "usage": {"prompt_tokens": 2}}
        embedded = ollama.embedded(answer, {"model": "m"}, "/api/embed")
        assert embedded["embeddings"] == [[0.6, 0.8]]
        old = ollama.embedded(answer, {"model": "m"}, "/api/embeddings")
        assert old == {"embedding": [3.0, 4.0]}


class TestResponses:
    def test_items_and_tools_that_llama_server_does_not_know_are_left_out(self) -> None:
        function = {"type": "function", "name": "shell", "parameters": {}}
        body = {
            "model": "coder",
            "instructions": "Be brief.",
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "input": [
                {"type": "message", "role": "developer", "content": "One."},
                {"role": "developer", "content": [{"type": "input_text", "text": "Two."}]},
                {"role": "user", "content": "hi"},
                {"type": "reasoning", "encrypted_content": "xyz", "summary": []},
                {"type": "function_call", "call_id": "c", "name": "shell", "arguments": "{}"},
                {"type": "custom_tool_call", "call_id": "d", "name": "patch", "input": "p"},
                {"type": "custom_tool_call_output", "call_id": "d", "output": "ok"},
                {"type": "web_search_call", "id": "w"},
                {"role": "system", "content": "late"},
            ],
            "tools": [
                {"type": "web_search"},
                {"type": "namespace", "name": "mcp", "tools": [function]},
                {"type": "custom", "name": "patch"},
            ],
        }
        upstream_body = openai_responses.build_exchange(body).body
        assert upstream_body["instructions"] == "Be brief.\n\nOne.\n\nTwo."
        kinds = [input_item.get("type", "message") for input_item in upstream_body["input"]]
        assert kinds == [
            *("message", "function_call", "function_call", "function_call_output", "message")
        ]
        assert upstream_body["input"][-1]["role"] == "user"
        patch = upstream_body["tools"][1]
        assert upstream_body["tools"] == [{**function, "name": "mcp__shell"}, patch]
        assert (patch["name"], patch["parameters"]["required"]) == ("patch", ["input"])
        assert not {"store", "include"} & upstream_body.keys()

    def test_what_is_kept_nowhere_is_refused(self) -> None:
        with pytest.raises(Failure, match="previous_response_id"):
            openai_responses.validate({"model": "m", "input": "x", "previous_response_id": "r"})
        for wrong in ({"model": "m"}, {"model": "m", "input": [1]}, {"input": "x"}):
            with pytest.raises(Failure):
                openai_responses.validate(wrong)

    async def test_events_are_numbered_and_name_the_model_that_was_asked_for(self) -> None:
        exchange = openai_responses.build_exchange({"model": "gpt-5", "input": "x", "stream": True})
        item = {"id": "m1", "type": "message"}
        values = (
            {"type": "response.created", "response": {"model": "smollm2"}},
            {"type": "response.output_item.added", "item": item},
            {"type": "response.output_text.delta", "item_id": "m1", "delta": "4"},
            {"type": "response.completed", "response": {"model": "smollm2", "output": [item]}},
        )
        value = [
            json.loads(chunk.split(b"data: ")[1]) for chunk in await streamed(exchange, *values)
        ]
        assert [item["sequence_number"] for item in value] == [0, 1, 2, 3]
        assert value[2]["output_index"] == value[2]["content_index"] == 0
        assert value[0]["response"]["model"] == value[3]["response"]["model"] == "gpt-5"
        assert (await exchange.collect(upstream(*values)))["output"] == [item]

    async def test_a_stream_that_is_cut_fails(self) -> None:
        exchange = openai_responses.build_exchange({"model": "m", "input": "x"})
        with pytest.raises(Failure):
            await streamed(exchange, {"type": "response.created", "response": {}})
        with pytest.raises(Failure):
            await exchange.collect(upstream({"type": "response.created", "response": {}}))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 400, "message": "x"}, 400),
        ({"code": 429, "message": "x"}, 429),
        ({"code": 20015, "message": "x"}, 500),
        ({"code": 200, "message": "x"}, 500),
        ({"code": 401, "message": "x"}, 502),
        ({"code": "insufficient_quota"}, 500),
        ("out of order", 500),
    ],
)
async def test_an_error_in_a_stream_has_a_status_of_ours(error: Any, status: int) -> None:
    exchange = openai_chat.build_exchange({"model": "m", "messages": [user()]})
    with pytest.raises(Failure) as value:
        await exchange.collect(upstream(delta("x"), {"error": error}))
    assert value.value.status == status


@pytest.mark.parametrize(
    ("given_roles", "roles"),
    [
        (["system", "user"], ["user"]),
        (["system", "system", "user"], ["user"]),
        (["user", "system", "user"], ["user"]),
        (["user", "assistant", "system"], ["user", "assistant", "user"]),
        (["user", "system", "assistant", "user"], ["user", "assistant", "user"]),
        (["user", "user"], ["user"]),
        (["user", "assistant", "assistant"], ["user", "assistant"]),
    ],
)
def test_no_system_message_is_left_inside_the_messages_of_anthropic(
    given_roles: list[str], roles: list[str]
) -> None:
    messages = [{"role": role, "content": f"<{n}>"} for n, role in enumerate(given_roles)]
    body = {"model": "m", "max_tokens": 9, "messages": messages}
    folded = anthropic.upstream_body(body)["messages"]
    assert [message["role"] for message in folded] == roles
    assert all(f"<{n}>" in str(folded) for n in range(len(given_roles)))


class TestOpenAI:
    @pytest.mark.parametrize(
        ("given_roles", "roles"),
        [
            (["developer", "user"], ["system", "user"]),
            (["system", "developer", "user"], ["system", "user"]),
            (["user", "system", "assistant"], ["user", "assistant"]),
            (["user", "system", "user"], ["user"]),
            (["system", "user", "developer"], ["system", "user"]),
            (["user", "assistant", "system", "user"], ["user", "assistant", "user"]),
            (["user", "assistant", "system"], ["user", "assistant", "user"]),
            (["user", "assistant", "user", "user"], ["user", "assistant", "user", "user"]),
        ],
    )
    def test_one_system_message_stays_and_is_first(
        self, given_roles: list[str], roles: list[str]
    ) -> None:
        messages = [{"role": role, "content": f"<{n}>"} for n, role in enumerate(given_roles)]
        folded = fold_system(messages, join_text, keeps_first=True)
        assert [message["role"] for message in folded] == roles
        assert all(f"<{n}>" in str(folded) for n in range(len(given_roles)))

    async def test_a_completion_in_one_piece_is_all_of_its_stream(self) -> None:
        exchange = openai_completions.build_exchange({"model": "m", "prompt": "x"})
        first, second = ({"choices": [{"index": 0, "text": name}]} for name in ("a", "b"))
        ending = {"choices": [{"index": 0, "text": "", "finish_reason": "length"}], "id": "1"}
        collect = await exchange.collect(upstream(first, second, ending, LAST, "[DONE]"))
        assert collect["choices"][0]["text"] == "ab"
        assert collect["choices"][0]["finish_reason"] == "length"
        assert collect["usage"]["completion_tokens"] == 3


class TestAnthropic:
    def test_results_come_before_what_else_the_user_says(self) -> None:
        result = {"type": "tool_result", "tool_use_id": "t", "content": "4"}
        text = {"type": "text", "text": "go on"}
        body = {"model": "m", "messages": [user([text, result]), user([result])]}
        messages = anthropic.upstream_body(body)["messages"]
        assert [message["content"] for message in messages] == [[result, result], [text]]

    def test_of_the_tools_only_the_one_that_is_wanted_is_offered(self) -> None:
        tools = [{"name": name, "input_schema": {}} for name in ("read", "write")]
        choice = {"type": "tool", "name": "write"}
        body = {"model": "m", "messages": [user()], "tools": tools, "tool_choice": choice}
        assert anthropic.upstream_body(body)["tools"] == tools[1:]

    async def test_a_stop_sequence_is_told_as_one(self) -> None:
        exchange = anthropic.build_exchange(
            {"model": "m", "messages": [user()], "stop_sequences": ["e"]}
        )
        values = (
            {"type": "message_start", "message": {"content": []}},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": "e"},
                "usage": {"output_tokens": 1},
            },
            {"type": "message_stop"},
        )
        collect = await exchange.collect(upstream(*values))
        assert (collect["stop_reason"], collect["stop_sequence"]) == ("stop_sequence", "e")


@pytest.mark.parametrize("api", [ANTHROPIC, OPENAI, RESPONSES, OLLAMA], ids=lambda api: api.name)
def test_each_api_has_its_own_words_for_what_went_wrong(api: Any) -> None:
    failure = Failure(503, "the model loads", code="model_loading")
    whole, line = api.error(failure, "req_1"), api.stream_error(failure, "req_1")
    assert "the model loads" in json.dumps(whole)
    assert b"the model loads" in line
    assert line.endswith(b"\n")


PLACE = re.compile(r"(messages|input|tools)\.\d|[a-z_]+: |provider ")
NAMES = st.sampled_from(
    [
        *("type", "role", "content", "text", "messages", "tools", "input", "function", "name"),
        *(
            "tool_calls",
            "images",
            "options",
            "think",
            "format",
            "system",
            "tool_choice",
            "prompt",
        ),
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


BLOCKS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "tool_result", "tool_use", "image", "message", "reasoning"])},
    optional={name: JSON for name in ("text", "content", "source", "role", "tools", "input")},
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "developer", "tool"])},
    optional={
        "content": JSON | st.lists(BLOCKS, max_size=3),
        "type": st.sampled_from(["message", "function_call", "custom_tool_call"]),
        **{name: JSON for name in ("tool_calls", "images", "thinking", "tool_name")},
    },
)
BODIES = st.fixed_dictionaries(
    {"model": st.sampled_from(["m", "claude-haiku"])},
    optional={
        "messages": JSON | st.lists(MESSAGES, max_size=4),
        "input": JSON | st.lists(MESSAGES, max_size=4),
        "prompt": JSON | st.text(max_size=3),
        "tools": JSON | st.lists(BLOCKS, max_size=3),
        **{
            name: JSON
            for name in (
                *("system", "tool_choice", "thinking", "options", "format", "think", "stream"),
                *("instructions", "metadata", "user", "stream_options", "output_config", "suffix"),
            )
        },
    },
)


ELSEWHERE = [
    Model("p/m", "http://p", True, "Elsewhere", provider=provider, provider_name="theirs")
    for provider in (
        ProviderConfig(name="p", protocol=protocol, base_url="http://p")
        for protocol in ("OpenAI", "Anthropic", "Ollama")
    )
]


NO_ID = [{"role": "user", "type": "custom_tool_call", "content": []}, {"role": "tool"}]
"""A call and its result, neither of which has an id."""


@settings(max_examples=400)
@given(BODIES)
@example({"model": "m", "messages": [None], "input": NO_ID})
def test_whatever_is_sent_becomes_a_request_or_a_refusal(body: Json) -> None:
    """Each parser, with JSON of the right words in the wrong places."""
    assert session_of({}, body)
    features_of({}, body, 100)
    for validate, make in (
        (anthropic.validate, anthropic.build_exchange),
        (openai_chat.validate, openai_chat.build_exchange),
        (openai_completions.validate, openai_completions.build_exchange),
        (openai_responses.validate, openai_responses.build_exchange),
        (ollama.validate_chat, ollama.chat),
        (ollama.validate_prompt, ollama.generate),
    ):
        try:
            checked = validate(body)
            if ollama.without_prompt("/api/chat", checked):
                continue
            if make is anthropic.build_exchange:
                _, checked = anthropic.take_tag(checked)
            exchange = make(checked)
            json.dumps(exchange.body)
            for model in ELSEWHERE:
                upstream_request = UpstreamRequest(
                    exchange.path, exchange.body, client_body=checked
                )
                try:
                    json.dumps(encode_request(model, upstream_request, "key").body)
                except Failure as failure:
                    assert failure.status == 400
                    assert re.match(PLACE, failure.message)
        except Failure as failure:
            assert 400 <= failure.status < 500

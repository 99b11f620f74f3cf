"""Answers of any shape end in a `Failure`, in every API and from every kind of server.

Any other exception is a mistake of the gateway's, and the client would be told so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llama_halo.gateway.apis import (
    anthropic,
    ollama,
    openai_chat,
    openai_completions,
    openai_responses,
)
from llama_halo.gateway.apis.client_api import OPENAI
from llama_halo.gateway.apis.exchange import ApiExchange
from llama_halo.gateway.convert import (
    anthropic_to_chat,
    chat_to_anthropic,
    chat_to_ollama,
    responses_to_chat,
)
from llama_halo.gateway.http import answers
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.http.json_codec import dumps
from llama_halo.gateway.http.sse import SseEvent
from llama_halo.gateway.request_record import RequestRecord

Json = dict[str, Any]
MESSAGES = [{"role": "user", "content": "hi"}]
EXCHANGES: dict[str, ApiExchange] = {
    "anthropic": anthropic.build_exchange({"model": "m", "max_tokens": 9, "messages": MESSAGES}),
    "chat": openai_chat.build_exchange({"model": "m", "messages": MESSAGES}),
    "completions": openai_completions.build_exchange({"model": "m", "prompt": "hi"}),
    "responses": openai_responses.build_exchange({"model": "m", "input": "hi"}),
    "ollama": ollama.chat({"model": "m", "messages": MESSAGES}),
    "infill": ollama.generate({"model": "m", "prompt": "a", "suffix": "b"}),
}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "input_tokens": 7, "output_tokens": 3}
CALL = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
CHUNKS: list[Any] = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}, "text": "a"}]},
    {"choices": [{"index": 0, "delta": {"reasoning_content": "t", "tool_calls": [CALL]}}]},
    {
        "choices": [
            {"delta": {}, "finish_reason": "stop", "logprobs": {"content": [{"token": "a"}]}}
        ]
    },
    {"choices": [], "usage": USAGE, "timings": {"prompt_ms": 2.5, "predicted_ms": 4}},
    {"content": "a", "stop": True, "tokens_evaluated": 3, "tokens_predicted": 4},
    {"error": {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8}},
]
TEXT = {"type": "text", "text": ""}
EVENTS: list[Any] = [
    {"type": "message_start", "message": {"id": "x", "content": [], "usage": USAGE}},
    {"type": "content_block_start", "index": 0, "content_block": TEXT},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "c"}},
    {"type": "content_block_delta", "index": 1}
    | {"delta": {"type": "input_json_delta", "partial_json": "{"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE},
    {"type": "message_stop"},
    {"type": "response.output_text.delta", "item_id": "i", "item": {"id": "i"}},
    {"type": "response.completed", "response": {"output": [], "usage": USAGE}},
    {"type": "error", "error": {"code": 503, "message": "no"}},
]
LINES: list[Any] = [
    {"message": {"content": "a", "thinking": "t", "tool_calls": [{"function": {"name": "f"}}]}},
    {"done": True, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 3},
]
NUMBERS = st.sampled_from([0, -1, 7, 999, 1000, 2**53, 2**70, 10**400, 1.5, 1e300])
ANY = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """Return a value in which any part may be replaced or missing."""
    if draw(st.integers(0, 9)) == 0:
        return draw(ANY)
    if isinstance(value, dict):
        kept = {name: part for name, part in value.items() if draw(st.integers(0, 9))}
        return {name: draw(mutated(part)) for name, part in kept.items()}
    if isinstance(value, list):
        return [draw(mutated(part)) for part in value for _ in range(draw(st.integers(0, 2)))]
    return value


def streams(values: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values).flatmap(mutated), max_size=8)


async def upstream(values: list[Any]) -> AsyncIterator[SseEvent]:
    for value in values:
        yield SseEvent(b"data: " + json.dumps(value).encode())
    yield SseEvent.of("[DONE]")


async def lines(values: list[Any]) -> AsyncIterator[bytes]:
    for value in values:
        yield json.dumps(value).encode() + b"\n"


async def answer(exchange: ApiExchange, source: Callable[[], AsyncIterator[SseEvent]]) -> None:
    """Stream and collect an answer, as an endpoint does."""
    for _ in range(2):
        record = RequestRecord(OPENAI)
        with suppress(Failure):
            async for _chunk in exchange.stream(record.count_tokens(source())):
                pass
        with suppress(Failure):
            dumps(await exchange.collect(record.count_tokens(source())))
        assert record.usage.prompt + record.usage.answer + record.usage.cached < 2**56


@pytest.mark.parametrize("api", EXCHANGES)
@given(values=streams([*CHUNKS, *EVENTS]))
@example(values=[{"type": "message_start", "message": "x"}])
@example(values=[{"type": "content_block_delta", "index": 3, "delta": {"text": "a"}}])
@example(values=[{"choices": [{"delta": {"tool_calls": [{"index": 10**9}]}}]}])
@example(values=[{"choices": [{"index": [], "delta": {}}]}])
@example(values=[{"usage": {"prompt_tokens": 10**4000}}, {"usage": {"completion_tokens": 10**400}}])
@example(values=[{"timings": {"prompt_ms": 10**400}}])
@settings(max_examples=100)
def test_a_model_server_may_answer_anything(api: str, values: list[Any]) -> None:
    asyncio.run(answer(EXCHANGES[api], lambda: upstream(values)))


@pytest.mark.parametrize("api", ["anthropic", "chat", "responses"])
@given(chunks=streams(CHUNKS), messages=streams(EVENTS), ollamas=streams(LINES))
@example(chunks=[], messages=[{**EVENTS[3], "index": []}, {**EVENTS[4], "index": {}}], ollamas=[])
@settings(max_examples=60)
def test_a_provider_may_answer_anything(
    api: str, chunks: list[Any], messages: list[Any], ollamas: list[Any]
) -> None:
    convert: Callable[[Any], AsyncIterator[SseEvent]] = {
        "anthropic": anthropic_to_chat.events_to_anthropic,
        "chat": lambda chat: chat,
        "responses": responses_to_chat.events_to_responses,
    }[api]
    for source in (
        lambda: upstream(chunks),
        lambda: chat_to_anthropic.events_to_chat(upstream(messages)),
        lambda: chat_to_ollama.events_to_chat(lines(ollamas), "p"),
    ):
        asyncio.run(answer(EXCHANGES[api], lambda source=source: convert(source())))  # type: ignore[misc]


@given(value=mutated({"data": [{"embedding": [1.0, 2]}], "usage": {"prompt_tokens": 3}}))
@example(value={"data": [{"embedding": [10**400]}]})
def test_a_server_may_embed_anything(value: Any) -> None:
    for path in ("/api/embed", "/api/embeddings"):
        with suppress(Failure):
            dumps(ollama.embedded(value if isinstance(value, dict) else {}, {"model": "m"}, path))


def test_a_failure_says_what_is_wrong_and_quotes_nothing() -> None:
    with pytest.raises(Failure, match="invalid answer: text is a object") as raised:
        answers.choices({"choices": [{"text": {"secret": "words"}}]})
    assert raised.value.status == 502
    assert "words" not in raised.value.message


def test_calls_without_number_are_bounded() -> None:
    call = {"id": "", "function": {"name": "f"}}
    chunks = [
        {"choices": [{"delta": {"tool_calls": [{**call, "id": str(n)}]}}]} for n in range(1100)
    ]
    exchange = EXCHANGES["anthropic"]

    async def collect() -> Json:
        return await exchange.collect(anthropic_to_chat.events_to_anthropic(upstream(chunks)))

    with pytest.raises(Failure, match="more than 1000 tool calls"):
        asyncio.run(collect())

"""The OpenAI Completions API over llama-server's own route."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from llama_halo.gateway.apis.exchange import ApiExchange
from llama_halo.gateway.apis.openai_chat import DONE, HEARTBEAT, until_done, wants_usage
from llama_halo.gateway.apis.validation import validate_model
from llama_halo.gateway.http import answers
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.http.sse import SseEvent, encode

Json = dict[str, Any]
PATH = "/v1/completions"


def validate(body: Any) -> Json:
    """Return the body; raises `Failure` (400) for what llama-server would answer with 500."""
    request = validate_model(body)
    if not isinstance(request.get("prompt"), (str, list)):
        raise Failure(400, "prompt: a string or a list is required")
    return request


def build_exchange(body: Json) -> ApiExchange:
    """Return the exchange of a `/v1/completions` request."""
    model, usage = body["model"], wants_usage(body)
    return ApiExchange(
        path=PATH,
        body={**body, "stream": True, "stream_options": {"include_usage": True}},
        streams=bool(body.get("stream")),
        stream=lambda events: stream(events, model=model, usage=usage),
        collect=lambda events: collect(events, model=model),
        heartbeat=HEARTBEAT,
        native_path=PATH,
    )


async def stream(
    upstream: AsyncIterable[SseEvent], *, model: str, usage: bool
) -> AsyncIterator[bytes]:
    """Yield the client's chunks.

    Raises `Failure` for an error chunk, and when the stream ends early.
    """
    async for data in until_done(upstream):
        if data.get("choices") or usage:
            yield encode({**data, "model": model})
    yield encode(DONE)


async def collect(upstream: AsyncIterable[SseEvent], *, model: str) -> Json:
    """Assemble the chunks into one object; raises `Failure` like `stream`."""
    answer: Json = {}
    choices: dict[int, Json] = {}
    async for data in until_done(upstream):
        for chunk in answers.choices(data):
            index = answers.index_of(chunk, 0)
            choice = choices.setdefault(index, {**chunk, "text": "", "logprobs": None})
            choice["text"] += chunk.get("text") or ""
            choice["logprobs"] = _together(choice.get("logprobs"), chunk.get("logprobs"))
            choice["finish_reason"] = chunk.get("finish_reason") or choice.get("finish_reason")
        answer |= data
    return {**answer, "model": model, "choices": [choices[index] for index in sorted(choices)]}


def _together(first: Any, second: Any) -> Any:
    """Return the `logprobs` of two consecutive pieces of text as one."""
    if not isinstance(first, dict) or not isinstance(second, dict):
        return second or first
    return {
        name: value + second[name]
        if isinstance(value, list) and isinstance(second.get(name), list)
        else value
        for name, value in first.items()
    }

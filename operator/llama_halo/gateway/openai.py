"""The OpenAI Chat Completions API over llama-server's own; pure but for the iteration."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from llama_halo.gateway.failures import Failure, from_upstream, openai_error
from llama_halo.gateway.sse import SseEvent, encode

Json = dict[str, Any]
DONE = "[DONE]"


def stream_body(body: Json) -> Json:
    """Return the body that llama-server gets; always a stream, since it does not notice that the
    client of any other request has gone."""
    return {**body, "stream": True, "stream_options": {"include_usage": True}}


def wants_usage(body: Json) -> bool:
    """Tell whether the client of a stream asked for the usage chunk."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


async def stream(
    upstream: AsyncIterable[SseEvent], *, model: str, usage: bool
) -> AsyncIterator[bytes]:
    """Yield the client's chunks; an upstream that ends early ends in an error chunk."""
    async for event in upstream:
        if event.data == DONE:
            yield encode(DONE)
            return
        data = event.json()
        if not isinstance(data, dict):
            continue
        if "error" in data:
            yield encode(openai_error(_in_band(data)))
            return
        if not data.get("choices") and not usage:
            continue
        yield encode({**data, "model": model})
    yield encode(openai_error(Failure(502, "the model's server ended in the middle of the answer")))


async def collect(upstream: AsyncIterable[SseEvent], *, model: str) -> Json:
    """Put a stream together to the one object that a client without streaming expects."""
    answer: Json = {}
    choices: dict[int, Json] = {}
    async for event in upstream:
        if event.data == DONE:
            answer |= {"object": "chat.completion", "model": model}
            answer["choices"] = [choices[index] for index in sorted(choices)]
            return answer
        data = event.json()
        if not isinstance(data, dict):
            continue
        if "error" in data:
            raise _in_band(data)
        for chunk in data.pop("choices", ()):
            _add_chunk(choices.setdefault(chunk["index"], _choice(chunk["index"])), chunk)
        answer |= data
    raise Failure(502, "the model's server ended in the middle of the answer")


def _choice(index: int) -> Json:
    return {
        "index": index,
        "message": {"role": "assistant", "content": None},
        "finish_reason": None,
    }


def _add_chunk(choice: Json, chunk: Json) -> None:
    """Append one chunk: text grows, tool calls grow by index, the rest is taken over."""
    message = choice["message"]
    for field, value in (chunk.get("delta") or {}).items():
        if field == "tool_calls":
            for call in value:
                _add_call(message.setdefault("tool_calls", []), call)
        elif isinstance(value, str) and field != "role":
            message[field] = (message.get(field) or "") + value
        elif value is not None:
            message[field] = value
    if chunk.get("finish_reason"):
        choice["finish_reason"] = chunk["finish_reason"]
    found = chunk.get("logprobs")
    if found:
        collected = choice.setdefault("logprobs", {"content": []})
        collected["content"] += found.get("content") or []


def _add_call(calls: list[Json], part: Json) -> None:
    index = part.get("index", len(calls))
    while len(calls) <= index:
        calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call, function = calls[index], part.get("function") or {}
    call["id"] = part.get("id") or call["id"]
    call["function"]["name"] = function.get("name") or call["function"]["name"]
    call["function"]["arguments"] += function.get("arguments") or ""


def _in_band(data: Json) -> Failure:
    error = data["error"] if isinstance(data["error"], dict) else {"message": str(data["error"])}
    code = error.get("code")
    return from_upstream(code if isinstance(code, int) else 500, {"error": error})

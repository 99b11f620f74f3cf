"""The OpenAI Chat Completions API over llama-server's own route."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

from llama_halo.gateway.apis.exchange import ApiExchange
from llama_halo.gateway.apis.system_messages import fold_system, join_text
from llama_halo.gateway.apis.validation import validate_messages
from llama_halo.gateway.http import answers
from llama_halo.gateway.http.errors import Failure, ended_early, from_stream_error
from llama_halo.gateway.http.sse import SseEvent, encode

Json = dict[str, Any]
DONE = "[DONE]"
PATH = "/v1/chat/completions"
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
# The start of most of llama-server's chunks, and the model's name in one. Generated text cannot
# match: its quotes are escaped.
_CHOICE, _USAGE = b'data: {"choices":[{', b'"usage"'
_MODEL = re.compile(rb'"model":"[^"]*"')
HEARTBEAT = b": keep-alive\n\n"


def validate(body: Any) -> Json:
    """Return the body; raises `Failure` (400) for what llama-server would answer with 500."""
    request = validate_messages(body)
    for index, message in enumerate(request["messages"]):
        if message["role"] not in ROLES:
            raise Failure(400, f"messages.{index}.role: must be one of {', '.join(ROLES)}")
    return request


def build_exchange(body: Json) -> ApiExchange:
    """Return the exchange of a `/v1/chat/completions` request."""
    model, usage = body["model"], wants_usage(body)
    mended = {
        **body,
        "messages": fold_system(body["messages"], join_text, keeps_first=True),
        **chosen_tool(body),
    }
    return ApiExchange(
        path=PATH,
        body={**mended, "stream": True, "stream_options": {"include_usage": True}},
        streams=bool(body.get("stream")),
        stream=lambda events: stream(events, model=model, usage=usage),
        collect=lambda events: collect(events, model=model),
        heartbeat=HEARTBEAT,
        native_path=PATH,
        count_path=f"{PATH}/input_tokens",
        passthrough=_renaming(model),
    )


def _renaming(model: str) -> Callable[[bytes], bytes | None]:
    """Return a function that puts the requested model's name into a chunk of text.

    It replaces bytes: that is faster than parsing and encoding, and chunks are most of a stream.
    """
    named = b'"model":' + json.dumps(model).encode()

    def passthrough(event: bytes) -> bytes | None:
        if not event.startswith(_CHOICE) or _USAGE in event:
            return None
        return _MODEL.sub(lambda _: named, event, count=1)

    return passthrough


def chosen_tool(body: Json) -> Json:
    """Return `tools` and `tool_choice` for a request that names the tool to call; else nothing.

    The named tool alone is kept, and required: llama-server ignores a choice by name. Raises
    `Failure` (400) when the tool is missing.
    """
    choice = body.get("tool_choice")
    if not isinstance(choice, dict) or choice.get("type") not in ("function", "custom"):
        return {}
    function = choice.get("function")
    name = (function if isinstance(function, dict) else choice).get("name")
    tools = body.get("tools")
    kept = [
        tool
        for tool in (tools if isinstance(tools, list) else ())
        if isinstance(tool, dict) and name in (tool.get("name"), _name_of(tool))
    ]
    if not kept:
        raise Failure(400, f"tool_choice: no tool is named {str(name)[:100]!r}")
    return {"tools": kept, "tool_choice": "required"}


def _name_of(tool: Json) -> Any:
    function = tool.get("function")
    return function.get("name") if isinstance(function, dict) else None


def wants_usage(body: Json) -> bool:
    """Tell whether the client of a stream asked for the usage chunk."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


async def stream(
    upstream: AsyncIterable[SseEvent], *, model: str, usage: bool
) -> AsyncIterator[bytes]:
    """Yield the client's chunks.

    Raises `Failure` for an error chunk, and when the stream ends early.
    """
    passthrough = _renaming(model)
    async for event in upstream:
        if passed := passthrough(event.encoded):
            yield passed
            continue
        if event.data == DONE:
            yield encode(DONE)
            return
        data = event.value
        if not isinstance(data, dict):
            continue
        if data.get("error"):
            raise from_stream_error(data["error"])
        if not data.get("choices") and not usage:
            continue
        yield encode({**data, "model": model})
    raise ended_early()


async def collect(upstream: AsyncIterable[SseEvent], *, model: str) -> Json:
    """Assemble the chunks into one object; raises `Failure` like `stream`."""
    answer: Json = {}
    choices: dict[int, Json] = {}
    async for data in until_done(upstream):
        for chunk in answers.choices(data):
            place = answers.index_of(chunk, 0)
            _add_chunk(choices.setdefault(place, _choice(place)), chunk)
        answer |= data
    answer |= {"object": "chat.completion", "model": model}
    answer["choices"] = [choices[index] for index in sorted(choices)]
    return answer


async def until_done(upstream: AsyncIterable[SseEvent]) -> AsyncIterator[Json]:
    """Yield the data of the events up to `[DONE]`.

    Raises `Failure` for an error event, and when the stream ends early.
    """
    async for event in upstream:
        if event.data == DONE:
            return
        data = event.value
        if not isinstance(data, dict):
            continue
        if data.get("error"):
            raise from_stream_error(data["error"])
        yield data
    raise ended_early()


def _choice(index: int) -> Json:
    return {
        "index": index,
        "message": {"role": "assistant", "content": None},
        "finish_reason": None,
    }


def _add_chunk(choice: Json, chunk: Json) -> None:
    """Add one chunk: append text, merge tool calls by index, replace other fields."""
    message = choice["message"]
    for field, value in (chunk.get("delta") or {}).items():
        if field == "tool_calls":
            for call in value or ():
                add_call(message.setdefault("tool_calls", []), call)
        elif isinstance(value, str) and field != "role":
            earlier = message.get(field)
            message[field] = (earlier if isinstance(earlier, str) else "") + value
        elif value is not None:
            message[field] = value
    if chunk.get("finish_reason"):
        choice["finish_reason"] = chunk["finish_reason"]
    logprobs = chunk.get("logprobs")
    if logprobs:
        collected = choice.setdefault("logprobs", {"content": []})
        collected["content"] += logprobs.get("content") or []


def add_call(calls: list[Json], part: Json) -> None:
    """Merge a piece of a tool call into the call with its index."""
    index = answers.index_of(part, len(calls))
    while len(calls) <= index:
        calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call, function = calls[index], part.get("function") or {}
    call["id"] = part.get("id") or call["id"]
    call["function"]["name"] = function.get("name") or call["function"]["name"]
    call["function"]["arguments"] += function.get("arguments") or ""

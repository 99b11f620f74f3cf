"""The OpenAI Chat Completions API over llama-server's own; pure but for the iteration."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

from llama_halo.gateway.apis.exchange import ApiExchange
from llama_halo.gateway.apis.system_messages import fold_system, join_text
from llama_halo.gateway.apis.validation import checked
from llama_halo.gateway.http.errors import Failure, ended_early, in_band
from llama_halo.gateway.http.sse import SseEvent, encode

Json = dict[str, Any]
DONE = "[DONE]"
PATH = "/v1/chat/completions"
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
# How llama-server begins what is nearly all of a stream, and where its name for the model is: in
# text these letters would have backslashes.
_CHOICE, _USAGE = b'data: {"choices":[{', b'"usage"'
_MODEL = re.compile(rb'"model":"[^"]*"')
HEARTBEAT = b": keep-alive\n\n"


def validate(body: Any) -> Json:
    """Refuse what llama-server would answer with 500; return the body."""
    request = checked(body)
    for index, message in enumerate(request["messages"]):
        if message["role"] not in ROLES:
            raise Failure(400, f"messages.{index}.role: must be one of {', '.join(ROLES)}")
    return request


def generation(body: Json) -> ApiExchange:
    """Return a request to `/v1/chat/completions`."""
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
        counts=f"{PATH}/input_tokens",
        passthrough=_renaming(model),
    )


def _renaming(model: str) -> Callable[[bytes], bytes | None]:
    """Return what puts the requested model's name into a chunk of text: as JSON has it, for that is
    quicker than to read and write the chunk, and chunks are nearly all that comes."""
    named = b'"model":' + json.dumps(model).encode()

    def passthrough(event: bytes) -> bytes | None:
        if not event.startswith(_CHOICE) or _USAGE in event:
            return None
        return _MODEL.sub(lambda _: named, event, count=1)

    return passthrough


def chosen_tool(body: Json) -> Json:
    """Return the tools of a request that wants a certain one: that one alone, and required, since
    llama-server takes a named choice for none. Raises `Failure` when it is not among them."""
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
        raise Failure(400, f"tool_choice: there is no tool {str(name)[:100]!r} among the tools")
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
    """Yield the client's chunks; raises `Failure` for an error among them, and when they end
    early."""
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
            raise in_band(data["error"])
        if not data.get("choices") and not usage:
            continue
        yield encode({**data, "model": model})
    raise ended_early()


async def collect(upstream: AsyncIterable[SseEvent], *, model: str) -> Json:
    """Put a stream together to the one object that a client without streaming expects."""
    answer: Json = {}
    choices: dict[int, Json] = {}
    async for data in until_done(upstream):
        for chunk in data.pop("choices", None) or ():
            place = chunk.get("index", 0)
            _add_chunk(choices.setdefault(place, _choice(place)), chunk)
        answer |= data
    answer |= {"object": "chat.completion", "model": model}
    answer["choices"] = [choices[index] for index in sorted(choices)]
    return answer


async def until_done(upstream: AsyncIterable[SseEvent]) -> AsyncIterator[Json]:
    """Yield what the events say until the stream is complete; raises `Failure` for an error among
    them, and when they end early."""
    async for event in upstream:
        if event.data == DONE:
            return
        data = event.value
        if not isinstance(data, dict):
            continue
        if data.get("error"):
            raise in_band(data["error"])
        yield data
    raise ended_early()


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
            for call in value or ():
                add_call(message.setdefault("tool_calls", []), call)
        elif isinstance(value, str) and field != "role":
            message[field] = (message.get(field) or "") + value
        elif value is not None:
            message[field] = value
    if chunk.get("finish_reason"):
        choice["finish_reason"] = chunk["finish_reason"]
    logprobs = chunk.get("logprobs")
    if logprobs:
        collected = choice.setdefault("logprobs", {"content": []})
        collected["content"] += logprobs.get("content") or []


def add_call(calls: list[Json], part: Json) -> None:
    """Add a piece of a tool call, which grows by its index."""
    index = part.get("index", len(calls))
    while len(calls) <= index:
        calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call, function = calls[index], part.get("function") or {}
    call["id"] = part.get("id") or call["id"]
    call["function"]["name"] = function.get("name") or call["function"]["name"]
    call["function"]["arguments"] += function.get("arguments") or ""

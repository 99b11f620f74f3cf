"""The OpenAI Chat Completions API over llama-server's own route."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from typing import Any

from llama_halo.gateway.apis.exchange import ApiExchange
from llama_halo.gateway.apis.system_messages import fold_system
from llama_halo.gateway.apis.validation import check_content, check_tools, validate_messages
from llama_halo.gateway.convert.common import objects_in
from llama_halo.gateway.convert.documents import text_of_file
from llama_halo.gateway.convert.tool_calls import ToolCalls
from llama_halo.gateway.convert.tool_names import (
    NO_NAMES,
    ClientTool,
    CustomCalls,
    ToolNames,
    custom_function,
    input_arguments,
)
from llama_halo.gateway.convert.turns import join_text, join_turns, with_call_ids
from llama_halo.gateway.http import answers
from llama_halo.gateway.http.errors import Failure, ended_early, from_stream_error
from llama_halo.gateway.http.sse import SseEvent, encode

Json = dict[str, Any]
DONE = "[DONE]"
PATH = "/v1/chat/completions"
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_CONTINUED = ("text", "summary", "data", "signature")
"""Texts of an entry of a list, such as `reasoning_details`, that arrive in pieces."""
# The start of most of llama-server's chunks, and the model's name in one. Generated text cannot
# match: its quotes are escaped.
_CHOICE, _USAGE, _REASON = b'data: {"choices":[{', b'"usage"', b'"finish_reason":"'
_MODEL = re.compile(rb'"model":"[^"]*"')
HEARTBEAT = b": keep-alive\n\n"


def validate(body: Any) -> Json:
    """Return the body; raises `Failure` (400) for what llama-server would answer with 500."""
    request = validate_messages(body)
    for index, message in enumerate(request["messages"]):
        if message["role"] not in ROLES:
            raise Failure(400, f"messages.{index}.role: must be one of {', '.join(ROLES)}")
        check_content(message.get("content"), f"messages.{index}.content")
    check_tools(request)
    return request


def build_exchange(body: Json) -> ApiExchange:
    """Return the exchange of a `/v1/chat/completions` request."""
    model, usage = body["model"], wants_usage(body)
    tool_names = ToolNames.of(_custom_tools(body))
    return ApiExchange(
        path=PATH,
        body={**upstream_body(body), "stream": True, "stream_options": {"include_usage": True}},
        streams=bool(body.get("stream")),
        stream=lambda events: stream(events, model=model, usage=usage, tool_names=tool_names),
        collect=lambda events: collect(events, model=model, tool_names=tool_names),
        heartbeat=HEARTBEAT,
        native_path=PATH,
        count_path=f"{PATH}/input_tokens",
        passthrough=_unchanged if tool_names else _renaming(model),
    )


def _unchanged(_: bytes) -> None:
    """Let no event pass: a call of a custom tool depends on all of its events."""


def upstream_body(body: Json) -> Json:
    """Return the body for llama-server: plain functions, and turns as chat templates take them."""
    messages = [_plain_message(message) for message in with_call_ids(body["messages"])]
    mended = {
        **body,
        "messages": join_turns(fold_system(messages, join_text, keeps_first=True), join_text),
    }
    tools = body.get("tools")
    if isinstance(tools, list):
        mended["tools"] = [_function_tool(tool) for tool in tools]
    return mended | chosen_tool(mended)


def _custom_tools(body: Json) -> Iterator[ClientTool]:
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        custom = tool.get("custom") if isinstance(tool, dict) else None
        if isinstance(custom, dict) and tool.get("type") == "custom":
            yield ClientTool(str(custom.get("name", "")), is_custom=True)


def _function_tool(tool: Any) -> Any:
    """Return a tool as a function, without fields that are null: llama-server wants texts there."""
    if not isinstance(tool, dict):
        return tool
    custom, function = tool.get("custom"), tool.get("function")
    if tool.get("type") == "function" and function is None:  # as the Responses API has it
        function = {name: value for name, value in tool.items() if name != "type"}
        tool = {"type": "function", "function": function}
    if tool.get("type") == "custom" and isinstance(custom, dict):
        function = custom_function(custom, str(custom.get("name", "")))
        return {"type": "function", "function": function}
    if isinstance(function, dict) and None in function.values():
        function = {name: value for name, value in function.items() if value is not None}
        return {**tool, "function": function}
    return tool


def _plain_message(message: Json) -> Json:
    """Return a message whose refusals and text files are text, and whose calls are of functions."""
    message = _without_custom_calls(message)
    content, refusal = message.get("content"), message.get("refusal")
    if isinstance(content, list) and any(_is_readable(part) for part in content):
        message = {**message, "content": [_as_text(part) for part in content]}
    if isinstance(refusal, str) and refusal:
        others = {name: value for name, value in message.items() if name != "refusal"}
        message = {**others, "content": join_text(message.get("content"), refusal)}
    return message


def _is_readable(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in ("refusal", "file")


def _as_text(part: Any) -> Any:
    if not _is_readable(part):
        return part
    if part["type"] == "refusal":
        return {"type": "text", "text": str(part.get("refusal") or "")}
    text = text_of_file(part)
    return {"type": "text", "text": text} if text else part


def _without_custom_calls(message: Json) -> Json:
    """Return a message with each call of a custom tool as one of its function."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list) or not any(_custom_of(call) for call in calls):
        return message
    return {**message, "tool_calls": [_function_call(call) for call in calls]}


def _function_call(call: Any) -> Any:
    custom = _custom_of(call)
    if not custom:
        return call
    function = {"name": custom.get("name"), "arguments": input_arguments(custom.get("input"))}
    return {"id": call.get("id"), "type": "function", "function": function}


def _custom_of(call: Any) -> Json:
    custom = call.get("custom") if isinstance(call, dict) and call.get("type") == "custom" else None
    return custom if isinstance(custom, dict) else {}


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
    """Return `tools` and `tool_choice` for a request that names the tools to choose from; else
    nothing.

    The named tools alone are kept, and one is required: llama-server ignores a choice by name.
    Raises `Failure` (400) when one is missing.
    """
    choice = body.get("tool_choice")
    if not isinstance(choice, dict):
        return {}
    if choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools")
        allowed = allowed if isinstance(allowed, dict) else choice
        named = [_choice_name(entry) for entry in objects_in(allowed.get("tools"))]
        mode = "required" if allowed.get("mode") == "required" else "auto"
    elif choice.get("type") in ("function", "custom"):
        named, mode = [_choice_name(choice)], "required"
    else:
        return {}
    named = [name for name in named if name]  # a tool that OpenAI's servers run has none
    if not named:
        return {"tool_choice": mode}
    tools = objects_in(body.get("tools"))
    kept = [tool for tool in tools if _choice_name(tool) in named]
    offered = [_choice_name(tool) for tool in kept]
    missing = [name for name in named if name not in offered]
    if missing:
        raise Failure(400, f"tool_choice: no tool is named {str(missing[0])[:100]!r}")
    return {"tools": kept, "tool_choice": mode}


def _choice_name(tool: Json) -> Any:
    """Return the name of a tool, or of a choice of one, in either of OpenAI's APIs."""
    for name in ("function", "custom"):
        if isinstance(tool.get(name), dict):
            return tool[name].get("name")
    return tool.get("name")


def wants_usage(body: Json) -> bool:
    """Tell whether the client of a stream asked for the usage chunk."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


async def stream(
    upstream: AsyncIterable[SseEvent], *, model: str, usage: bool, tool_names: ToolNames = NO_NAMES
) -> AsyncIterator[bytes]:
    """Yield the client's chunks.

    Raises `Failure` for an error chunk, and when the stream ends early.
    """
    passthrough = _renaming(model)
    calls = CustomCalls(tool_names)
    finished = False
    async for event in upstream:
        if not tool_names and (passed := passthrough(event.encoded)):
            finished = finished or _REASON in event.raw
            yield passed
            continue
        if event.data == DONE:
            finished = True
            break
        data = event.value
        if not isinstance(data, dict):
            continue
        if data.get("error"):
            raise from_stream_error(data["error"])
        if not data.get("choices") and not usage:
            continue
        finished = finished or _is_finished(data)
        if tool_names:
            data = calls.restore(data)
        yield encode({**data, "model": model})
    if not finished:
        raise ended_early()
    if rest := calls.rest():
        yield encode({"object": "chat.completion.chunk", "model": model, **rest})
    yield encode(DONE)  # which some servers leave out


async def collect(
    upstream: AsyncIterable[SseEvent], *, model: str, tool_names: ToolNames = NO_NAMES
) -> Json:
    """Assemble the chunks into one object; raises `Failure` like `stream`."""
    answer: Json = {}
    choices: dict[int, _Choice] = {}
    async for data in until_done(upstream):
        for chunk in answers.choices(data):
            place = answers.index_of(chunk, 0)
            choices.setdefault(place, _Choice(place)).add(chunk)
        answer |= data
    answer |= {"object": "chat.completion", "model": model}
    answer["choices"] = [choices[index].complete(tool_names) for index in sorted(choices)]
    return answer


async def until_done(upstream: AsyncIterable[SseEvent]) -> AsyncIterator[Json]:
    """Yield the data of the events up to `[DONE]`, or up to the end of a finished answer.

    Raises `Failure` for an error event, and when the stream ends early.
    """
    finished = False
    async for event in upstream:
        if event.data == DONE:
            return
        data = event.value
        if not isinstance(data, dict):
            continue
        if data.get("error"):
            raise from_stream_error(data["error"])
        finished = finished or _is_finished(data)
        yield data
    if not finished:
        raise ended_early()


def _is_finished(data: Any) -> bool:
    """Tell whether a chunk ends its choice: some servers send no `[DONE]` after it."""
    choices = data.get("choices") if isinstance(data, dict) else None
    return isinstance(choices, list) and any(
        isinstance(choice, dict) and isinstance(choice.get("finish_reason"), str)
        for choice in choices
    )


_OF_CHUNK = ("index", "delta", "finish_reason", "logprobs")


class _Choice:
    """One choice of an answer, as far as it has arrived."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._message: Json = {"role": "assistant", "content": None}
        self._calls = ToolCalls()
        self._others: Json = {"finish_reason": None}

    def add(self, chunk: Json) -> None:
        """Append text and lists, merge tool calls, and replace other fields."""
        for field, value in (chunk.get("delta") or {}).items():
            earlier = self._message.get(field)
            if field == "tool_calls":
                for call in value or ():
                    self._calls.add(call)
            elif isinstance(value, str) and field != "role":
                self._message[field] = (earlier if isinstance(earlier, str) else "") + value
            elif isinstance(value, list) and isinstance(earlier, list):
                _extend(earlier, value)
            elif value is not None:
                self._message[field] = value
        if chunk.get("finish_reason"):
            self._others["finish_reason"] = chunk["finish_reason"]
        logprobs = chunk.get("logprobs")
        if logprobs:
            collected = self._others.setdefault("logprobs", {"content": []})
            collected["content"] += logprobs.get("content") or []
        self._others |= {name: value for name, value in chunk.items() if name not in _OF_CHUNK}

    def complete(self, tool_names: ToolNames) -> Json:
        calls = [tool_names.restored_chat_call(call) for call in self._calls.complete()]
        message = self._message | ({"tool_calls": calls} if calls else {})
        return {"index": self._index, "message": message, **self._others}


def _extend(entries: list[Any], more: list[Any]) -> None:
    """Append entries; one with the `index` of an earlier entry continues that one."""
    for entry in more:
        index = entry.get("index") if isinstance(entry, dict) else None
        earlier = next(
            (
                item
                for item in entries
                if isinstance(index, int)
                and isinstance(item, dict)
                and (item.get("index"), item.get("type")) == (index, entry.get("type"))
            ),
            None,
        )
        if earlier is None:
            if len(entries) < answers.MAX_INDEX:
                entries.append(entry)
            continue
        for name, value in entry.items():
            before = earlier.get(name)
            continues = name in _CONTINUED and isinstance(value, str) and isinstance(before, str)
            earlier[name] = before + value if continues else value

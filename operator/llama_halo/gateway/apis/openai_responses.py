"""The OpenAI Responses API over llama-server's own route, as Codex uses it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any

from llama_halo.gateway.apis.exchange import ApiExchange
from llama_halo.gateway.apis.openai_chat import HEARTBEAT, chosen_tool
from llama_halo.gateway.apis.validation import check_content, check_tools, validate_model
from llama_halo.gateway.convert.responses_items import RequestItems, join_messages
from llama_halo.gateway.convert.tool_names import NO_NAMES, ToolNames
from llama_halo.gateway.http.errors import Failure, ended_early, from_stream_error
from llama_halo.gateway.http.sse import SseEvent, encode

Json = dict[str, Any]
PATH = "/v1/responses"
_ONCE = ("response.created", "response.in_progress")
_LAST = ("response.completed", "response.failed", "response.incomplete")


def validate(body: Any) -> Json:
    """Return the body; raises `Failure` (400) for what llama-server does not accept."""
    request = validate_model(body)
    if request.get("previous_response_id"):
        raise Failure(
            400,
            "previous_response_id: the router stores no responses: send the whole conversation as"
            " input (store: false)",
        )
    items = request.get("input")
    if not isinstance(items, (str, list)) or not items:
        raise Failure(400, "input: a text or a list of items is required")
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if not isinstance(item, dict):
            raise Failure(400, "input: each item must be an object")
        for name in ("type", "role"):
            if not isinstance(item.get(name) or "", str):
                raise Failure(400, f"input.{index}.{name}: a string is required")
        if item.get("type", "message") == "message":
            check_content(item.get("content"), f"input.{index}.content")
        if isinstance(item.get("output"), list):
            check_content(item["output"], f"input.{index}.output")
    check_tools(request)
    return request


def build_exchange(body: Json) -> ApiExchange:
    """Return the exchange of a `/v1/responses` request."""
    model, items = body["model"], RequestItems(body)
    names = items.tool_names
    return ApiExchange(
        path=PATH,
        body={**upstream_body(body, items), "stream": True},
        streams=bool(body.get("stream")),
        stream=lambda events: stream(events, model=model, tool_names=names),
        collect=lambda events: collect(events, model=model, tool_names=names),
        heartbeat=HEARTBEAT,
        count_path=f"{PATH}/input_tokens",
    )


def upstream_body(body: Json, items: RequestItems) -> Json:
    """Return the body for llama-server, with only the items and tools that it supports."""
    settings = {**body, **items.settings()}
    mended = {name: value for name, value in settings.items() if name not in ("store", "include")}
    if isinstance(body.get("input"), list):
        listed, leading = items.items()
        mended["input"] = join_messages(listed)
        instructions = [str(body["instructions"])] if body.get("instructions") else []
        if instructions or leading:
            mended["instructions"] = "\n\n".join([*instructions, *leading])
    mended["tools"] = items.tools
    if not items.tools:
        del mended["tools"]
        mended.pop("tool_choice", None)
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and "tool_choice" in mended:
        mended["tool_choice"] = _offered_choice(choice, items.tool_names)
    mended |= chosen_tool(mended)
    if isinstance(mended.get("tool_choice"), dict):
        del mended["tool_choice"]  # it names a tool that OpenAI's servers run
    return mended | _format(settings.get("text"))


def _offered_choice(choice: Json, names: ToolNames) -> Json:
    """Return a choice of tools with the names under which they are offered."""

    def offered(entry: Json) -> Json:
        name, namespace = entry.get("name"), entry.get("namespace")
        is_custom = entry.get("type") == "custom"
        return {**entry, "name": names.offered(name, namespace, is_custom=is_custom)}

    mended = offered(choice) if choice.get("name") else choice
    if isinstance(choice.get("tools"), list):
        named = [entry for entry in choice["tools"] if isinstance(entry, dict)]
        mended = {**mended, "tools": [offered(entry) for entry in named if entry.get("name")]}
    return mended


def _format(text: Any) -> Json:
    """Return the answer's format as `response_format`, where llama-server reads it."""
    text_format = text.get("format") if isinstance(text, dict) else None
    if not isinstance(text_format, dict) or text_format.get("type") not in (
        "json_schema",
        "json_object",
    ):
        return {}
    if text_format["type"] == "json_object":
        return {"response_format": {"type": "json_object"}}
    schema = {
        name: text_format[name] for name in ("name", "schema", "strict") if name in text_format
    }
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


async def stream(
    upstream: AsyncIterable[SseEvent], *, model: str, tool_names: ToolNames = NO_NAMES
) -> AsyncIterator[bytes]:
    """Yield the client's events, with the numbers and indexes that typed clients expect.

    Raises `Failure` for an error event, and when the stream ends early.
    """
    items: dict[str, int] = {}
    sent_kinds: set[str] = set()
    custom: set[str] = set()
    finished, number, created = False, 0, int(time.time())
    async for event in upstream:
        data = event.value
        if not isinstance(data, dict):
            continue
        kind = str(data.get("type", event.name))
        if kind == "error" or ("error" in data and "type" not in data):
            raise from_stream_error(data.get("error", data))
        if kind in _ONCE and kind in sent_kinds:
            continue  # llama-server repeats it while the first token is part of a character
        sent_kinds.add(kind)
        finished = finished or kind in _LAST
        for entry in _restored(data, tool_names, custom):
            _number(entry, items)
            entry["sequence_number"] = number
            number += 1
            name = str(entry.get("type") or event.name or kind)
            yield encode(_completed(entry, model, tool_names, created), name)
    if not finished:
        raise ended_early()


def _restored(data: Json, names: ToolNames, custom: set[str]) -> Iterator[Json]:
    """Yield an event with the client's own tools; `custom` has the ids of custom tools' calls.

    The text of such a call comes in one piece: on the way it is a JSON string.
    """
    kind, item = data.get("type"), data.get("item")
    if not names:
        yield data
    elif isinstance(item, dict):
        restored = names.restored_item(item)
        if restored.get("type") != "custom_tool_call":
            yield {**data, "item": restored}
            return
        number = str(restored.get("id"))
        if kind == "response.output_item.added":
            custom.add(number)
            yield {**data, "item": {**restored, "input": ""}}
            return
        text = restored["input"]
        for ending, field in (("delta", "delta"), ("done", "input")):
            head = {"type": f"response.custom_tool_call_input.{ending}", "item_id": number}
            yield {**head, field: text}
        yield {**data, "item": restored}
    elif data.get("item_id") not in custom:
        tool = names.tool(data.get("name"))  # in the event that ends the arguments
        yield {**data, "name": tool.name} if tool else data


async def collect(
    upstream: AsyncIterable[SseEvent], *, model: str, tool_names: ToolNames = NO_NAMES
) -> Json:
    """Return the response of the last event; raises `Failure` like `stream`."""
    async for event in upstream:
        data = event.value
        if not isinstance(data, dict):
            continue
        kind = data.get("type", event.name)
        if kind == "error" or ("error" in data and "type" not in data):
            raise from_stream_error(data.get("error", data))
        if kind in _LAST and isinstance(data.get("response"), dict):
            completed = _completed(data, model, tool_names, int(time.time()))
            response: Json = completed["response"]
            return response
    raise ended_early()


def _number(data: Json, items: dict[str, int]) -> None:
    """Set the event's `output_index` and `content_index`, which llama-server leaves out."""
    item = data.get("item")
    name = str(item.get("id")) if isinstance(item, dict) else data.get("item_id")
    if not isinstance(name, str):
        return
    data.setdefault("output_index", items.setdefault(name, len(items)))
    if "content_part" in str(data.get("type")) or "_text" in str(data.get("type")):
        data.setdefault("content_index", 0)


def _completed(data: Json, model: str, names: ToolNames, created: int) -> Json:
    """Return an event whose response has the fields that typed clients require, and the client's
    own tools."""
    response = data.get("response")
    if not isinstance(response, dict):
        return data
    required = {
        "created_at": created,
        "object": "response",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
    }
    output = response.get("output")
    items = [
        names.restored_item(item) if isinstance(item, dict) else item
        for item in (output if isinstance(output, list) else [])
    ]
    whole = {**required, **response, "model": model, "output": items}
    return {**data, "response": whole}

"""The OpenAI Responses API over llama-server's own route, as Codex uses it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any

from llama_halo.gateway.apis.exchange import ApiExchange
from llama_halo.gateway.apis.openai_chat import HEARTBEAT, chosen_tool
from llama_halo.gateway.apis.validation import validate_model
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
    if isinstance(items, list) and not all(isinstance(item, dict) for item in items):
        raise Failure(400, "input: each item must be an object")
    return request


def build_exchange(body: Json) -> ApiExchange:
    """Return the exchange of a `/v1/responses` request."""
    model = body["model"]
    return ApiExchange(
        path=PATH,
        body={**upstream_body(body), "stream": True},
        streams=bool(body.get("stream")),
        stream=lambda events: stream(events, model=model),
        collect=lambda events: collect(events, model=model),
        heartbeat=HEARTBEAT,
        count_path=f"{PATH}/input_tokens",
    )


def upstream_body(body: Json) -> Json:
    """Return the body for llama-server, with only the items and tools that it supports."""
    mended = {name: value for name, value in body.items() if name not in ("store", "include")}
    if isinstance(body.get("input"), list):
        mended["input"], leading = _items(body["input"])
        instructions = [str(body["instructions"])] if body.get("instructions") else []
        if instructions or leading:
            mended["instructions"] = "\n\n".join([*instructions, *leading])
    tools = body.get("tools")
    if isinstance(tools, list):
        mended["tools"] = list(_functions(tools))
        if not mended["tools"]:
            del mended["tools"]
            mended.pop("tool_choice", None)
    mended |= chosen_tool(mended)
    return mended | _format(body.get("text"))


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


def _items(items: list[Json]) -> tuple[list[Json], list[str]]:
    """Return the items that llama-server accepts, and the texts of leading system messages.

    Those texts go into the instructions: strict chat templates accept one system message.
    """
    converted: list[Json] = []
    leading: list[str] = []
    shown: list[Json] = []  # images of tool results, which follow the results of one turn
    for item in items:
        kind, role = item.get("type", "message"), item.get("role")
        if kind in ("function_call_output", "custom_tool_call_output"):
            output, pictures = _output({**item, "type": "function_call_output"})
            converted.append(output)
            shown += pictures
            continue
        converted += _as_users(shown)
        shown = []
        if kind == "message" and role in ("system", "developer"):
            if converted:
                converted.append({"type": "message", **item, "role": "user"})
            else:
                leading.append(_text(item.get("content")))
        elif kind == "custom_tool_call":
            arguments_json = json.dumps({"input": item.get("input") or ""})  # it is text, not JSON
            arguments = {"name": item.get("name"), "arguments": arguments_json}
            converted.append({"type": "function_call", "call_id": item.get("call_id"), **arguments})
        elif kind in ("message", "function_call") or _is_open(item):
            converted.append({"type": kind, **item})
    return [*converted, *_as_users(shown)], leading


def _as_users(pictures: list[Json]) -> list[Json]:
    return [{"type": "message", "role": "user", "content": pictures}] if pictures else []


def _output(item: Json) -> tuple[Json, list[Json]]:
    """Return a tool's output, and its images: llama-server accepts images only from the user."""
    output = item.get("output")
    parts = [part for part in output if isinstance(part, dict)] if isinstance(output, list) else []
    pictures = [part for part in parts if part.get("type") == "input_image"]
    return ({**item, "output": _text(output)} if pictures else item), pictures


def _is_open(item: Json) -> bool:
    """Tell whether a reasoning item has readable content; OpenAI's servers encrypt theirs."""
    content = item.get("content")
    return item.get("type") == "reasoning" and isinstance(content, list) and bool(content)


def _functions(tools: list[Any]) -> Iterator[Json]:
    """Yield the function tools, also of namespaces; tools that only OpenAI runs are dropped."""
    for tool in tools:
        if not isinstance(tool, dict):
            continue
        if tool.get("type") == "function":
            yield tool
        elif tool.get("type") == "namespace" and isinstance(tool.get("tools"), list):
            yield from _functions(tool["tools"])


def _text(content: Any) -> str:
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in parts if isinstance(text, str))
    return content if isinstance(content, str) else ""


async def stream(upstream: AsyncIterable[SseEvent], *, model: str) -> AsyncIterator[bytes]:
    """Yield the client's events, with the numbers and indexes that typed clients expect.

    Raises `Failure` for an error event, and when the stream ends early.
    """
    items: dict[str, int] = {}
    sent_kinds: set[str] = set()
    finished, number = False, 0
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
        _number(data, items)
        data.setdefault("sequence_number", number)
        number += 1
        finished = finished or kind in _LAST
        yield encode(_named(data, model), event.name or kind)
    if not finished:
        raise ended_early()


async def collect(upstream: AsyncIterable[SseEvent], *, model: str) -> Json:
    """Return the response of the last event; raises `Failure` like `stream`."""
    async for event in upstream:
        data = event.value
        if not isinstance(data, dict):
            continue
        kind = data.get("type", event.name)
        if kind == "error" or ("error" in data and "type" not in data):
            raise from_stream_error(data.get("error", data))
        if kind in _LAST and isinstance(data.get("response"), dict):
            response: Json = _named(data, model)["response"]
            return response
    raise ended_early()


def _number(data: Json, items: dict[str, int]) -> None:
    """Set the event's `output_index` and `content_index`, which llama-server leaves out."""
    item = data.get("item")
    name = str(item.get("id")) if isinstance(item, dict) else data.get("item_id")
    if not isinstance(name, str):
        return
    data.setdefault("output_index", items.setdefault(name, len(items)))
    if "content_part" in str(data.get("type")) or "output_text" in str(data.get("type")):
        data.setdefault("content_index", 0)


def _named(data: Json, model: str) -> Json:
    response = data.get("response")
    return (
        {**data, "response": {**response, "model": model}} if isinstance(response, dict) else data
    )

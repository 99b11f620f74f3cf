"""Helpers of the converters: parts of requests, and chunks of Chat Completions."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Protocol

from llama_halo.gateway.convert.tool_calls import new_id
from llama_halo.gateway.http import answers
from llama_halo.gateway.http.sse import SseEvent
from llama_halo.gateway.http.token_usage import TokenUsage

Json = dict[str, Any]
DONE = SseEvent.of("[DONE]")


def mapping(value: Any) -> Json:
    """Return the value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def objects_in(value: Any) -> list[Json]:
    """Return the objects in a list; none if the value is not a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_of(content: Any) -> str:
    """Return the text of a content: the string, or its text parts joined by line ends."""
    if isinstance(content, str):
        return content
    parts = (part.get("text") for part in objects_in(content))
    return "\n".join(part for part in parts if isinstance(part, str))


def pick_fields(body: Mapping[str, Any], names: Iterable[str]) -> Json:
    """Return the named fields of a request that are set."""
    return {name: body[name] for name in names if body.get(name) is not None}


def data_url(url: Any) -> tuple[str, str] | None:
    """Return the media type and base64 of a data URL, None for anything else."""
    if not isinstance(url, str) or not url.startswith("data:"):
        return None
    head, separator, data = url.removeprefix("data:").partition(";base64,")
    return (head or "image/png", data) if separator else None


def tool_arguments(value: Any) -> Json:
    """Return the arguments of a tool call as an object.

    Any other JSON, and a text that is none, is kept under `arguments`: an empty object would run
    the tool with nothing.
    """
    if isinstance(value, dict) or not value:
        return mapping(value)
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        parsed = value
    if parsed is None:
        return {}
    return parsed if isinstance(parsed, dict) else {"arguments": value}


def object_schema(schema: Any) -> Json:
    """Return the schema of a tool's arguments as providers want it: an object with properties."""
    whole = mapping(schema)
    if whole.get("type") == "object" and isinstance(whole.get("properties"), dict):
        return whole
    return {**whole, "type": "object", "properties": mapping(whole.get("properties"))}


class ChatChunks:
    """Makes the chunks of one converted answer, which share an id and a time."""

    def __init__(self) -> None:
        self.number = new_id("chatcmpl")
        self._created = int(time.time())

    def chunk(self, delta: Json, finish_reason: str | None = None) -> SseEvent:
        """Return a chunk with one choice."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return self._event({"choices": [choice]})

    def usage(self, tokens: TokenUsage) -> SseEvent:
        """Return the chunk with the token counts."""
        usage = {
            "prompt_tokens": tokens.prompt,
            "completion_tokens": tokens.answer,
            "total_tokens": tokens.prompt + tokens.answer,
            "prompt_tokens_details": {"cached_tokens": tokens.cached},
        }
        return self._event({"choices": [], "usage": usage})

    def _event(self, fields: Json) -> SseEvent:
        head = {"id": self.number, "object": "chat.completion.chunk", "created": self._created}
        return SseEvent.of({**head, "model": "", **fields})


def tool_call_delta(index: int, *, call_id: str = "", name: str = "", arguments: str = "") -> Json:
    """Return the delta of a piece of a tool call."""
    function = {**({"name": name} if name else {}), "arguments": arguments}
    head = {"id": call_id, "type": "function"} if call_id else {}
    return {"tool_calls": [{"index": index, **head, "function": function}]}


def first_choices(data: Json) -> Iterator[Json]:
    """Yield the choices with index 0: converted answers have no others."""
    for choice in answers.choices(data):
        if not choice.get("index"):
            yield choice


def thought_of(delta: Json) -> str:
    """Return the thoughts of a delta, which servers name differently."""
    thought = delta.get("reasoning_content") or delta.get("reasoning")
    return thought if isinstance(thought, str) else ""


class ResponseEncoder(Protocol):
    """Encodes the chunks of a chat as the events of another API."""

    usage: Any

    def begin(self, data: Json) -> Iterator[SseEvent]: ...

    def take(self, choice: Json) -> Iterator[SseEvent]: ...

    def end(self) -> Iterator[SseEvent]: ...


async def encode_events(
    upstream: AsyncIterable[SseEvent], answer: ResponseEncoder
) -> AsyncIterator[SseEvent]:
    """Convert the chunks of a chat by an encoder; an error ends the stream.

    A finished answer ends also without `[DONE]`.
    """
    begun = finished = False
    async for event in upstream:
        data = event.value
        if not isinstance(data, dict):
            if event.data != "[DONE]":
                continue
            finished = True
            break
        if data.get("error"):
            yield SseEvent.of({"type": "error", "error": data["error"]}, "error")
            return
        if not begun:
            begun = True
            for encoded in answer.begin(data):
                yield encoded
        answer.usage = data.get("usage") or answer.usage
        for choice in first_choices(data):
            finished = finished or isinstance(choice.get("finish_reason"), str)
            for encoded in answer.take(choice):
                yield encoded
    if finished:
        for encoded in answer.end():
            yield encoded

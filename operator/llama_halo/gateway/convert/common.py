"""Helpers of the converters: parts of requests, and chunks of Chat Completions."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Protocol

from llama_halo.gateway.http import answers
from llama_halo.gateway.http.errors import malformed
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


def tool_arguments(text: Any) -> Json:
    """Return the arguments of a tool call as an object: an empty one for any other JSON or text."""
    try:
        return mapping(json.loads(text or "{}"))
    except (TypeError, ValueError, RecursionError):
        return {}


def new_id(kind: str) -> str:
    """Return a random id with a prefix: clients identify items of a conversation by it."""
    return f"{kind}_{uuid.uuid4().hex}"


class ToolCallIndex:
    """Assigns the pieces of several tool calls: by index, and by id where a server gives every
    call the same index, or none."""

    def __init__(self) -> None:
        self._numbers: list[tuple[Any, str]] = []

    def assign(self, piece: Json) -> tuple[int, bool]:
        """Return the position of the piece's call, and whether that call is new."""
        index, call_id = piece.get("index"), str(piece.get("id") or "")
        for place in reversed(range(len(self._numbers))):
            entry_index, entry_id = self._numbers[place]
            same_place = index is None or index == entry_index
            if call_id == entry_id or (same_place and not (call_id and entry_id)):
                return place, False
        if len(self._numbers) >= answers.MAX_INDEX:
            raise malformed(f"it has more than {answers.MAX_INDEX} tool calls")
        self._numbers.append((index, call_id))
        return len(self._numbers) - 1, True


def chunk(delta: Json, finish_reason: str | None = None) -> SseEvent:
    """Return a chunk of a chat with one choice."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    head = {"id": "", "object": "chat.completion.chunk", "created": int(time.time())}
    return SseEvent.of({**head, "choices": [choice]})


def usage_chunk(tokens: TokenUsage) -> SseEvent:
    """Return the chunk with the token counts."""
    usage = {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.answer,
        "total_tokens": tokens.prompt + tokens.answer,
        "prompt_tokens_details": {"cached_tokens": tokens.cached},
    }
    return SseEvent.of({"object": "chat.completion.chunk", "choices": [], "usage": usage})


def tool_call_delta(index: int, *, call_id: str = "", name: str = "", arguments: str = "") -> Json:
    """Return the delta of a piece of a tool call."""
    function = {**({"name": name} if name else {}), "arguments": arguments}
    head = {"id": call_id, "type": "function"} if call_id else {}
    return {"tool_calls": [{"index": index, **head, "function": function}]}


def first_choices(data: Any) -> Iterator[Json]:
    """Yield the choices with index 0: converted answers have no others."""
    for choice in objects_in(mapping(data).get("choices")):
        if choice.get("index", 0) == 0:
            yield choice


class ResponseEncoder(Protocol):
    """Encodes the chunks of a chat as the events of another API."""

    usage: Any

    def begin(self, data: Json) -> Iterator[SseEvent]: ...

    def take(self, choice: Json) -> Iterator[SseEvent]: ...

    def end(self) -> Iterator[SseEvent]: ...


async def encode_events(
    upstream: AsyncIterable[SseEvent], answer: ResponseEncoder
) -> AsyncIterator[SseEvent]:
    """Convert the chunks of a chat by an encoder; an error ends the stream."""
    begun = False
    async for event in upstream:
        data = event.value
        if not isinstance(data, dict):
            if event.data != "[DONE]":
                continue
            for encoded in answer.end():
                yield encoded
            return
        if data.get("error"):
            yield SseEvent.of({"type": "error", "error": data["error"]}, "error")
            return
        if not begun:
            begun = True
            for encoded in answer.begin(data):
                yield encoded
        answer.usage = data.get("usage") or answer.usage
        for choice in first_choices(data):
            for encoded in answer.take(choice):
                yield encoded

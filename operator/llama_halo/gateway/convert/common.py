"""What the translations have alike: pieces of requests and events of Chat Completions; pure."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from llama_halo.gateway.http.sse import SseEvent

Json = dict[str, Any]
DONE = SseEvent.of("[DONE]")


def mapping(value: Any) -> Json:
    """Return a value that should be an object, an empty one when it is none."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[Json]:
    """Return the objects of a value that should be a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_of(content: Any) -> str:
    """Return the text of a content: a string, or parts of which some are text."""
    if isinstance(content, str):
        return content
    parts = (part.get("text") for part in objects(content))
    return "\n".join(part for part in parts if isinstance(part, str))


def kept(body: Mapping[str, Any], names: Iterable[str]) -> Json:
    """Return the fields of these names that a request has."""
    return {name: body[name] for name in names if body.get(name) is not None}


def data_url(url: Any) -> tuple[str, str] | None:
    """Return media type and base64 of a data URL, None when it is none."""
    if not isinstance(url, str) or not url.startswith("data:"):
        return None
    head, separator, data = url.removeprefix("data:").partition(";base64,")
    return (head or "image/png", data) if separator else None


def tool_arguments(text: Any) -> Json:
    """Return the arguments of a tool call as an object; what is none is kept under `arguments`."""
    if not text:
        return {}
    try:
        arguments = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {"arguments": str(text)}
    return arguments if isinstance(arguments, dict) else {"arguments": arguments}


def new_id(kind: str) -> str:
    """Return a name that nothing else has: clients keep conversations by them."""
    return f"{kind}_{uuid.uuid4().hex}"


class Calls:
    """Tells the pieces of several tool calls apart: by index, and by number where a server gives
    every call the same index, or none."""

    def __init__(self) -> None:
        self._numbers: list[tuple[Any, str]] = []

    def place(self, piece: Json) -> tuple[int, bool]:
        """Return which call a piece belongs to, and whether that is a new one."""
        index, number = piece.get("index"), str(piece.get("id") or "")
        for place in reversed(range(len(self._numbers))):
            known_index, known_number = self._numbers[place]
            same_place = index is None or index == known_index
            if number == known_number or (same_place and not (number and known_number)):
                return place, False
        self._numbers.append((index, number))
        return len(self._numbers) - 1, True


def chunk(delta: Json, finish_reason: str | None = None) -> SseEvent:
    """Return one event of a chat."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    head = {"id": "", "object": "chat.completion.chunk", "created": int(time.time())}
    return SseEvent.of({**head, "choices": [choice]})


def usage_chunk(prompt: int, answer: int, cached: int = 0) -> SseEvent:
    """Return the event that tells the tokens."""
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    return SseEvent.of({"object": "chat.completion.chunk", "choices": [], "usage": usage})


def call_piece(index: int, *, number: str = "", name: str = "", arguments: str = "") -> Json:
    """Return the delta of a piece of a tool call."""
    function = {**({"name": name} if name else {}), "arguments": arguments}
    head = {"id": number, "type": "function"} if number else {}
    return {"tool_calls": [{"index": index, **head, "function": function}]}


def tokens(usage: Any, *names: str) -> int:
    """Return the first of these counts that is a number."""
    counts = (mapping(usage).get(name) for name in names)
    return next((count for count in counts if isinstance(count, int)), 0)


class ChatUsage(NamedTuple):
    """The tokens that a server of Chat Completions counted."""

    prompt: int
    """With those that were in the cache."""
    answer: int
    cached: int

    @classmethod
    def of(cls, usage: Any) -> ChatUsage:
        """Read the `usage` of an answer or of its last chunk; what is absent counts 0."""
        details = mapping(usage).get("prompt_tokens_details")
        return cls(
            prompt=tokens(usage, "prompt_tokens"),
            answer=tokens(usage, "completion_tokens"),
            cached=tokens(details, "cached_tokens"),
        )


def choices(data: Any) -> Iterator[Json]:
    """Yield the first choice of a chunk: translated answers have no other."""
    for choice in objects(mapping(data).get("choices")):
        if choice.get("index", 0) == 0:
            yield choice


class ResponseEncoder(Protocol):
    """An answer in another API's words, as far as it was told to the client."""

    usage: Any

    def begin(self, data: Json) -> Iterator[SseEvent]: ...

    def take(self, choice: Json) -> Iterator[SseEvent]: ...

    def end(self) -> Iterator[SseEvent]: ...


async def encode_events(
    upstream: AsyncIterable[SseEvent], answer: ResponseEncoder
) -> AsyncIterator[SseEvent]:
    """Yield the events of a chat as those of another answer."""
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
        for choice in choices(data):
            for encoded in answer.take(choice):
                yield encoded

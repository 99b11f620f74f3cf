"""A provider's answer in one piece, as the events that it would have streamed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from llama_halo.gateway.convert.tool_calls import new_id
from llama_halo.gateway.http import answers
from llama_halo.gateway.http.json_codec import dumps
from llama_halo.gateway.http.sse import SseEvent

Json = dict[str, Any]


def chat_events(answer: Json) -> Iterator[SseEvent]:
    """Yield the events of a `chat.completion`, or of a completion."""
    choices = [_as_delta(choice) for choice in answers.objects(answer, "choices")]
    is_chat = any("delta" in choice for choice in choices)
    head = {"id": new_id("chatcmpl"), "created": int(time.time())}
    kind = "chat.completion.chunk" if is_chat else "text_completion"
    yield SseEvent.of({**head, **answer, "object": kind, "choices": choices})
    yield SseEvent.of("[DONE]")


def _as_delta(choice: Json) -> Json:
    message = choice.get("message")
    if not isinstance(message, dict):
        return choice
    others = {name: value for name, value in choice.items() if name != "message"}
    calls = message.get("tool_calls")
    if isinstance(calls, list):  # each entry is a call of its own
        numbered = [
            {**call, "index": number} if isinstance(call, dict) else call
            for number, call in enumerate(calls)
        ]
        message = {**message, "tool_calls": numbered}
    return {**others, "delta": message}


def message_events(answer: Json) -> Iterator[SseEvent]:
    """Yield the events of a message of Anthropic's API."""
    ending = {name: answer.get(name) for name in ("stop_reason", "stop_sequence")}
    start = {**answer, "content": [], "stop_reason": None, "stop_sequence": None}
    yield _event("message_start", message=start)
    for index, block in enumerate(answers.objects(answer, "content")):
        yield from _block(index, block)
    usage = answers.optional(answer, "usage", dict) or {}
    yield _event("message_delta", delta=ending, usage=usage)
    yield _event("message_stop")


_DELTAS = {"text": ("text", "text_delta"), "thinking": ("thinking", "thinking_delta")}


def _block(index: int, block: Json) -> Iterator[SseEvent]:
    """Yield the events of a block; only a streaming client looks for its text in deltas."""
    field, kind = _DELTAS.get(str(block.get("type")), ("", ""))
    text = block.get(field) if field else None
    start = {**block, field: ""} if isinstance(text, str) else block
    if block.get("type") == "tool_use":
        start = {**block, "input": {}}
    yield _event("content_block_start", index=index, content_block=start)
    if isinstance(text, str):
        yield _event("content_block_delta", index=index, delta={"type": kind, field: text})
    if block.get("type") == "tool_use":
        arguments = {"type": "input_json_delta", "partial_json": _json(block.get("input"))}
        yield _event("content_block_delta", index=index, delta=arguments)
    yield _event("content_block_stop", index=index)


def _json(value: Any) -> str:
    return dumps(value if isinstance(value, dict) else {}).decode()


def _event(kind: str, **fields: Any) -> SseEvent:
    return SseEvent.of({"type": kind, **fields}, kind)

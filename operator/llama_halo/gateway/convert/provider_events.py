"""The events of providers: errors in any form, and chunks of a chat in the form of the API."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from llama_halo.gateway.convert.tool_calls import ToolCallIndex
from llama_halo.gateway.http import answers
from llama_halo.gateway.http.errors import from_provider
from llama_halo.gateway.http.sse import SseEvent, events

_ERROR_FIELDS = ("detail", "errors", "message", "msg")


async def provider_events(data: AsyncIterable[bytes], provider: str) -> AsyncIterator[SseEvent]:
    """Yield a provider's events; raises `Failure`, in the provider's words, for an error."""
    async for event in events(data):
        value = event.value
        if event.name == "error" and not isinstance(value, dict | list):
            raise from_provider(provider, 200, event.data[:500])
        if event.name == "error" or _is_error(value):
            raise from_provider(provider, 200, value)
        yield event


def _is_error(value: Any) -> bool:
    if not isinstance(value, dict):
        return isinstance(value, list)
    kind = str(value.get("type") or value.get("object") or "")
    if value.get("error") or kind == "error" or kind.endswith("_error"):
        return True
    is_answer = "choices" in value or "usage" in value or kind
    return not is_answer and any(value.get(name) for name in _ERROR_FIELDS)


async def mended_chunks(chunks: AsyncIterable[SseEvent]) -> AsyncIterator[SseEvent]:
    """Yield the chunks of a chat with content as text, and calls of tools with an index of their
    own and arguments as JSON, for clients that get them unchanged."""
    indexes: dict[int, ToolCallIndex] = {}
    async for event in chunks:
        if not _may_need_mending(event.raw) or not isinstance(event.value, dict):
            yield event
            continue
        value = event.value
        for choice in answers.choices(value):
            index = indexes.setdefault(answers.index_of(choice, 0), ToolCallIndex())
            for piece in (choice.get("delta") or {}).get("tool_calls") or ():
                piece["index"] = index.assign(piece)[0]
        yield SseEvent.of(value)


def _may_need_mending(raw: bytes) -> bool:
    return b'"tool_calls"' in raw or b'"content":[' in raw or b'"content": [' in raw

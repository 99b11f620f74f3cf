"""Names of tools and ids of calls in a form that a provider takes, and back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any

from llama_halo.gateway.convert.common import mapping, objects_in
from llama_halo.gateway.convert.tool_calls import short_id
from llama_halo.gateway.http.sse import SseEvent

Json = dict[str, Any]
_OUTSIDE = re.compile(r"[^A-Za-z0-9_-]")
_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_HASH_CHARACTERS = 8


class ProviderTools:
    """The tools of one chat request, with names of at most `limit` letters, digits, `_` and `-`."""

    def __init__(self, chat: Json, limit: int, *, short_ids: bool = False) -> None:
        self._limit = limit
        self._short_ids = short_ids
        self._original: dict[str, str] = {}
        self.chat = self._fitted(chat)

    def _fitted(self, chat: Json) -> Json:
        fitted = {**chat, "messages": [self._message(message) for message in chat["messages"]]}
        if isinstance(chat.get("tools"), list):
            fitted["tools"] = [self._named(tool) for tool in objects_in(chat["tools"])]
        choice = chat.get("tool_choice")
        if isinstance(choice, dict):
            fitted["tool_choice"] = self._named(choice)
        return fitted

    def _message(self, message: Json) -> Json:
        calls = objects_in(message.get("tool_calls"))
        if calls:
            ids = [{**self._named(call), "id": self._call_id(call.get("id"))} for call in calls]
            return {**message, "tool_calls": ids}
        if "tool_call_id" in message:
            return {**message, "tool_call_id": self._call_id(message["tool_call_id"])}
        return message

    def _named(self, entry: Json) -> Json:
        function = mapping(entry.get("function"))
        name = function.get("name")
        if not isinstance(name, str) or not name:
            return entry
        fitted = self._name(name)
        return entry if fitted == name else {**entry, "function": {**function, "name": fitted}}

    def _name(self, name: str) -> str:
        allowed = _OUTSIDE.sub("_", name)
        if allowed == name and len(name) <= self._limit:
            return name
        fitted = (
            f"{allowed[: self._limit - _HASH_CHARACTERS - 1]}_{_digest(name)[:_HASH_CHARACTERS]}"
        )
        self._original[fitted] = name
        return fitted

    def _call_id(self, value: Any) -> str:
        text = str(value or "")
        is_allowed = not self._short_ids and _ID.fullmatch(text)
        return text if is_allowed else short_id(text)

    async def restored(self, events: AsyncIterator[SseEvent]) -> AsyncIterator[SseEvent]:
        """Yield the events of a chat answer with the client's names."""
        async for event in events:
            yield self._restored(event) if self._original else event

    def _restored(self, event: SseEvent) -> SseEvent:
        if not isinstance(event.value, dict):
            return event
        changed = False
        for choice in objects_in(event.value.get("choices")):
            for call in objects_in(mapping(choice.get("delta")).get("tool_calls")):
                function = mapping(call.get("function"))
                name = self._original.get(str(function.get("name")))
                if name is not None:
                    function["name"], changed = name, True
        return SseEvent.of(event.value) if changed else event


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()

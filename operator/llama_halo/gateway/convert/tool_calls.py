"""The calls of tools in an answer, assembled from their pieces."""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass
from typing import Any

from llama_halo.gateway.http import answers
from llama_halo.gateway.http.errors import malformed

Json = dict[str, Any]
_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")
_OWN = ("index", "id", "type", "function", "custom")


def new_id(kind: str) -> str:
    """Return a random id with a prefix: clients identify items of a conversation by it."""
    return f"{kind}_{uuid.uuid4().hex}"


def short_id(call_id: str) -> str:
    """Return an id of nine letters and digits, the only form that some servers and templates take;
    equal ids stay equal."""
    if _SHORT_ID.fullmatch(call_id):
        return call_id
    return hashlib.sha256(call_id.encode(errors="replace")).hexdigest()[:9]


@dataclass
class _Entry:
    """What is known of a call."""

    index: Any
    call_id: str
    has_name: bool


class ToolCallIndex:
    """Assigns the pieces of several tool calls: by index, and by id and name where a server gives
    every call the same index, or none."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def assign(self, piece: Json) -> tuple[int, bool]:
        """Return the position of the piece's call, and whether that call is new."""
        index, call_id = piece.get("index"), str(piece.get("id") or "")
        function = piece.get("function")
        fields = function if isinstance(function, dict) else {}
        has_name = bool(fields.get("name"))
        place = self._place(
            index, call_id, has_name=has_name, has_text=bool(fields.get("arguments"))
        )
        if place is not None:
            entry = self._entries[place]
            entry.call_id = entry.call_id or call_id
            entry.has_name = entry.has_name or has_name
            return place, False
        if len(self._entries) >= answers.MAX_INDEX:
            raise malformed(f"it has more than {answers.MAX_INDEX} tool calls")
        self._entries.append(_Entry(index, call_id, has_name))
        return len(self._entries) - 1, True

    def _place(self, index: Any, call_id: str, *, has_name: bool, has_text: bool) -> int | None:
        """Return the position of an earlier call that a piece continues."""
        places = [
            place
            for place, entry in enumerate(self._entries)
            if index is None or entry.index is None or entry.index == index
        ]
        for place in places:
            if call_id and self._entries[place].call_id == call_id:
                return place
        if not places:
            return None
        last = self._entries[places[-1]]
        if call_id and last.call_id:  # some servers send another id with each piece of a call
            return places[-1] if last.has_name and has_text and not has_name else None
        begins = has_name and last.has_name and (index is None or bool(call_id))
        return None if begins else places[-1]


@dataclass
class PendingCall:
    """A call whose pieces an encoder passes on as they come."""

    call_id: str = ""
    name: str = ""
    pending: str = ""
    """Arguments that the client has not got yet."""

    def take(self, piece: Json) -> None:
        """Add a piece; the name may come after the id."""
        function = piece.get("function") or {}
        self.call_id = str(piece.get("id") or self.call_id)
        self.name = str(function.get("name") or self.name)
        self.pending += str(function.get("arguments") or "")


class ToolCalls:
    """The calls of one choice of a chat answer."""

    def __init__(self) -> None:
        self._index = ToolCallIndex()
        self._calls: list[Json] = []

    def add(self, piece: Json) -> Json:
        """Add a piece, and return its call as far as it has arrived."""
        place, is_new = self._index.assign(piece)
        if is_new:
            empty = {"name": "", "arguments": ""}
            self._calls.append({"id": "", "type": "function", "function": empty})
        call, function = self._calls[place], piece.get("function") or {}
        call["id"] = piece.get("id") or call["id"]
        call["function"]["name"] = function.get("name") or call["function"]["name"]
        call["function"]["arguments"] += function.get("arguments") or ""
        for name, value in piece.items():
            if name == "custom" and isinstance(value, dict):
                _add_custom(call, value)
            elif name not in _OWN and value is not None:
                call[name] = value  # such as the signature of a provider's thoughts
        return call

    def complete(self) -> list[Json]:
        """Return the calls; one without an id gets one."""
        for call in self._calls:
            call["id"] = call["id"] or new_id("call")
            if "custom" in call:
                call.pop("function", None)
                call["type"] = "custom"
        return self._calls


def _add_custom(call: Json, piece: Json) -> None:
    """Add a piece of a call of a custom tool, as OpenAI's own servers send it."""
    custom = call.setdefault("custom", {"name": "", "input": ""})
    for name in ("name", "input"):
        if isinstance(piece.get(name), str):
            custom[name] += piece[name]

"""Identifies a request's conversation, which stays on one server and on one route."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any, NamedTuple

from llama_halo.gateway.http.json_codec import dumps

Json = dict[str, Any]
# Headers of Claude Code, OpenCode, Codex and Open WebUI.
_SESSION_HEADERS = (
    *("x-claude-code-session-id", "x-session-id", "x-session-affinity"),
    *("session-id", "thread-id", "x-openwebui-chat-id"),
)


class Session(NamedTuple):
    """A conversation of one API key: what two keys name alike are two sessions."""

    key: str
    """Digest of the key; empty without keys."""
    conversation: str
    """A hash that is unique across keys."""


def session_of(headers: Mapping[str, str], body: Json, key: str = "") -> Session:
    """Return the session of a request.

    Its conversation is known by an id that the client sends, else by its start, up to the first
    message that is not the system's.
    """
    return Session(key, _hashed(key.encode() + _conversation(headers, body)))


def _conversation(headers: Mapping[str, str], body: Json) -> bytes:
    for header in _SESSION_HEADERS:
        if named := headers.get(header):
            return named.encode(errors="replace")
    metadata = body.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    for identifier in (_session_id(user), body.get("prompt_cache_key"), user, body.get("user")):
        if isinstance(identifier, str) and identifier:
            return identifier.encode(errors="replace")
    opening = body.get("messages") or body.get("input") or body.get("prompt") or body.get("query")
    if isinstance(opening, list):
        opening = opening[: _first_of_user(opening) + 1]
    return dumps([body.get("system"), body.get("instructions"), opening])


def _first_of_user(messages: list[Any]) -> int:
    """Return the index of the first message that is not the system's."""
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ("system", "developer"):
            return place
    return len(messages)


def _hashed(data: bytes) -> str:
    return sha256(data).hexdigest()[:32]


def _session_id(user: Any) -> Any:
    """Return the session in Claude Code's user_id, which is JSON in a string."""
    with suppress(ValueError, RecursionError):
        parsed = json.loads(user) if isinstance(user, str) else None
        return parsed.get("session_id") if isinstance(parsed, dict) else None
    return None

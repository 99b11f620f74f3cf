"""Identifies the kind of client that sent a request."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

_AGENTS = (
    ("claude-cli", "claude-code"),
    ("codex", "codex"),
    ("opencode", "opencode"),
    ("qwencode", "qwen-code"),
    ("crush", "crush"),
    ("anthropic", "anthropic-sdk"),
    ("openai", "openai-sdk"),
    ("ollama", "ollama-sdk"),
    ("ai-sdk", "ai-sdk"),
    ("litellm", "litellm"),
)
_OPEN_WEBUI = ("x-openwebui-chat-id", "x-openwebui-user-id")
"""Sent if ENABLE_FORWARD_USER_INFO_HEADERS is set; its user agent does not identify it."""
_MAX_CHARACTERS = 1000
"""Of a user agent that are read."""
CODING_AGENTS = frozenset({"claude-code", "codex", "opencode", "qwen-code", "crush", "ai-sdk"})


def client_of(headers: Mapping[str, str]) -> str:
    """Return the kind of client that sent a request, from a fixed list; `other` if unknown."""
    if any(name in headers for name in _OPEN_WEBUI):
        return "open-webui"
    return _client_of_agent(headers.get("user-agent", "")[:_MAX_CHARACTERS])


@lru_cache(maxsize=256)
def _client_of_agent(agent: str) -> str:
    lower = agent.lower()
    return next((name for mark, name in _AGENTS if mark in lower), "other")

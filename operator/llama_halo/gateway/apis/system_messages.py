"""Folds system messages into user messages, for chat templates that accept one only at the start.

Strict templates refuse a system message anywhere else, and Claude Code sends one in every request.
The Anthropic, OpenAI and Ollama APIs join it to the neighbouring user message.
"""

from __future__ import annotations

from typing import Any

from llama_halo.gateway.convert.turns import Join

Json = dict[str, Any]
_SYSTEM = ("system", "developer")


def fold_system(messages: list[Json], join: Join, *, keeps_first: bool) -> list[Json]:
    """Return messages whose system messages are joined to the user's by `join`.

    With `keeps_first`, the leading system messages stay: as one, at the start.
    """
    folded: list[Json] = []
    is_open = False  # the last message is the user's, and ends with a system message
    for message in messages:
        is_system, content = message["role"] in _SYSTEM, message.get("content")
        before = folded[-1] if folded else {}
        joins_user = before.get("role") == "user" and (is_system or is_open)
        joins_first = is_system and len(folded) == 1 and before["role"] == "system"
        if is_system and keeps_first and not folded:
            folded.append({**message, "role": "system"})
        elif joins_first or (joins_user and (is_system or message["role"] == "user")):
            folded[-1] = {**before, "content": join(before.get("content"), content)}
        else:
            folded.append({**message, "role": "user"} if is_system else message)
        is_open = is_system and folded[-1]["role"] == "user"
    return folded

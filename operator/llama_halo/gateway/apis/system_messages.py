"""What the system says between other messages, for chat templates that take it first or not at all.

Strict templates refuse a system message anywhere but first, and Claude Code sends one in every
request. Both APIs make it part of what the user says beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
Content = Any
"""A string, or a list of parts."""
_SYSTEM = ("system", "developer")


def fold_system(
    messages: list[Json], join: Callable[[Content, Content], Content], *, keeps_first: bool
) -> list[Json]:
    """Return messages whose system messages are part of the user's, but for those at the start
    where one may stay first; `join` puts two contents together."""
    folded: list[Json] = []
    is_open = False  # the last message is the user's, made of the system's
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


def join_text(first: Content, second: Content) -> Content:
    """Return two texts as one with an empty line between, all else as a list of parts."""
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return join_parts(first, second)


def join_parts(first: Content, second: Content) -> Content:
    """Return two contents as one list of parts."""
    return [*parts_of(first), *parts_of(second)]


def parts_of(content: Content) -> list[Any]:
    """Return a content as a list of parts."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content if isinstance(content, list) else []

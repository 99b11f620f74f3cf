"""Keeps one copy of each short string of the objects that the cache holds.

A watch parses one object at a time, so that each has its own `metadata`, `name` and `containers`.
Those are half of its memory.
"""

from __future__ import annotations

from typing import Any

MAX_LEVELS = 50
"""Parts that are nested deeper stay as they are."""
MAX_LENGTH = 64
MAX_STRINGS = 20_000
"""Beyond it the copies are forgotten, and collected anew."""
_strings: dict[str, str] = {}


def share_strings(value: Any) -> Any:
    """Return an equal JSON value whose keys and short texts are shared with earlier values."""
    if len(_strings) > MAX_STRINGS:
        _strings.clear()
    return _shared(value, MAX_LEVELS)


def _shared(value: Any, levels: int) -> Any:
    if isinstance(value, str):
        return _text(value)
    if levels and isinstance(value, dict):
        return {_text(key): _shared(part, levels - 1) for key, part in value.items()}
    if levels and isinstance(value, list):
        return [_shared(part, levels - 1) for part in value]
    return value


def _text(text: str) -> str:
    return _strings.setdefault(text, text) if len(text) <= MAX_LENGTH else text

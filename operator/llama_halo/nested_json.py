"""Parses JSON in which something is nested too deeply for the parser: that value is cut out.

One object of a list would otherwise make the whole list unreadable.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_LEVELS = 200
CUT = "llama-halo.dev: nested too deeply"
"""Stands for a value that was cut out."""
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
"""A string, or one that the end cuts off, or a bracket: each byte is looked at once."""


def loads(data: bytes) -> tuple[Any, bool]:
    """Return the parsed JSON, and whether something was cut out; raises ValueError if invalid."""
    try:
        return json.loads(data), False
    except RecursionError:
        return json.loads(_without_deep(data)), True


def is_cut(value: Any) -> bool:
    """Tell whether something was cut out of a value that `loads` returned."""
    if isinstance(value, dict):
        return any(is_cut(part) for part in value.values())
    if isinstance(value, list):
        return any(is_cut(part) for part in value)
    return bool(value == CUT)


def _without_deep(data: bytes) -> bytes:
    """Replace each value on a level below `MAX_LEVELS`; one pass over the tokens."""
    kept: list[bytes] = []
    level = start = 0
    for token in _TOKEN.finditer(data):
        mark = token[0]
        if mark in b"[{":
            level += 1
            if level == MAX_LEVELS + 1:
                kept.append(data[start : token.start()])
        elif mark in b"]}":
            if level == MAX_LEVELS + 1:
                kept.append(json.dumps(CUT).encode())
                start = token.end()
            level -= 1
    return b"".join([*kept, data[start:] if level <= MAX_LEVELS else b""])

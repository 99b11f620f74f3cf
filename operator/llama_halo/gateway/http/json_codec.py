"""JSON by orjson, and by the standard library for what orjson refuses.

The fallback accepts lone surrogates, which clients send when they cut a text inside a character. An
integer of more than 64 bits becomes a float.
"""

from __future__ import annotations

import json
from typing import Any

import orjson


def loads(data: bytes | str) -> Any:
    """Parse JSON; raises ValueError or RecursionError if it is invalid."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        # The standard library would guess UTF-16, too.
        return json.loads(
            data if isinstance(data, str) else data.decode("utf-8-sig", "surrogatepass")
        )


def count_values(data: bytes | bytearray | str) -> tuple[int, int]:
    """Return at most how many values a JSON text has, and how many of them are objects or lists.

    It counts what is inside of texts, too.
    """
    if isinstance(data, str):
        containers = data.count("[") + data.count("{")
        return containers + data.count(","), containers
    containers = data.count(b"[") + data.count(b"{")
    return containers + data.count(b","), containers


def dumps(value: Any) -> bytes:
    """Return JSON as UTF-8; where it has lone surrogates, all non-ASCII characters are escaped."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()

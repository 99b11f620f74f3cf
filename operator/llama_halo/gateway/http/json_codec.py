"""JSON as fast as a gateway needs it, and as lenient as the standard library's with half a
character pair, which clients send when they cut a text. A number of more than 64 bits becomes a
float; pure.
"""

from __future__ import annotations

import json
from typing import Any

import orjson


def loads(data: bytes | str) -> Any:
    """Return what some JSON says; raises ValueError or RecursionError for what is none."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data)


def dumps(value: Any) -> bytes:
    """Return JSON; what no JSON in UTF-8 can be is written by its number."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()

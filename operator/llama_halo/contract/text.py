"""Text of others (logs, models, servers) that goes into a status or to a terminal."""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, changes of direction, and half surrogate pairs."""


def printable(text: str) -> str:
    """Return a text without the characters that a terminal would obey instead of showing."""
    return _UNPRINTABLE.sub("", text)

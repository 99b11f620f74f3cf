"""Finds secrets in texts, and removes them."""

from __future__ import annotations

import re
from typing import Any

REDACTED = "…"
_NAME = re.compile("key$|token|secret|passw|credential|authorization|^auth$", re.IGNORECASE)
_IN_TEXT = (
    (re.compile(r"(\w+://)[^/@\s\"']+@"), r"\1"),
    (re.compile(r"(\w+://[^?\s\"']+)\?[^\s\"']+"), r"\1"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"']+"), rf"\1 {REDACTED}"),
    (
        re.compile(
            r"(?i)((?:[\w-]*(?:api[_-]?key|token|secret|passw\w*|credential\w*))[=:])(?=\S)[^\s\"']+"
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"(?i)(--api-key(?:-file)?[= ])[^\s\"']+"), rf"\1{REDACTED}"),
    (re.compile(r"\b(?:sk|hf|gh[a-z]|xox[a-z]|glpat)[-_][A-Za-z0-9_-]{6,}"), REDACTED),
)


def is_secret(name: str) -> bool:
    """Tell by its name whether a setting's value is a secret."""
    return bool(_NAME.search(name))


def without_secrets(text: str) -> str:
    """Return a text without keys, tokens, and the users and queries of URLs."""
    for pattern, instead in _IN_TEXT:
        text = pattern.sub(instead, text)
    return text


def redact(value: Any) -> Any:
    """Return a YAML value with its secrets removed, at any depth."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, list):
        return [redact(item) for item in value]
    if isinstance(value, dict):
        return {
            name: REDACTED if is_secret(str(name)) and isinstance(item, str) else redact(item)
            for name, item in value.items()
        }
    return value


def one_line(text: str) -> str:
    """Return a text for a comment: without secrets, line ends and unprintable characters."""
    return without_secrets("".join(c if c.isprintable() else " " for c in text))

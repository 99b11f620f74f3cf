"""Finds secrets in texts, and removes them."""

from __future__ import annotations

import re
from typing import Any

REDACTED = "…"
_NAME = re.compile("key$|token|secret|passw|credential|authorization|^auth$", re.IGNORECASE)
_WORD = re.compile(r"[^\s\"']+")
_USER = re.compile(r"://[^/@]+@")
# Each pattern begins where a word begins, and its repetitions have bounds: the time is linear.
_IN_TEXT = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"']+"), rf"\1 {REDACTED}"),
    (
        re.compile(
            r"(?i)(?<![\w-])([\w-]{0,100}(?:api[_-]?key|token|secret|passw\w{0,20}|credential\w{0,20})"
            r"[=:])(?=\S)[^\s\"']+"
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
    text = _WORD.sub(_without_user_and_query, text)
    for pattern, instead in _IN_TEXT:
        text = pattern.sub(instead, text)
    return text


def _without_user_and_query(word: re.Match[str]) -> str:
    """Return a word of a text without the user and the query of the URL in it."""
    if "://" not in word[0]:
        return word[0]
    return _USER.sub("://", word[0].partition("?")[0])


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

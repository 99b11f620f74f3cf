"""What a request's shape says of its task; pure.

Claude Code tells nobody what a request is for. What tells is how it is built, which was found by
watching the real client: its own requests all ask for `adaptive` thinking, and those that name a
session have the main model's name, no tools and no thinking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]
SUBAGENT_HEADER = "x-claude-code-agent-id"
_HARD = ("high", "xhigh", "max")
_IMAGES = ("image", "image_url", "input_image")
_NESTED = ("content", "messages", "input")


@dataclass(frozen=True)
class Traits:
    """How a request is built."""

    background: bool = False
    """A side task, such as naming a session."""
    thinks: bool = False
    """Asks for much thinking."""
    searches: bool = False
    """Asks for a search of the web by the server."""
    sees: bool = False
    """Has an image anywhere."""
    subagent: bool = False
    letters: int = 0
    """Bytes of the request without its images, which its tokens grow with."""


def traits_of(headers: Mapping[str, str], body: Json, size_bytes: int) -> Traits:
    """Return how a request of any API is built; `size_bytes` is that of its body."""
    tools = [each for each in _listed(body.get("tools")) if isinstance(each, Mapping)]
    searches = any(str(each.get("type", "")).startswith("web_search") for each in tools)
    images = list(_images(body))
    return Traits(
        background=_is_background(body),
        thinks=_thinks_hard(body),
        searches=searches,
        sees=bool(images),
        subagent=SUBAGENT_HEADER in headers,
        letters=max(size_bytes - sum(images), 0),
    )


def _is_background(body: Json) -> bool:
    if "haiku" in str(body.get("model", "")):
        return True
    if body.get("tools") or _thinks(body):
        return False
    messages = _listed(body.get("messages")) or _listed(body.get("input"))
    return not any(
        isinstance(each, Mapping) and each.get("role") == "assistant" for each in messages
    )


def _thinks(body: Json) -> bool:
    thinking = body.get("thinking")
    return isinstance(thinking, Mapping) and thinking.get("type") in ("enabled", "adaptive")


def _thinks_hard(body: Json) -> bool:
    """Tell whether much thinking is asked for, in the words of any of the APIs."""
    thinking = body.get("thinking")
    if isinstance(thinking, Mapping) and thinking.get("type") == "enabled":
        return True
    efforts = [body.get("reasoning_effort"), body.get("think")]
    for name in ("output_config", "reasoning"):
        part = body.get(name)
        efforts.append(part.get("effort") if isinstance(part, Mapping) else None)
    return any(isinstance(each, str) and each in _HARD for each in efforts)


def _images(value: Any, depth: int = 0) -> Iterator[int]:
    """Yield the size of every image: in a message, in a tool's result, or beside the text."""
    if depth > 6:
        return
    if isinstance(value, list):
        for each in value:
            yield from _images(each, depth + 1)
    elif isinstance(value, Mapping):
        if value.get("type") in _IMAGES:
            yield _letters_of(value)
        pictures = value.get("images")
        if isinstance(pictures, list):
            yield from (len(each) for each in pictures if isinstance(each, str))
        for name in _NESTED:
            if isinstance(value.get(name), list):
                yield from _images(value[name], depth + 1)


def _letters_of(image: Json) -> int:
    """Return the length of an image's data, wherever the API keeps it."""
    source, url = image.get("source"), image.get("image_url")
    found = source.get("data") if isinstance(source, Mapping) else url
    found = found.get("url") if isinstance(found, Mapping) else found
    return len(found) if isinstance(found, str) else 0


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

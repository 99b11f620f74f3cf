"""The parts of a request's messages: which have a file, and whether a server would fetch it.

llama-server fetches every image, recording or video whose value is not inline. A model's server
therefore gets parts of known kinds alone, and only inline values in those that have a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_halo.gateway.convert.compatibility import SECTIONS

Json = Mapping[str, Any]
IMAGES = frozenset({"image", "image_url", "input_image"})
FILES = IMAGES | {
    *("document", "file", "input_file", "input_audio", "audio_url", "container_upload"),
    *("video", "input_video", "video_url"),
}
_KNOWN = FILES | {
    row.name
    for section in SECTIONS
    if section.category == "parts" and section.api != "ollama"
    for row in section.rows
}
_MAX_DEPTH = 6
_HOLDERS = (
    *("source", "image_url", "audio_url", "video_url"),
    *("input_audio", "input_video", "video", "file"),
)
"""Fields whose object has the file."""
_HELD = frozenset(_HOLDERS)
_URLS = ("url", "image_url", "audio_url", "video_url", "file_url")
_DESCRIPTIONS = frozenset(
    {
        *("type", "text", "title", "context", "name", "filename", "file_name", "file_id", "id"),
        *("format", "media_type", "mime_type", "detail", "prompt_cache_breakpoint"),
    }
)
"""Fields of a file that hold no value that a server reads as one."""
_BASE64 = re.compile(r"[A-Za-z0-9+/=_\s-]*")
_CONTENTS = ("content", "output")
_NESTED = (*_CONTENTS, "messages", "input")


@dataclass(frozen=True)
class ContentParts:
    """What the parts of a request's messages are."""

    has_image: bool = False
    has_remote_url: bool = False
    """Has a value that a server would have to fetch."""
    file_bytes: int = 0
    """Bytes of the body that are inline data and URLs of files."""
    unknown: str = ""
    """The first part that is not of a known kind, such as `messages.0.content.1.type: 'x'`."""


def content_parts_of(body: Json) -> ContentParts:
    """Return what a request of any API has: in messages, tool results, and beside the text."""
    files: list[_File] = []
    _collect_files(body, files)
    return ContentParts(
        has_image=any(file.is_image for file in files),
        has_remote_url=any(file.is_remote for file in files),
        file_bytes=sum(file.data_bytes for file in files),
        unknown=_unknown_part(body),
    )


def _unknown_part(body: Json) -> str:
    for listed in ("messages", "input"):
        items = body.get(listed)
        for index, item in enumerate(items if isinstance(items, list) else ()):
            for field in _CONTENTS if isinstance(item, dict) else ():
                if unknown := _unknown_among(item.get(field)):
                    return f"{listed}.{index}.{field}{unknown}"
    return ""


def _unknown_among(content: Any, depth: int = 0) -> str:
    """Return the first part that is not of a known kind, with its path in the content."""
    for index, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, dict):
            continue
        kind = part.get("type")
        if not isinstance(kind, str) or kind not in _KNOWN:
            return f".{index}.type: {'nothing' if kind is None else repr(str(kind)[:40])}"
        if depth < _MAX_DEPTH and (unknown := _unknown_among(part.get("content"), depth + 1)):
            return f".{index}.content{unknown}"
    return ""


@dataclass(frozen=True)
class _File:
    """A file of a request."""

    is_image: bool
    data_bytes: int
    """Bytes in the body: inline data and URLs."""
    is_remote: bool = False
    """Whether a server would have to fetch it."""


def _collect_files(value: Any, files: list[_File], depth: int = 0) -> None:
    """Append each file of a value: in messages, in tool results, and beside the text."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for item in value:
            if isinstance(item, (dict, list)):
                _collect_files(item, files, depth + 1)
    elif isinstance(value, dict):
        kind = value.get("type")
        is_file = isinstance(kind, str) and kind in FILES
        # llama-server also reads parts whose type is missing or says something else.
        if is_file or any(isinstance(value[name], dict) for name in _HELD & value.keys()):
            files.append(_file(value, is_image=is_file and kind in IMAGES))
        pictures = value.get("images")
        if isinstance(pictures, list):
            files += [
                _File(is_image=True, data_bytes=len(picture))
                for picture in pictures
                if isinstance(picture, str)
            ]
        for name in _NESTED:
            if isinstance(value.get(name), list):
                _collect_files(value[name], files, depth + 1)


def _file(part: Json, *, is_image: bool) -> _File:
    """Return the file of a part of a message, from every field that may hold it: servers differ in
    which of them they read."""
    source = part.get("source")
    data_bytes, is_remote = 0, False
    for holder in (part, *(part.get(name) for name in _HOLDERS)):
        if not isinstance(holder, dict):
            continue
        # A text document of Anthropic's API is no file that a server would fetch.
        is_text = holder is source and source.get("type") == "text"
        for name, value in holder.items():
            if not isinstance(value, str) or name in _DESCRIPTIONS:
                continue
            data_bytes += len(value)
            is_inline = value.startswith("data:") or (name not in _URLS and _is_base64(value))
            is_remote = is_remote or not (is_text or is_inline)
    return _File(is_image, data_bytes, is_remote)


def _is_base64(data: str) -> bool:
    start = data[:64]
    return not start.lower().startswith(("http", "file")) and bool(_BASE64.fullmatch(start))

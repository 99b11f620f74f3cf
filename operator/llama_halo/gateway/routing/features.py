"""What a request's shape says of its task; pure.

Claude Code tells nobody what a request is for. What tells is how it is built, which was found by
watching the real client: its own requests all ask for `adaptive` thinking, and those that name a
session have the main model's name, no tools and no thinking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llama_halo.gateway.routing.clients import CODING_AGENTS, client_of

Json = Mapping[str, Any]
SUBAGENT_HEADER = "x-claude-code-agent-id"
_HARD = ("high", "xhigh", "max")
_IMAGES = ("image", "image_url", "input_image")
_OTHERS = ("document", "file", "input_file", "input_audio", "audio_url", "video_url")
_FILE_FIELDS = ("source", "image_url", "audio_url", "video_url", "input_audio", "file")
_NESTED = ("content", "messages", "input", "output")
_TASKS = (
    *("### Task:", "Your task is to reflect the speaker's likely facial expression"),
    *("Given the following... please reply with a title for the chat",),
)
"""How Open WebUI and Continue begin what they ask for themselves."""


@dataclass(frozen=True)
class RequestFeatures:
    """How a request is built."""

    background: bool = False
    """A side task, such as naming a session."""
    wants_thinking: bool = False
    """Asks for much thinking."""
    wants_web_search: bool = False
    """Asks for a search of the web by the server."""
    has_image: bool = False
    """Has an image anywhere."""
    has_remote_url: bool = False
    """A picture or a file of it is only an address."""
    subagent: bool = False
    text_bytes: int = 0
    """Bytes of the request without its images and files, which its tokens grow with."""


def features_of(headers: Mapping[str, str], body: Json, size_bytes: int) -> RequestFeatures:
    """Return how a request of any API is built; `size_bytes` is that of its body."""
    tools = [tool for tool in _listed(body.get("tools")) if isinstance(tool, Mapping)]
    # Codex has the tool in every request, among its own.
    wants_web_search = bool(tools) and all(
        str(tool.get("type", "")).startswith("web_search") for tool in tools
    )
    files = list(_files(body))
    return RequestFeatures(
        background=_is_background(headers, body),
        wants_thinking=_thinks_hard(body),
        wants_web_search=wants_web_search,
        has_image=any(is_image for is_image, _ in files),
        has_remote_url=any(
            not address.startswith("data:") for _, file in files for address in file.addresses
        ),
        subagent=SUBAGENT_HEADER in headers,
        text_bytes=max(size_bytes - sum(file.data_bytes for _, file in files), 0),
    )


def _is_background(headers: Mapping[str, str], body: Json) -> bool:
    """Tell whether a request is one that a client makes for itself: by its name, or without tools,
    thoughts and earlier answers, from one that works with tools, or in the words of one."""
    if "haiku" in str(body.get("model", "")):
        return True
    if body.get("tools") or _thinks(body):
        return False
    messages = _listed(body.get("messages")) or _listed(body.get("input"))
    if not messages or any(_role(message) == "assistant" for message in messages):
        return False
    output_config = body.get("output_config")
    return (
        client_of(headers) in CODING_AGENTS
        or (isinstance(output_config, Mapping) and "format" in output_config)
        or _first_words(messages[-1]).startswith(_TASKS)
    )


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, Mapping) else None


def _first_words(message: Any) -> str:
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, list) and content and isinstance(content[0], Mapping):
        content = content[0].get("text")
    return content if isinstance(content, str) else ""


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
    return any(isinstance(effort, str) and effort in _HARD for effort in efforts)


@dataclass(frozen=True)
class _File:
    """Where a file's data is: inline, or at addresses."""

    data_bytes: int = 0
    addresses: tuple[str, ...] = ()


def _files(value: Any, depth: int = 0) -> Iterator[tuple[bool, _File]]:
    """Yield every image and every other file, as what it is and where its data is: in a message, in
    a tool's result, or beside the text."""
    if depth > 6:
        return
    if isinstance(value, list):
        for item in value:
            yield from _files(item, depth + 1)
    elif isinstance(value, Mapping):
        if value.get("type") in (*_IMAGES, *_OTHERS):
            yield value["type"] in _IMAGES, _file(value)
        pictures = value.get("images")
        if isinstance(pictures, list):
            yield from (
                (True, _File(len(picture))) for picture in pictures if isinstance(picture, str)
            )
        for name in _NESTED:
            if isinstance(value.get(name), list):
                yield from _files(value[name], depth + 1)


def _file(part: Json) -> _File:
    """Return what a part of a message has of a file, wherever the API keeps it: all of it, for
    nobody knows which of it a server looks at."""
    holders = (part, *(part.get(holder) for holder in _FILE_FIELDS))
    data_bytes, addresses = 0, []
    for holder in holders:
        if not isinstance(holder, Mapping):
            continue
        for name in ("data", "file_data"):
            data_bytes += len(holder[name]) if isinstance(holder.get(name), str) else 0
        for name in ("url", "image_url", "audio_url", "video_url", "file_url"):
            address = holder.get(name)
            if isinstance(address, str):
                data_bytes += len(address)
                addresses.append(address)
    return _File(data_bytes, tuple(addresses))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

"""Infers the task of a request from its shape.

Claude Code does not state what a request is for. These rules come from watching the real client:
its main requests all ask for `adaptive` thinking, and those that name a session have the main
model's name, no tools and no thinking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_halo.gateway.routing.clients import CODING_AGENTS, client_of
from llama_halo.gateway.routing.content_parts import content_parts_of

Json = Mapping[str, Any]
SUBAGENT_HEADER = "x-claude-code-agent-id"
_HARD = ("high", "xhigh", "max")
_TASKS = (
    *("### Task:", "Your task is to reflect the speaker's likely facial expression"),
    *("Given the following... please reply with a title for the chat",),
)
"""How Open WebUI and Continue begin the prompts of their own tasks."""


@dataclass(frozen=True)
class RequestFeatures:
    """The properties of a request that routing depends on."""

    background: bool = False
    """A side task, such as naming a session."""
    wants_thinking: bool = False
    """Asks for a thinking budget or for high effort."""
    wants_web_search: bool = False
    """Has web search tools that the server would run, and no others."""
    has_image: bool = False
    """Has an image in a message, in a tool result, or beside the text."""
    has_remote_url: bool = False
    """Has an image or file by URL instead of inline."""
    unknown_part: str = ""
    """The first part of a message that is not of a known kind, with its path."""
    subagent: bool = False
    text_bytes: int = 0
    """Bytes of the request without images and files: the basis for estimating its tokens."""


def features_of(headers: Mapping[str, str], body: Json, size_bytes: int) -> RequestFeatures:
    """Return the features of a request of any API; `size_bytes` is the size of its body."""
    tools = [tool for tool in _listed(body.get("tools")) if isinstance(tool, dict)]
    # Codex sends the web search tool in every request, among its own tools.
    wants_web_search = bool(tools) and all(
        str(tool.get("type", "")).startswith("web_search") for tool in tools
    )
    parts = content_parts_of(body)
    return RequestFeatures(
        background=_is_background(headers, body),
        wants_thinking=_wants_thinking(body),
        wants_web_search=wants_web_search,
        has_image=parts.has_image,
        has_remote_url=parts.has_remote_url,
        unknown_part=parts.unknown,
        subagent=SUBAGENT_HEADER in headers,
        text_bytes=max(size_bytes - parts.file_bytes, 0),
    )


def _is_background(headers: Mapping[str, str], body: Json) -> bool:
    """Tell whether a client makes the request for itself, such as to name a session.

    True for a haiku model. Else the request has no tools, no thinking and no earlier answer, and it
    comes from a coding agent, asks for an output format, or begins like a known task.
    """
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
        or (isinstance(output_config, dict) and "format" in output_config)
        or _first_words(messages[-1]).startswith(_TASKS)
    )


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _first_words(message: Any) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list) and content and isinstance(content[0], dict):
        content = content[0].get("text")
    return content if isinstance(content, str) else ""


def _thinks(body: Json) -> bool:
    thinking = body.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")


def _wants_thinking(body: Json) -> bool:
    """Tell whether a request of any API asks for a thinking budget or for high effort."""
    thinking = body.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") == "enabled":
        return True
    efforts = [body.get("reasoning_effort"), body.get("think")]
    for name in ("output_config", "reasoning"):
        part = body.get(name)
        efforts.append(part.get("effort") if isinstance(part, dict) else None)
    return any(isinstance(effort, str) and effort in _HARD for effort in efforts)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

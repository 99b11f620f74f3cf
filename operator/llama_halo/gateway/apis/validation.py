"""Validation that several APIs share."""

from __future__ import annotations

from typing import Any

from multidict import CIMultiDictProxy

from llama_halo.gateway.http.errors import Failure

Json = dict[str, Any]
_FORWARDED_HEADERS = ("anthropic-version", "anthropic-beta")
MAX_NAME_CHARACTERS = 512


def validate_model(body: Any) -> Json:
    """Return the body; raises `Failure` (400) unless it is an object with a model name."""
    if not isinstance(body, dict):
        raise Failure(400, "the request body must be a JSON object")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Failure(400, "model: a model name is required")
    if len(body["model"]) > MAX_NAME_CHARACTERS:
        raise Failure(400, f"model: a model name has at most {MAX_NAME_CHARACTERS} characters")
    if not isinstance(body.get("stream", False), bool | None):
        raise Failure(400, "stream: true or false is required")
    return body


def validate_messages(body: Any) -> Json:
    """Return the body; raises `Failure` (400) unless it has a model name and messages with roles.

    llama-server answers these mistakes with 500, and clients retry a 500 for minutes.
    """
    messages = validate_model(body).get("messages")
    if not isinstance(messages, list) or not messages:
        raise Failure(400, "messages: a list with at least one message is required")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise Failure(400, f"messages.{index}.role: a role is required")
    checked_body: Json = body
    return checked_body


def check_content(content: Any, path: str) -> None:
    """Raise `Failure` (400) unless a content is absent, a text, or a list of parts with types."""
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise Failure(400, f"{path}: a text or a list of parts is required")
    for index, part in enumerate(content):
        if not isinstance(part, dict):
            raise Failure(400, f"{path}.{index}: a part must be an object with a type")
        if not isinstance(part.get("type", ""), str):
            raise Failure(400, f"{path}.{index}.type: a string is required")


def check_tools(body: Json) -> None:
    """Raise `Failure` (400) for a tool whose type or name is no string."""
    tools = body.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if not isinstance(tool, dict):
            continue
        function = tool.get("function")
        for holder in (tool, function) if isinstance(function, dict) else (tool,):
            for field in ("type", "name"):
                value = holder.get(field)
                if value is not None and not isinstance(value, str):
                    raise Failure(400, f"tools.{index}.{field}: a string is required")


def forwarded_headers(headers: CIMultiDictProxy[str]) -> dict[str, str]:
    """Return the headers for a provider of the client's own API: its version and beta features.

    A header in several lines is one list.
    """
    return {name: ",".join(headers.getall(name)) for name in _FORWARDED_HEADERS if name in headers}

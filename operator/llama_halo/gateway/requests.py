"""What every generation request must have, whichever API it came by; pure."""

from __future__ import annotations

from typing import Any

from llama_halo.gateway.failures import Failure

Json = dict[str, Any]


def checked(body: Any) -> Json:
    """Return the body when it is an object with a model name and messages with roles.

    llama-server answers all of these mistakes with 500, which clients repeat for minutes.
    """
    if not isinstance(body, dict):
        raise Failure(400, "the request body must be a JSON object")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Failure(400, "model: a model name is required")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Failure(400, "messages: a list with at least one message is required")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise Failure(400, f"messages.{index}.role: a role is required")
    return body

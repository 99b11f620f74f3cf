"""The client APIs, and how each reports an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llama_halo.gateway.http.errors import Failure, anthropic_error, ollama_error, openai_error
from llama_halo.gateway.http.sse import encode

Json = dict[str, Any]


@dataclass(frozen=True)
class Api:
    """A client API."""

    name: str
    error: Callable[[Failure, str], Json]
    """Returns the body of an error response; the text is the request id."""
    stream_error: Callable[[Failure, str], bytes]
    """Returns the bytes of an error in a stream whose status was already sent."""


def _openai_body(failure: Failure, _: str) -> Json:
    return openai_error(failure)


def _ollama_line(failure: Failure, _: str) -> bytes:
    return (json.dumps(ollama_error(failure)) + "\n").encode()


def _failed_response(failure: Failure, number: str) -> bytes:
    error = openai_error(failure)["error"]
    details = {"code": error["code"] or "server_error", "message": error["message"]}
    response = {
        "id": number.replace("req_", "resp_"),
        "object": "response",
        "status": "failed",
        "error": details,
        "output": [],
    }
    return encode({"type": "response.failed", "response": response}, "response.failed")


ANTHROPIC = Api(
    "anthropic",
    anthropic_error,
    lambda failure, number: encode(anthropic_error(failure, number), "error"),
)
OPENAI = Api("openai", _openai_body, lambda failure, _: encode(openai_error(failure)))
RESPONSES = Api("responses", _openai_body, _failed_response)
OLLAMA = Api("ollama", lambda failure, _: ollama_error(failure), _ollama_line)

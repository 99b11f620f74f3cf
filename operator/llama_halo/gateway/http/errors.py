"""The failures of a request, and the error body of each client API."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

LOADING, UNAVAILABLE = "model_loading", "model_unavailable"
"""Values of OpenAI's `code` for failures that pass by themselves."""
MODEL_NOT_FOUND = "model_not_found"
QUEUE_FULL, PROVIDER, LOST = "queue_full", "provider_unavailable", "connection_lost"
LOADING_RETRY_SECONDS = 20
CONNECT_RETRY_SECONDS = 5

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}
_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}
# llama-server answers these client mistakes with 500, and clients retry a 500 for minutes.
_CLIENT_FAULT = re.compile(
    r"jinja|template|image input is not supported|audio input|parse error"
    r"|invalid (json|type|argument|role|message|content|tool|grammar|schema)|must be (a|an|one)\b"
    r"|^missing\b|'[^']*' is (required|missing|not)|unsupported (content|role|type|param)"
    r"|type_error|out_of_range|failed to parse (messages|tools|grammar|json)|invalid url"
    r"|url must be|^only .* supported|cannot use both|does not support|must not be empty",
    re.IGNORECASE,
)
# The server's own errors: a retry often succeeds.
_SERVER_FAULT = re.compile(r"produced output|empty grammar stack|allocate|memory|decode", re.I)


@dataclass(eq=False)
class Failure(Exception):
    """A failed request: HTTP status, message for the client, and fields that some APIs need."""

    status: int
    message: str
    code: str | None = None
    """OpenAI's machine-readable code."""
    retry_after_seconds: int | None = None
    model_name: str = ""
    """The requested name, if it is unknown."""
    tokens: tuple[int, int] | None = None
    """(prompt tokens, context) when the prompt does not fit."""
    quoted_status: int = 0
    """The status with which a server sent the message, which may quote the request; 0 if the
    message is the gateway's."""

    @property
    def log_message(self) -> str:
        """The message for the log; empty where it may quote a client's mistake."""
        if self.quoted_status:
            return f"the server answered {self.quoted_status} ({len(self.message)} characters)"
        return self.message[:300] if self.status >= 500 or self.code else ""

    @property
    def is_transient(self) -> bool:
        """Whether the model's server was lost or is not up yet, before it answered anything."""
        return self.code in (LOADING, UNAVAILABLE, LOST)

    @property
    def allows_fallback(self) -> bool:
        """Whether the dispatcher may try the model's fallbacks."""
        return self.is_transient or self.code == PROVIDER

    @property
    def headers(self) -> dict[str, str]:
        if self.retry_after_seconds is None:
            return {}
        return {"Retry-After": str(self.retry_after_seconds)}


def anthropic_error(failure: Failure, request_id: str) -> dict[str, Any]:
    """Return the Anthropic error body.

    A prompt that is too long gets Anthropic's own message, on which Claude Code compacts the
    conversation.
    """
    message = failure.message
    if failure.tokens:
        message = f"prompt is too long: {failure.tokens[0]} tokens > {failure.tokens[1]} maximum"
    # Never overloaded_error: Claude Code gives up on that after three tries in six seconds.
    kind = _ANTHROPIC_TYPES.get(failure.status, "api_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": request_id,
    }


def openai_error(failure: Failure) -> dict[str, Any]:
    """Return the OpenAI error body."""
    message, code = failure.message, failure.code
    if failure.tokens:
        message = (
            f"This model's maximum context length is {failure.tokens[1]} tokens. However, your"
            f" messages resulted in {failure.tokens[0]} tokens."
        )
        code = "context_length_exceeded"
    kind = _OPENAI_TYPES.get(failure.status, "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def ollama_error(failure: Failure) -> dict[str, Any]:
    """Return Ollama's error body; an unknown model gets the message that Ollama's clients check."""
    if failure.tokens:
        return {
            "error": f"the prompt ({failure.tokens[0]} tokens) exceeds the available context size"
            f" ({failure.tokens[1]} tokens)"
        }
    if failure.code == MODEL_NOT_FOUND:
        return {"error": f"model '{failure.model_name}' not found"}
    return {"error": failure.message}


def from_stream_error(error: Any) -> Failure:
    """Return the failure for an error inside a stream: an object or a string.

    A code outside 400 to 599 becomes 500. The codes 401, 403 and 404 become 502: they concern the
    gateway's own request, not the client's.
    """
    error = error if isinstance(error, Mapping) else {"message": str(error)}
    code = error.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    if status in (401, 403, 404):
        status = 502
    return from_upstream(status, {"error": error})


def from_upstream(status: int, body: Mapping[str, Any]) -> Failure:
    """Return the failure for an error response of llama-server."""
    error = body.get("error")
    error = error if isinstance(error, Mapping) else {}
    message = str(error.get("message") or f"llama-server answered {status}")
    if error.get("type") == "exceed_context_size_error":
        counts = [error.get(name) for name in ("n_prompt_tokens", "n_ctx")]
        tokens = [count if isinstance(count, int) else 0 for count in counts]
        return Failure(400, message, tokens=(tokens[0], tokens[1]))
    if status == 503:
        return loading("the model is still loading")
    if status == 501 or (status == 500 and _is_clients_fault(message)):
        return Failure(400, message, quoted_status=status)
    return Failure(status, message, quoted_status=status)


def _is_clients_fault(message: str) -> bool:
    return bool(_CLIENT_FAULT.search(message)) and not _SERVER_FAULT.search(message)


def from_provider(
    provider: str, status: int, body: Mapping[str, Any], retry_after_seconds: int | None
) -> Failure:
    """Return the failure for an error response of a provider.

    An error of the request (400, 413, 415, 422) goes to the client. Any other error is between
    the router and the provider (key, quota, outage): the dispatcher tries the model's fallbacks.
    """
    error = body.get("error")
    detail = error.get("message") if isinstance(error, Mapping) else error
    provider_message = str(detail or body.get("message") or f"it answered {status}")[:500]
    message = f"provider {provider}: {provider_message}"
    if status in (400, 413, 415, 422):
        # Keep the provider's message: clients recognize some, such as that of too long a prompt.
        return Failure(413 if status == 413 else 400, provider_message, quoted_status=status)
    if status == 429:
        again = retry_after_seconds or 5
        return Failure(429, message, code=PROVIDER, retry_after_seconds=again, quoted_status=status)
    return Failure(
        502, message, code=PROVIDER, retry_after_seconds=retry_after_seconds, quoted_status=status
    )


def internal_error(error: Exception, request_id: str) -> Failure:
    """Log an exception that nothing expects, and return its failure."""
    log.error("request failed", extra={"request_id": request_id}, exc_info=error)
    return Failure(500, f"the request could not be handled ({type(error).__name__})")


def ended_early() -> Failure:
    """Return the failure of an answer that ended before it was complete."""
    return Failure(502, "the model's server closed the connection before the answer was complete")


def malformed(detail: str) -> Failure:
    """Return the failure of an answer that does not have the shape of its API.

    The detail goes to the log, so it quotes nothing of the answer.
    """
    return Failure(502, f"the model's server sent an invalid answer: {detail}")


def loading(message: str) -> Failure:
    """Return the failure of a model that is not up yet; the client may retry."""
    return Failure(503, message, code=LOADING, retry_after_seconds=LOADING_RETRY_SECONDS)


def unreachable(model: str) -> Failure:
    """Return the failure of a server that accepts no connections."""
    return Failure(
        503,
        f"the server of model {model} refuses connections; it may be restarting",
        code=UNAVAILABLE,
        retry_after_seconds=CONNECT_RETRY_SECONDS,
    )


def shutting_down() -> Failure:
    """Return the failure of a request that the gateway aborts when it shuts down."""
    return Failure(
        503,
        "this pod of the router is shutting down, and the answer was not complete: retry",
        retry_after_seconds=CONNECT_RETRY_SECONDS,
    )

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
# How llama-server and its libraries begin the messages of their own faults, for which a retry may
# succeed. Every other 500 before the first token is a request that it could not read, or that the
# chat template refuses; those messages quote the request, so only their start is compared.
_SERVER_FAULT = re.compile(
    r"(compute error|invalid input batch|context size has been exceeded|an unknown error"
    r"|failed to (process|decode|encode|allocate|reload|remove|load prompt|initialize the context)"
    r"|(llama|mtmd)_(decode|encode)\b|(unable|cannot) to? ?allocate|out of memory"
    r"|std::|vk::|ggml_|(vulkan|hip|rocm|cuda|ggml)[ _]?(error|failure)|basic_string|vector::"
    r"|(the )?model produced|unexpected empty grammar stack|failed to parse input)",
    re.IGNORECASE,
)
_TEMPLATE_RAISED = re.compile(
    r"While executing CallExpression|raise_exception|roles must alternate"
)
_TOO_LONG = re.compile(
    r"maximum (context|prompt|model) length|context (length|window|size)|prompt is too long"
    r"|input is too long|too many (input )?tokens|input token count|too large for model"
    r"|exceed\w* (the )?(model token limit|max length)|tokens \+ `?max_new_tokens`? must be",
    re.IGNORECASE,
)
_ANOTHER_FAULT = re.compile(r"(invalid|unsupported|unknown|unrecognized|max_tokens|schema)\b", re.I)
"""How messages begin that may name a context, and are about something else."""
_OVERFLOW_CODES = (None, "context_length_exceeded", "invalid_request_error", "bad_request")
_LIMIT = re.compile(
    r"(?:maximum (?:context|prompt|model) length (?:is|of)|allowed \(|context size \(|>|<=)"
    r" *([\d,]+)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<!\d)\d[\d,]{2,9}(?!\d)")
MAX_CODE_CHARACTERS = 100


@dataclass(eq=False)
class Failure(Exception):
    """A failed request: HTTP status, message for the client, and fields that some APIs need."""

    status: int
    message: str
    code: str | None = None
    """The gateway's machine-readable code."""
    provider_code: str | None = None
    """A provider's own code, which goes to OpenAI's clients."""
    param: str | None = None
    """The field that a provider names as wrong."""
    retry_after_seconds: int | None = None
    model_name: str = ""
    """The requested name, if it is unknown."""
    tokens: tuple[int, int] | None = None
    """(prompt tokens, context) when the prompt does not fit; zeros where they are not known."""
    is_template_refusal: bool = False
    """Whether the model's chat template raised an exception of its own."""
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
    if failure.tokens and all(failure.tokens):
        message = f"prompt is too long: {failure.tokens[0]} tokens > {failure.tokens[1]} maximum"
    elif failure.tokens:
        message = f"prompt is too long: {message}"
    # Never overloaded_error: Claude Code gives up on that after three tries in six seconds.
    kind = _ANTHROPIC_TYPES.get(failure.status, "api_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": request_id,
    }


def openai_error(failure: Failure) -> dict[str, Any]:
    """Return the OpenAI error body."""
    message, code = failure.message, failure.provider_code or failure.code
    if failure.tokens:
        code = "context_length_exceeded"
        if all(failure.tokens):
            message = (
                f"This model's maximum context length is {failure.tokens[1]} tokens. However, your"
                f" messages resulted in {failure.tokens[0]} tokens."
            )
    kind = _OPENAI_TYPES.get(failure.status, "server_error")
    return {"error": {"message": message, "type": kind, "param": failure.param, "code": code}}


def ollama_error(failure: Failure) -> dict[str, Any]:
    """Return Ollama's error body; an unknown model gets the message that Ollama's clients check."""
    if failure.tokens and all(failure.tokens):
        return {
            "error": f"the prompt ({failure.tokens[0]} tokens) exceeds the available context size"
            f" ({failure.tokens[1]} tokens)"
        }
    if failure.code == MODEL_NOT_FOUND:
        return {"error": f"model '{failure.model_name}' not found"}
    return {"error": failure.message}


def from_stream_error(error: Any) -> Failure:
    """Return the failure for an error of llama-server inside a stream: an object or a string.

    A code outside 400 to 599 becomes 500. The codes 401, 403 and 404 become 502: they concern the
    gateway's own request, not the client's.
    """
    error = error if isinstance(error, Mapping) else {"message": str(error)}
    code = error.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    if status in (401, 403, 404):
        status = 502
    return _of_llama_server(status, error)


def from_upstream(status: int, body: Mapping[str, Any]) -> Failure:
    """Return the failure for an error response of llama-server, before the first token.

    llama-server answers a request that it cannot read, and one that the chat template refuses,
    with 500, and clients retry a 500 for minutes. Such a request never succeeds, so it is 400.
    """
    error = body.get("error")
    error = error if isinstance(error, Mapping) else {}
    failure = _of_llama_server(status, error)
    message = failure.message
    is_its_own = bool(error.get("type") or error.get("code"))  # a proxy between sends neither
    is_its_fault = not is_its_own or _SERVER_FAULT.match(message.lstrip())
    if status == 501 or (status == 500 and not is_its_fault):
        failure.status = 400
    failure.is_template_refusal = failure.status == 400 and bool(_TEMPLATE_RAISED.search(message))
    return failure


def _of_llama_server(status: int, error: Mapping[str, Any]) -> Failure:
    message = str(error.get("message") or f"llama-server answered {status}")
    if error.get("type") == "exceed_context_size_error":
        counts = [error.get(name) for name in ("n_prompt_tokens", "n_ctx")]
        tokens = [count if isinstance(count, int) else 0 for count in counts]
        return Failure(400, message, tokens=(tokens[0], tokens[1]))
    if status == 503:
        return loading("the model is still loading")
    return Failure(status, message, quoted_status=status)


@dataclass(frozen=True)
class _ProviderError:
    """What a provider says of an error, in any of the forms that providers use."""

    message: str = ""
    code: str | None = None
    param: str | None = None
    status: int | None = None
    """The status that the error itself names."""

    @property
    def tokens(self) -> tuple[int, int] | None:
        """(prompt tokens, context) if the prompt does not fit; zeros where the text has none."""
        start = self.message[:500]
        says_so = _TOO_LONG.search(start) and not _ANOTHER_FAULT.match(start)
        if self.code not in _OVERFLOW_CODES:
            return None
        if self.code != "context_length_exceeded" and not says_so:
            return None
        numbers = sorted({int(number.replace(",", "")) for number in _NUMBER.findall(start)})
        named = _LIMIT.search(start)
        limit = int(named[1].replace(",", "") or 0) if named else 0
        used = numbers[-1] if numbers else 0
        limit = limit or (numbers[-2] if len(numbers) > 1 else 0)
        return (used, limit) if used > limit > 0 else (0, 0)


_TYPE_STATUSES = {
    "invalid_request_error": 400,
    "request_too_large": 413,
    "authentication_error": 401,
    "permission_error": 403,
    "rate_limit_error": 429,
    "overloaded_error": 529,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "context_length_exceeded": 400,
}


def _provider_error(body: Any) -> _ProviderError:
    """Read an error body in any of the forms that providers use: `error`, `errors` or `detail`, as
    an object, a text or a list of those; or `message` or `msg` alone."""
    if isinstance(body, list):
        body = body[0] if body else {}
    if isinstance(body, str):
        return _ProviderError(body)
    if not isinstance(body, Mapping):
        return _ProviderError()
    error = next((body[name] for name in _HOLDERS if body.get(name)), body)
    if isinstance(error, list):
        texts = [_message_of(item) for item in error]
        return _ProviderError("; ".join(filter(None, texts)))
    if not isinstance(error, Mapping):
        return _ProviderError(str(error))
    code, param = error.get("code"), error.get("param")
    named = (_TYPE_STATUSES.get(str(error.get(name))) for name in ("code", "type"))
    statuses = (code, error.get("status"), *named)
    numbers = (
        int(value) for value in statuses if isinstance(value, int | str) and _is_status(value)
    )
    return _ProviderError(
        _message_of(error),
        code[:MAX_CODE_CHARACTERS] if isinstance(code, str) else None,
        param[:MAX_CODE_CHARACTERS] if isinstance(param, str) else None,
        next(numbers, None),
    )


_HOLDERS = ("error", "errors", "detail")


def _message_of(error: Any) -> str:
    """Return the message of an error object or text, with what a relay quotes of another's."""
    if not isinstance(error, Mapping):
        return str(error)
    message = error.get("message") or error.get("msg") or error.get("error") or ""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    return f"{message}: {raw}" if isinstance(raw, str) and raw else str(message)


def _is_status(value: int | str) -> bool:
    text = str(value)
    return len(text) == 3 and text.isascii() and text.isdigit() and "400" <= text < "600"


def from_provider(
    provider: str, status: int, body: Any, retry_after_seconds: int | None = None
) -> Failure:
    """Return the failure for an error of a provider: a response, or one inside of an answer whose
    status was 200.

    An error of the request (400, 413, 415, 422) goes to the client. Any other error is between
    the router and the provider (key, quota, outage): the dispatcher tries the model's fallbacks.
    """
    error = _provider_error(body)
    default = f"it answered {status}"
    if status < 400:
        status, default = error.status or 502, "its answer has not the form of its API"
    if error.tokens:
        status = 400
    provider_message = (error.message or default)[:500]
    message = f"provider {provider}: {provider_message}"
    if status in (400, 413, 415, 422):
        # Keep the provider's message: clients recognize some, such as that of too long a prompt.
        return Failure(
            413 if status == 413 else 400,
            provider_message,
            provider_code=error.code,
            param=error.param,
            tokens=error.tokens,
            quoted_status=status,
        )
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

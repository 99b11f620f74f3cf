"""HTTP requests for model files, and the errors of their responses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx

from llama_halo.errors import NotAllowed, SourceError, SourceMissing

TIMEOUT_SECONDS = 30
MAX_REDIRECTS = 10
REQUEST_ERRORS = (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError)
"""Exceptions of a request that gets no response."""
MAX_DIGITS, TOO_MANY = 6, 429
_RESET = re.compile(r";\s*t=(\d{1,6})(?!\d)")
_SPAN = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})$")
_REASONS = {
    200: "the server ignores ranges, and would send the whole file: put it into the store yourself"
    " and use source.local, or choose another server",
    401: "not allowed (401): the Secret that source.http.headersSecretRef names lacks the"
    " server's authorization",
    403: "not allowed (403): the URL has expired, or these headers may not read it",
    404: "there is no such file (404)",
    410: "the file is gone (410)",
    416: "the file is empty (416)",
    429: "too many requests (429)",
}
_REASONS_OF_HUB = {
    401: "not allowed (401): set HF_TOKEN to a token that may read it",
    403: "not allowed (403): accept the model's terms on its page, or use another token",
    429: "too many requests (429): wait, or set HF_TOKEN",
}
_KINDS = {401: NotAllowed, 403: NotAllowed, 404: SourceMissing, 410: SourceMissing}


def connect() -> httpx.Client:
    """Return a client that requests no Content-Encoding; raises `SourceError` for a bad proxy."""
    try:
        return httpx.Client(headers={"Accept-Encoding": "identity"}, timeout=TIMEOUT_SECONDS)
    except (ValueError, ImportError) as error:
        raise SourceError(f"the proxy of the environment cannot be used: {error}") from error


@contextmanager
def send(
    client: httpx.Client,
    url: str,
    secrets: Mapping[str, str],
    *,
    method: str = "GET",
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[httpx.Response]:
    """Send a request, and follow redirects with its method and JSON body; secret headers go to the
    first host only.

    httpx itself makes a GET of a POST after 301 and 302, and drops only Authorization when it
    follows a redirect to another host.
    """
    start = here = httpx.URL(url)
    for _ in range(MAX_REDIRECTS):
        at_home = (here.scheme, here.host, here.port) == (start.scheme, start.host, start.port)
        sent = {**(secrets if at_home else {}), **(headers or {})}
        request = client.build_request(method, here, json=body, headers=sent)
        response = client.send(request, stream=True)
        try:
            if response.next_request is None:
                yield response
                return
            here = response.next_request.url
        finally:
            response.close()
    raise SourceError(f"{shown(url)}: more than {MAX_REDIRECTS} redirects")


def same_version(first: str, second: str) -> bool:
    """Compare two ETags weakly (RFC 9110, 8.8.3.2): a proxy that compresses marks one as weak."""
    return first.removeprefix("W/") == second.removeprefix("W/")


def refusal(name: str, response: httpx.Response) -> SourceError:
    """Return the error for a response without the file; the name of a file of the Hub is `hf:…`."""
    status = response.status_code
    reason = _REASONS.get(status, f"the server answered {status}")
    if name.startswith("hf:"):
        reason = _REASONS_OF_HUB.get(status, reason)
    if wait := wait_seconds(response):
        reason += f"; the server asks to wait {wait:.0f} s"
    return _KINDS.get(status, SourceError)(f"{name}: {reason}")


def wait_seconds(response: httpx.Response) -> float:
    """Return how long a server asks to wait: `Retry-After` in seconds, or the Hub's `RateLimit`,
    such as `"api";r=0;t=55`; 0 if it does not."""
    text = response.headers.get("Retry-After", "")
    if text.isdecimal() and len(text) <= MAX_DIGITS:
        return float(text)
    limit = _RESET.search(response.headers.get("RateLimit", ""))
    return float(limit[1]) if limit and response.status_code == TOO_MANY else 0.0


def content_span(name: str, response: httpx.Response) -> tuple[int, int]:
    """Return the start of the range that was sent, and the size of the whole file."""
    span = _SPAN.match(response.headers.get("Content-Range", ""))
    if span is None or response.headers.get("Content-Encoding", "identity") != "identity":
        raise SourceError(f"{name}: the server does not send the range asked for")
    return int(span[1]), int(span[2])


def version(response: httpx.Response) -> str:
    """Return the response's ETag or Last-Modified, empty if it has neither."""
    validator = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    return validator[:200]


def shown(url: str) -> str:
    """Return a URL for messages, without user, password and query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the URL"
    shortened = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200]
    return "".join(character for character in shortened if character.isprintable())

"""One request for text: what the model's server gets, and how its answer becomes the client's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from llama_halo.gateway.http.sse import SseEvent

Json = dict[str, Any]
Events = AsyncIterator[SseEvent]
SSE, NDJSON = "text/event-stream; charset=utf-8", "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class ApiExchange:
    """A request in the words of llama-server; always for a stream, since it does not notice that
    the client of any other request has gone."""

    path: str
    body: Json
    streams: bool
    """Whether the client wants a stream, or the answer in one piece."""
    stream: Callable[[Events], AsyncIterator[bytes]]
    collect: Callable[[Events], Awaitable[Json]]
    heartbeat: bytes
    """Legal before and among the events, and skipped by every client that was tried."""
    native_path: str = ""
    """The path of the client's own API, if servers elsewhere may speak it."""
    content_type: str = SSE
    counts: str = ""
    """The path that counts the body's tokens."""
    passthrough: Callable[[bytes], bytes | None] = lambda _: None
    """Returns what `stream` makes of one event of llama-server's (its bytes, the empty line
    included) when that depends on nothing else, and the event tells of no tokens; else None."""

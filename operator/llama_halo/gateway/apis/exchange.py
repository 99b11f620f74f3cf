"""One generation request: what llama-server gets, and how its answer becomes the client's."""

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
    """A generation request for llama-server, which always streams.

    llama-server does not notice when the client of any other request disconnects.
    """

    path: str
    body: Json
    streams: bool
    """Whether the client asked for a stream."""
    stream: Callable[[Events], AsyncIterator[bytes]]
    collect: Callable[[Events], Awaitable[Json]]
    heartbeat: bytes
    """Bytes to send while nothing else comes; valid before and between events."""
    native_path: str = ""
    """Path of the client's own API, for providers that speak it; empty if there are none."""
    content_type: str = SSE
    count_path: str = ""
    """llama-server's path that counts the tokens of the body; empty if there is none."""
    passthrough: Callable[[bytes], bytes | None] = lambda _: None
    """Converts the bytes of one llama-server event, including the empty line, as `stream` does.

    Returns None if the result depends on other events, or if the event has token counts.
    """

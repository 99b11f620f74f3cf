"""The data of one request for the access log and the metrics, without its messages."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from llama_halo.gateway.apis.client_api import Api
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.http.sse import SseEvent
from llama_halo.gateway.http.token_usage import TokenUsage
from llama_halo.gateway.routing.table import Target

MAX_OMITTED = 32
"""Names in the header `x-omitted`."""
_FIELD = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(slots=True)
class RequestRecord:
    """A request, from its arrival to its last byte."""

    api: Api
    client: str = "other"
    """Kind of client: a name of `routing.clients`."""
    request_id: str = field(default_factory=lambda: f"req_{secrets.token_hex(16)}")
    started: float = field(default_factory=time.monotonic)
    first_byte_seconds: float | None = None
    requested_model: str = ""
    """The name that the client asked for."""
    target: Target | None = None
    failure: Failure | None = None
    """Set if the request failed, also after its stream had started."""
    usage: TokenUsage = field(default_factory=TokenUsage)
    key: str = ""
    """Digest of the request's API key; empty without keys. It is not logged."""
    body_bytes: int = 0
    task: asyncio.Task[object] | None = None
    aborted: bool = False
    """Set when the gateway shuts down before the request is complete."""

    def headers(self) -> dict[str, str]:
        headers = {"request-id": self.request_id, "x-request-id": self.request_id}
        if self.target:
            headers |= {"x-route": self.target.route, "x-model": self.target.name}
            names = [name for name in self.target.omitted if _FIELD.fullmatch(name)]
            headers |= {"x-omitted": ", ".join(names[:MAX_OMITTED])} if names else {}
        return headers

    def record_first_byte(self) -> None:
        if self.first_byte_seconds is None:
            self.first_byte_seconds = time.monotonic() - self.started

    async def count_tokens(self, events: AsyncIterator[SseEvent]) -> AsyncIterator[SseEvent]:
        """Yield the events unchanged, and record their token counts."""
        async for event in events:
            if b'"usage"' in event.raw:
                self.usage.note(event.value)
            yield event

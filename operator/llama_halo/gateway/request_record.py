"""The data of one request for the access log and the metrics, without its messages."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_halo.gateway.apis.client_api import Api
from llama_halo.gateway.http import answers
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.http.sse import SseEvent
from llama_halo.gateway.routing.table import Target


@dataclass
class TokenUsage:
    """Tokens of one request, as counted by the model's server."""

    prompt: int = 0
    """Including the cached tokens."""
    cached: int = 0
    answer: int = 0

    def note(self, data: Any) -> None:
        """Read the usage in an event or answer of any API; each count keeps its maximum."""
        if not isinstance(data, dict):
            return
        for holder in (data, data.get("message"), data.get("response")):
            usage = holder.get("usage") if isinstance(holder, dict) else None
            if isinstance(usage, dict):
                self._take(usage)

    def _take(self, usage: Mapping[str, Any]) -> None:
        details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
        cached = _number(usage, "cache_read_input_tokens")
        fresh = _number(usage, "input_tokens") if "cache_read_input_tokens" in usage else 0
        self.cached = max(self.cached, cached, _number(details, "cached_tokens"))
        prompt = _number(usage, "prompt_tokens") or fresh + cached or _number(usage, "input_tokens")
        self.prompt = max(self.prompt, prompt)
        answer = _number(usage, "completion_tokens") or _number(usage, "output_tokens")
        self.answer = max(self.answer, answer)


@dataclass(slots=True)
class RequestRecord:
    """A request, from its arrival to its last byte."""

    api: Api
    client: str = "other"
    """Kind of client: a name of `routing.clients`."""
    request_id: str = field(default_factory=lambda: f"req_{uuid.uuid4().hex}")
    started: float = field(default_factory=time.monotonic)
    first_byte_seconds: float | None = None
    requested_model: str = ""
    """The name that the client asked for."""
    target: Target | None = None
    failure: Failure | None = None
    """Set if the request failed, also after its stream had started."""
    usage: TokenUsage = field(default_factory=TokenUsage)
    body_bytes: int = 0
    task: asyncio.Task[object] | None = None
    aborted: bool = False
    """Set when the gateway shuts down before the request is complete."""

    def headers(self) -> dict[str, str]:
        headers = {"request-id": self.request_id, "x-request-id": self.request_id}
        if self.target:
            headers |= {"x-route": self.target.route, "x-model": self.target.name}
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


def _number(usage: Any, name: str) -> int:
    return answers.count(usage.get(name)) if isinstance(usage, dict) else 0

"""Server-sent events, complete ones only: never split by how the bytes arrived; pure.

Thousands of them pass a second, and most go on as they came: an event is its bytes, and read only
when somebody asks.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from functools import cached_property
from typing import Any

from llama_halo.gateway.http.json_codec import dumps, loads

END = b"\n\n"


class SseEvent:
    """One event: its name (empty when it has none) and its data."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        """Its lines, without the empty one at the end."""

    @classmethod
    def of(cls, data: Any, name: str = "") -> SseEvent:
        """Return the event of some data."""
        return cls(encode(data, name).removesuffix(END))

    @property
    def encoded(self) -> bytes:
        """The event as it is sent."""
        return self.raw + END

    @property
    def name(self) -> str:
        return "\n".join(self._field(b"event"))

    @cached_property
    def data(self) -> str:
        return "\n".join(self._field(b"data"))

    @cached_property
    def value(self) -> Any:
        """The data as JSON, parsed once; None when it is none (such as `[DONE]`)."""
        try:
            return loads(self.data)
        except (ValueError, RecursionError):
            return None

    def _field(self, name: bytes) -> list[str]:
        values = []
        for line in self.raw.split(b"\n"):
            field, _, value = line.partition(b":")
            if field == name:
                values.append(value.removeprefix(b" ").decode(errors="replace"))
        return values


def encode(data: Any, name: str = "") -> bytes:
    """Return the bytes of one event."""
    text = data.encode(errors="replace") if isinstance(data, str) else dumps(data)
    return (b"event: " + name.encode() + b"\ndata: " if name else b"data: ") + text + END


async def events(chunks: AsyncIterable[bytes]) -> AsyncIterator[SseEvent]:
    """Yield the events of a stream of bytes; an event without data (a comment) is left out."""
    rest = b""
    async for chunk in chunks:
        rest += chunk
        if b"\r" in rest:
            rest = rest.replace(b"\r\n", b"\n")
        while True:
            raw, separator, after = rest.partition(END)
            if not separator:
                break
            rest = after
            if raw.startswith(b"data:") or b"\ndata:" in raw:
                yield SseEvent(raw)

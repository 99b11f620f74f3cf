"""Server-sent events. Readers get complete events, however the bytes were split on arrival.

Thousands of events pass in a second, and most are forwarded unchanged. An event therefore keeps its
bytes, and is parsed only on access.
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
        """The event's lines, without the empty line at the end."""

    @classmethod
    def of(cls, data: Any, name: str = "") -> SseEvent:
        """Return an event with this data; data that is not a string becomes JSON."""
        return cls(encode(data, name).removesuffix(END))

    @property
    def encoded(self) -> bytes:
        """The event's bytes, with the empty line at the end."""
        return self.raw + END

    @property
    def name(self) -> str:
        return "\n".join(self._field(b"event"))

    @cached_property
    def data(self) -> str:
        return "\n".join(self._field(b"data"))

    @cached_property
    def value(self) -> Any:
        """The parsed JSON of the data; None if it is not JSON (such as `[DONE]`)."""
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
    """Return the bytes of an event; data that is not a string becomes JSON."""
    text = data.encode(errors="replace") if isinstance(data, str) else dumps(data)
    return (b"event: " + name.encode() + b"\ndata: " if name else b"data: ") + text + END


async def events(chunks: AsyncIterable[bytes]) -> AsyncIterator[SseEvent]:
    """Yield the complete events of a byte stream; events without data (comments) are dropped."""
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

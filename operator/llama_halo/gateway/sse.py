"""Server-sent events, complete ones only: never split by how the bytes arrived; pure."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(eq=True)
class SseEvent:
    """One event: its name (empty when it has none) and its data; a comment has neither."""

    name: str
    data: str

    @cached_property
    def value(self) -> Any:
        """The data as JSON, parsed once; None when it is none (such as `[DONE]`)."""
        try:
            return json.loads(self.data)
        except (ValueError, RecursionError):
            return None


def encode(data: Any, name: str = "") -> bytes:
    """Return the bytes of one event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    text = text.encode(errors="replace").decode()  # half a character pair is no UTF-8
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {text}\n\n".encode()


async def events(chunks: AsyncIterable[bytes]) -> AsyncIterator[SseEvent]:
    """Yield the events of a stream of bytes; an event without data (a comment) is left out."""
    rest = b""
    async for chunk in chunks:
        rest = (rest + chunk).replace(b"\r\n", b"\n")
        while b"\n\n" in rest:
            block, _, rest = rest.partition(b"\n\n")
            event = _parse(block.decode(errors="replace"))
            if event is not None:
                yield event


def _parse(block: str) -> SseEvent | None:
    name, data = "", []
    for line in block.split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
    return SseEvent(name, "\n".join(data)) if data else None

"""Server-sent events. Readers get complete events, however the bytes were split on arrival.

Thousands of events pass in a second, and most are forwarded unchanged. An event therefore keeps its
bytes, and is parsed only on access.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from llama_halo.gateway.http.answers import HeldAnswer, parse
from llama_halo.gateway.http.errors import malformed
from llama_halo.gateway.http.json_codec import dumps

END = b"\n\n"
_CRLF_END = b"\n\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_EVENT_BYTES = 16 * 2**20
_UNPARSED = object()


class SseEvent:
    """One event: its name (empty when it has none) and its data."""

    __slots__ = ("_value", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        """The event's lines, without the empty line at the end."""
        self._value: Any = _UNPARSED

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

    @property
    def data(self) -> str:
        return "\n".join(self._field(b"data"))

    @property
    def value(self) -> Any:
        """The parsed JSON of the data; None if it is not JSON (such as `[DONE]`).

        It is parsed once; `cached_property` takes a lock on Python 3.11. Raises `Failure` (502) for
        more values than the gateway keeps.
        """
        if self._value is _UNPARSED:
            try:
                self._value = parse(self.data)
            except (ValueError, RecursionError):
                self._value = None
        return self._value

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
    """Yield the events of a byte stream; events without data (comments) are dropped.

    The last event counts also without the empty line after it, which some servers leave out. One
    byte order mark at the start is skipped. Raises `Failure` (502) for an event of more than
    `MAX_EVENT_BYTES`, and (503) when all unfinished events together are too many.
    """
    pending: list[bytes] = []
    size, tail, start = 0, b"", _Start()
    with HeldAnswer() as held:
        async for received in chunks:
            chunk = received if start.has_passed else start.without_mark(received)
            if size or not chunk.endswith(END) or b"\r" in chunk:
                pending.append(chunk)
                size += len(chunk)
                held.resize(size)
                window = tail + chunk
                if END not in window and _CRLF_END not in window:
                    # No event ends here. Joining and searching again would cost the square of its
                    # length.
                    tail = window[-len(_CRLF_END) :]
                    if size > MAX_EVENT_BYTES:
                        raise malformed(f"an event has more than {MAX_EVENT_BYTES // 2**20} MiB")
                    continue
                whole = b"".join(pending).replace(b"\r\n", b"\n")
                *complete, rest = whole.split(END)
                pending, size, tail = [rest], len(rest), rest[-len(_CRLF_END) :]
                held.resize(size)
            else:
                *complete, _ = chunk.split(END)
            for raw in complete:
                if _has_data(raw):
                    yield SseEvent(raw)
    last = b"".join(pending).replace(b"\r\n", b"\n").strip(b"\n")
    if _has_data(last):
        event = SseEvent(last)
        if event.value is not None or event.data == "[DONE]":  # else the stream was cut off in it
            yield event


def _has_data(raw: bytes) -> bool:
    return raw.startswith(b"data:") or b"\ndata:" in raw


class _Start:
    """The start of a stream, which may be a byte order mark."""

    def __init__(self) -> None:
        self.has_passed = False
        self._held = b""

    def without_mark(self, chunk: bytes) -> bytes:
        """Return what of the stream is known to be no mark; empty while that is open."""
        start = self._held + chunk
        if len(start) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(start):
            self._held = start
            return b""
        self.has_passed = True
        return start.removeprefix(_BYTE_ORDER_MARK)

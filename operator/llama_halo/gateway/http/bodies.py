"""Reads request bodies, JSON or a form; an unreadable body raises `Failure` with a 4xx status."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import BodyPartReader, web

from llama_halo.gateway.http import decompression
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.http.json_codec import count_values, loads

MAX_BODY_BYTES = 32 * 2**20
MAX_OBJECT_BYTES = 2**16
"""Of the bodies that only name a model."""
NARROW_WEIGHT, WIDE_WEIGHT, WIDEST_WEIGHT = 3, 6, 10
"""Bytes of memory for each byte of a body: the parsed texts, which some APIs join to one, and the
JSON that is sent. Python keeps each character of a text in 1, 2 or 4 bytes, by the widest of them:
up to U+00FF, up to U+FFFF, or above."""
_WIDE_ESCAPE, _SURROGATE = re.compile(rb"\\u(?!00)"), re.compile(rb"\\u[dD][89abAB]")
_BELOW_WIDE, _BELOW_WIDEST = bytes(range(0xC4)), bytes(range(0xF0))
YIELD_BYTES = 2**20
"""Bytes after which other requests get their turn."""
PAUSE_BYTES_PER_SECOND = 2**31
"""Bytes of a large body for each second of pause before its next step."""
MAX_TOTAL_BYTES = 768 * 2**20
"""Bytes of memory of the bodies of all requests in flight: eight of the largest, or 2 of emojis."""
SMALL_BYTES = 128 * 2**10
"""Of memory, for a body that large ones do not keep out."""
MAX_VALUES = 300_000
"""JSON values in one body: an empty object takes three bytes of text and seventy of memory."""
MAX_PARTS = 64
MAX_SECONDS = 120.0
"""Time in which a body must arrive."""


@dataclass(frozen=True)
class FormField:
    """One field of a form."""

    name: str
    data: bytes
    filename: str | None = None
    content_type: str = "application/octet-stream"


class Turns:
    """Lets one large body at a time take its next step, with other requests in between."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def wait(self, size_bytes: int) -> None:
        """Wait for the next step of a body of this size; a small one does not wait.

        The pause, about a tenth of what a step takes, has to be long enough for a whole other
        request, which takes several turns of the loop.
        """
        if size_bytes > YIELD_BYTES:
            async with self._lock:
                await asyncio.sleep(size_bytes / PAUSE_BYTES_PER_SECOND)


async def read(
    request: web.Request,
    count_bytes: Callable[[int], None],
    turns: Turns,
    *,
    limit: int = MAX_BODY_BYTES,
) -> bytes:
    """Return the unpacked body; `count_bytes` is called with the weight of each piece in memory.

    Raises `Failure` for a body that is too long or has too many JSON values.
    aiohttp's `request.read` is not used: it would keep the body for as long as the request runs.
    """
    unpacked = _decompressor(request)
    try:
        if unpacked is None and request.content.is_eof():  # it came with its head, as most do
            return _checked(request.content.read_nowait(), count_bytes, limit)
        async with asyncio.timeout(MAX_SECONDS):
            data = await _receive(request, unpacked, count_bytes, turns, limit)
    except TimeoutError as error:
        raise _too_slow() from error
    except (web.RequestPayloadError, *decompression.ERRORS, ValueError) as error:
        raise Failure(400, f"the request body cannot be read: {error}") from error
    if unpacked and not unpacked.is_complete:
        raise Failure(400, "the request body cannot be read: its compressed data is cut off")
    await turns.wait(len(data))
    return bytes(data)


def _checked(data: bytes, count_bytes: Callable[[int], None], limit: int) -> bytes:
    """Return a body that has arrived as a whole, after the checks of `_receive`."""
    if len(data) > limit:
        raise too_large(limit)
    count_bytes(_weight_of(data) * len(data))
    if len(data) > MAX_VALUES:
        _check_values(count_values(data)[0])
    return data


async def _receive(
    request: web.Request,
    unpacked: decompression.Decompressor | None,
    count_bytes: Callable[[int], None],
    turns: Turns,
    limit: int,
) -> bytearray:
    """Return the unpacked body, checked as it arrives."""
    data, packed_bytes, at_once, weight = bytearray(), 0, 0, NARROW_WEIGHT
    counted_bytes = values = 0
    async for packed in request.content.iter_any():
        packed_bytes += len(packed)
        for piece in unpacked.pieces(packed) if unpacked else (packed,):
            data += piece
            at_once += len(piece)
            if weight < WIDEST_WEIGHT:
                wider = max(weight, _weight_of(data[-len(piece) - 5 :]))
                count_bytes((wider - weight) * (len(data) - len(piece)))
                weight = wider
            count_bytes(weight * len(piece))
            if max(len(data), packed_bytes) > limit:
                raise too_large(limit)
            if len(data) > MAX_VALUES:  # a shorter text has no more values
                values += count_values(data[counted_bytes:])[0]
                counted_bytes = len(data)
                _check_values(values)
            if at_once > YIELD_BYTES:
                await turns.wait(at_once)
                at_once = 0
    return data


def _check_values(count: int) -> None:
    if count > MAX_VALUES:
        raise Failure(413, f"the request body has more than {MAX_VALUES} values")


def _weight_of(text: bytes | bytearray) -> int:
    """Return the bytes of memory for each byte of a text, in UTF-8 or with escapes."""
    weight = NARROW_WEIGHT
    if not text.isascii():
        if text.translate(None, _BELOW_WIDEST):
            return WIDEST_WEIGHT
        if text.translate(None, _BELOW_WIDE):
            weight = WIDE_WEIGHT
    # Most texts have no backslash, which is seen a hundred times as fast as an escape.
    if b"\\" in text and _WIDE_ESCAPE.search(text):
        return WIDEST_WEIGHT if _SURROGATE.search(text) else WIDE_WEIGHT
    return weight


def _decompressor(request: web.Request) -> decompression.Decompressor | None:
    encoding = request.headers.get("Content-Encoding", "")
    try:
        return decompression.decompressor_for(encoding)
    except LookupError as error:
        raise Failure(
            415, f"Content-Encoding {encoding[:40]!r}: use one of gzip, deflate, br and zstd"
        ) from error


def parse_json(data: bytes) -> Any:
    """Return the JSON of a body; raises `Failure` if it is invalid."""
    try:
        return loads(data)
    except (ValueError, RecursionError) as error:
        raise Failure(400, f"the request body is not JSON: {error}") from error


async def read_object(request: web.Request) -> dict[str, Any]:
    """Return the JSON object of a request's body; raises `Failure` if it is not one."""
    value = parse_json(await read(request, _count_nothing, Turns(), limit=MAX_OBJECT_BYTES))
    if not isinstance(value, dict):
        raise Failure(400, "the request body must be a JSON object")
    return value


async def read_form(
    request: web.Request, count_bytes: Callable[[int], None]
) -> tuple[FormField, ...]:
    """Return the fields of a form, including files, in memory: the gateway writes no files."""
    if not request.content_type.startswith("multipart/"):
        raise Failure(400, "the request body must be a form (multipart/form-data)")
    if _decompressor(request):
        raise Failure(415, "a form is not compressed as a whole: send it without Content-Encoding")
    try:
        async with asyncio.timeout(MAX_SECONDS):
            return await _parts(request, count_bytes)
    except TimeoutError as error:
        raise _too_slow() from error
    except (web.RequestPayloadError, ValueError, AssertionError, LookupError) as error:
        raise Failure(400, f"the request body is not a form: {error}") from error


async def _parts(request: web.Request, count_bytes: Callable[[int], None]) -> tuple[FormField, ...]:
    parts: list[FormField] = []
    size = 0
    async for part in await request.multipart():
        if len(parts) >= MAX_PARTS:
            raise too_large()
        if not isinstance(part, BodyPartReader) or not part.name:
            raise Failure(
                400, "each part of the form needs a name, and no part may have parts itself"
            )
        data = bytearray()
        while chunk := await part.read_chunk(2**16):
            data += chunk
            size += len(chunk)
            count_bytes(len(chunk))
            if size > MAX_BODY_BYTES:
                raise too_large()
        kind = part.headers.get("Content-Type", "application/octet-stream")
        parts.append(FormField(part.name, bytes(data), part.filename, kind))
    return tuple(parts)


def _count_nothing(_: int) -> None:
    return


def _too_slow() -> Failure:
    return Failure(408, f"the request body did not arrive within {MAX_SECONDS:g} s")


def too_large(limit: int = MAX_BODY_BYTES) -> Failure:
    """Return the failure of a body above the size limit."""
    size = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit // 2**10} KiB"
    return Failure(413, f"the request body exceeds {size}")

"""Unpacks compressed bodies in pieces of bounded size.

aiohttp would unpack a body before the key is known, and the rest of a refused body while it closes
the connection. A body of 10 KB may unpack to gigabytes.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdDecompressor, ZstdError

PIECE_BYTES = 2**16
MAX_MEMBERS = 1024
"""Of one body: gzip and Zstandard may be concatenated, and an empty member unpacks to nothing."""
ERRORS = (zlib.error, brotli.error, ZstdError, EOFError)


class Decompressor(Protocol):
    """Unpacks one body."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what some compressed bytes unpack to; each piece has at most `PIECE_BYTES`."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether the body ended where its format says."""
        ...


class _Zlib:
    """gzip, or zlib's format, or raw deflate, which some clients send as `deflate`."""

    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._member: zlib._Decompress | None = None
        self._members = 0

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member is None or self._member.eof:
                self._start(data)
            member = self._member
            assert member is not None  # noqa: S101  (`_start` sets it)
            while True:
                piece = member.decompress(data, PIECE_BYTES)
                data = member.unconsumed_tail
                if piece:
                    yield piece
                if member.eof or (not data and len(piece) < PIECE_BYTES):
                    break
            data = member.unused_data if member.eof else b""

    def _start(self, data: bytes) -> None:
        self._members += 1
        if self._members > (MAX_MEMBERS if self._is_gzip else 1):
            raise zlib.error("data follows the end, or it has too many members")
        is_raw = not self._is_gzip and data[0] & 0xF != zlib.DEFLATED
        bits = -zlib.MAX_WBITS if is_raw else zlib.MAX_WBITS + 16 * self._is_gzip
        self._member = zlib.decompressobj(bits)

    @property
    def is_complete(self) -> bool:
        return self._member is not None and self._member.eof


class _Brotli:
    def __init__(self) -> None:
        self._decompressor = brotli.Decompressor()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if data and self._decompressor.is_finished():
            raise brotli.error("data follows the end")
        piece = self._decompressor.process(data, output_buffer_limit=PIECE_BYTES)
        while piece:
            yield piece
            if self._decompressor.is_finished():
                return
            piece = self._decompressor.process(b"", output_buffer_limit=PIECE_BYTES)

    @property
    def is_complete(self) -> bool:
        return bool(self._decompressor.is_finished())


class _Zstd:
    def __init__(self) -> None:
        self._frame: ZstdDecompressor | None = None
        self._frames = 0

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._frame is None or self._frame.eof:
                self._frames += 1
                if self._frames > MAX_MEMBERS:
                    raise ZstdError("it has too many frames")
                self._frame = ZstdDecompressor()
            frame = self._frame
            while True:
                piece = frame.decompress(data, max_length=PIECE_BYTES)
                data = b""
                if piece:
                    yield piece
                if frame.eof or frame.needs_input:
                    break
            data = frame.unused_data if frame.eof else b""

    @property
    def is_complete(self) -> bool:
        return self._frame is not None and self._frame.eof


_BY_ENCODING: dict[str, Callable[[], Decompressor]] = {
    "gzip": lambda: _Zlib(is_gzip=True),
    "x-gzip": lambda: _Zlib(is_gzip=True),
    "deflate": lambda: _Zlib(is_gzip=False),
    "br": _Brotli,
    "zstd": _Zstd,
}


def decompressor_for(encoding: str) -> Decompressor | None:
    """Return a decompressor for a Content-Encoding, None for a body that is not compressed.

    Raises `LookupError` for several compressions. Values that name none are ignored, as clients
    also write `utf-8`.
    """
    names = [name.strip().lower() for name in encoding.split(",")]
    compressions = [name for name in names if name in _BY_ENCODING]
    if len(compressions) > 1:
        raise LookupError(encoding)
    return _BY_ENCODING[compressions[0]]() if compressions else None

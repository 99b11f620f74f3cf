"""Reads a file forward, in blocks; an error names the field that could not be read."""

from __future__ import annotations

import struct
from collections.abc import Callable

from llama_halo.errors import DamagedGGUF

BLOCK_BYTES = 2**20
MAX_BYTES = 2**27
"""Limit of a header; one with 256k tokens and their merges has 12 MB."""
_LENGTH = struct.Struct("<Q")


class Cursor:
    """A position in a file of `size` bytes (None: not known)."""

    def __init__(self, read_at: Callable[[int, int], bytes], size: int | None) -> None:
        self._read_at = read_at
        self._end = MAX_BYTES if size is None else min(size, MAX_BYTES)
        self._block = b""
        self._block_at = 0
        self.position = 0

    def take(self, count: int, field: str) -> bytes:
        """Return the next `count` bytes and advance."""
        self._need(count, field)
        start = self.position - self._block_at
        self.position += count
        return self._block[start : start + count]

    def skip(self, count: int, field: str) -> None:
        """Advance by `count` bytes without reading them."""
        self.expect(count, field)
        self.position += count

    def number(self, layout: str, field: str) -> int:
        """Return the next number, of a `struct` layout."""
        number: int = struct.unpack(layout, self.take(struct.calcsize(layout), field))[0]
        return number

    def text(self, most: int, field: str) -> str:
        """Return the next string, of at most `most` bytes."""
        length: int = _LENGTH.unpack(self.take(8, field))[0]
        if length > most:
            raise DamagedGGUF(f"{field} is {length} bytes long, more than {most}")
        # Names in some files are not UTF-8; they only have to be distinct and printable.
        return self.take(length, field).decode(errors="replace")

    def skip_texts(self, count: int, field: str) -> None:
        """Advance past `count` strings; a vocabulary has a quarter of a million."""
        while count:
            self._need(8, field)
            block, at, last = self._block, self.position - self._block_at, len(self._block) - 8
            while count and at <= last:
                at += 8 + _LENGTH.unpack_from(block, at)[0]
                count -= 1
            self.position = self._block_at + at
            self.expect(0, field)

    def expect(self, count: int, field: str) -> None:
        """Raise `DamagedGGUF` unless the file, or the longest header, has `count` more bytes."""
        if self.position + count > self._end:
            raise DamagedGGUF(f"the file ends within {field}")

    def _need(self, count: int, field: str) -> None:
        """Load a block with the next `count` bytes, unless the current block has them."""
        self.expect(count, field)
        start = self.position - self._block_at
        if start + count <= len(self._block):
            return
        size = min(max(count, BLOCK_BYTES), self._end - self.position)
        self._block, self._block_at = self._read_at(self.position, size), self.position
        if len(self._block) < count:
            raise DamagedGGUF(f"the file ends within {field}")

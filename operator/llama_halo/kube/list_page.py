"""Reads one page of a list; a page of large objects is never in memory as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

from llama_halo.api_server import CutObject, entry_of, parse_object
from llama_halo.errors import MalformedAnswer
from llama_halo.kube.protocol import Json
from llama_halo.nested_json import CUT

WHOLE_BYTES = 4 * 2**20
"""Up to this size a page is parsed at once, which shares the strings of its keys."""
MAX_ITEM_BYTES = 8 * 2**20
"""The API server stores no object of more than 1.5 MiB, unless it is told to."""
_SPACES = re.compile(rb"[ \t\r\n]*")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
"""A string, perhaps one that the buffer cuts, or a bracket."""
_SCALAR = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[^\s"\[\]{},:]+(?=[\s\]},])', re.DOTALL)


class ListPage:
    """One page, whose `metadata` is complete when all items have been read."""

    def __init__(self) -> None:
        self.metadata: Json = {}

    async def items(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[Any, bool]]:
        """Yield each item, and whether parts of it may have been cut out.

        Raises `MalformedAnswer` for a page that is no list.
        """
        buffer = bytearray()
        async for chunk in chunks:
            buffer += chunk
            if len(buffer) > WHOLE_BYTES:
                break
        else:
            page = parse_object(bytes(buffer))
            self.metadata = entry_of(page, "metadata", dict)
            if "items" in page and page["items"] is None:  # so Go writes an empty list
                return
            for item in entry_of(page, "items", list):
                yield item, isinstance(page, CutObject)
            return
        reader = _Reader(buffer, chunks)
        await reader.expect(b"{")
        has_items = False
        while True:
            key = await reader.value()
            await reader.expect(b":")
            if key == "items":
                has_items = True
                async for item in reader.array():
                    yield item, item == CUT
            else:
                value = await reader.value()
                if key == "metadata":
                    self.metadata = entry_of({key: value}, key, dict)
            if await reader.take(b",}") == b"}":
                break
        if not has_items:
            raise MalformedAnswer("the API server's list has no items")
        entry_of({"metadata": self.metadata or None}, "metadata", dict)


class _ValueScan:
    """Finds the end of a JSON value in a buffer that grows."""

    def __init__(self) -> None:
        self._at = 0
        self._level = 0

    def end_in(self, buffer: bytearray) -> int | None:
        """Return the index after the value at the buffer's start, None if it is not complete."""
        if bytes(buffer[:1]) not in (b"{", b"["):
            scalar = _SCALAR.match(buffer)
            return scalar.end() if scalar else None
        for token in _TOKEN.finditer(buffer, self._at):
            mark = token[0]
            if mark[:1] == b'"':
                if token.end() == len(buffer) and not _STRING.fullmatch(mark):
                    self._at = token.start()  # the string is not complete
                    return None
            else:
                self._level += 1 if mark in b"[{" else -1
            self._at = token.end()
            if self._level == 0:
                return token.end()
        return None


class _Reader:
    """Reads JSON values one after the other from a stream."""

    def __init__(self, buffer: bytearray, chunks: AsyncIterator[bytes]) -> None:
        self._buffer = buffer
        self._chunks = chunks

    async def expect(self, mark: bytes) -> None:
        if await self.take(mark) != mark:
            raise MalformedAnswer("the API server's list is no JSON")

    async def take(self, marks: bytes) -> bytes:
        """Return and remove the next byte that is no space; raise unless it is one of the marks."""
        mark = await self._peek()
        if mark not in marks:
            raise MalformedAnswer("the API server's list is no JSON")
        del self._buffer[:1]
        return mark

    async def array(self) -> AsyncIterator[Any]:
        await self.expect(b"[")
        if await self._peek() == b"]":
            await self.expect(b"]")
            return
        while True:
            yield await self.value()
            if await self.take(b",]") == b"]":
                return

    async def value(self) -> Any:
        """Return the next value, `CUT` for one that is nested too deeply."""
        await self._peek()
        scan = _ValueScan()
        while (end := scan.end_in(self._buffer)) is None:
            if len(self._buffer) > MAX_ITEM_BYTES:
                raise MalformedAnswer(f"an item of a list has more than {MAX_ITEM_BYTES} bytes")
            await self._more()
        data = bytes(self._buffer[:end])
        del self._buffer[:end]
        try:
            return json.loads(data)
        except RecursionError:
            return CUT
        except ValueError as error:
            raise MalformedAnswer(f"the API server's list is no JSON: {error}") from error

    async def _peek(self) -> bytes:
        while True:
            spaces = _SPACES.match(self._buffer)
            del self._buffer[: spaces.end() if spaces else 0]
            if self._buffer:
                return bytes(self._buffer[:1])
            await self._more()

    async def _more(self) -> None:
        async for chunk in self._chunks:
            self._buffer += chunk
            return
        raise MalformedAnswer("the API server's list was cut off")

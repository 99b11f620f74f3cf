"""Reads one page of a list; a page of large objects is never in memory as a whole."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from llama_halo import garbage_collection
from llama_halo.api_server import CutObject, entry_of, parse_object
from llama_halo.errors import MalformedAnswer
from llama_halo.kube.protocol import Json
from llama_halo.nested_json import CUT

WHOLE_BYTES = 4 * 2**20
"""Up to this size a page is parsed at once, which shares the strings of its keys."""
MAX_ITEM_CHARACTERS = 8 * 2**20
"""The API server stores no object of more than 1.5 MiB, unless it is told to."""
_SPACES = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_decode = json.JSONDecoder().raw_decode


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
            with garbage_collection.paused():
                page = parse_object(bytes(buffer))
            self.metadata = entry_of(page, "metadata", dict)
            if "items" in page and page["items"] is None:  # so Go writes an empty list
                return
            for item in entry_of(page, "items", list):
                yield item, isinstance(page, CutObject)
            return
        reader = _Reader(buffer, chunks)
        await reader.expect("{")
        has_items = False
        while True:
            key = await reader.value()
            await reader.expect(":")
            if key == "items":
                has_items = True
                async for item in reader.array():
                    yield item, item == CUT
            else:
                value = await reader.value()
                if key == "metadata":
                    self.metadata = entry_of({key: value}, key, dict)
            if await reader.take(",}") == "}":
                break
        if not has_items:
            raise MalformedAnswer("the API server's list has no items")
        entry_of({"metadata": self.metadata or None}, "metadata", dict)


class _Reader:
    """Reads JSON values one after the other from a stream."""

    def __init__(self, start: bytearray, chunks: AsyncIterator[bytes]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._chunks = chunks
        self._text = ""
        self._at = 0
        self._append(bytes(start))

    async def expect(self, mark: str) -> None:
        await self.take(mark)

    async def take(self, marks: str) -> str:
        """Return the next character that is no space; raises unless it is one of the marks."""
        mark = await self._peek()
        if mark not in marks:
            raise MalformedAnswer("the API server's list is no JSON")
        self._at += 1
        return mark

    async def array(self) -> AsyncIterator[Any]:
        await self.expect("[")
        if await self._peek() == "]":
            await self.expect("]")
            return
        while True:
            yield await self.value()
            if await self.take(",]") == "]":
                return

    async def value(self) -> Any:
        """Return the next value, `CUT` for one that is nested too deeply."""
        await self._peek()
        while True:
            available = len(self._text) - self._at
            value, end = self._parsed()
            # A number at the end of the text may go on.
            if end is not None and end < len(self._text):
                self._at = end
                return value
            if available > MAX_ITEM_CHARACTERS:
                raise MalformedAnswer(
                    f"an item of a list has more than {MAX_ITEM_CHARACTERS} characters, or is no"
                    " JSON"
                )
            # Twice as much for each attempt: the attempts together cost no more than two.
            await self._more()
            while len(self._text) - self._at < 2 * available and await self._take_in():
                pass

    def _parsed(self) -> tuple[Any, int | None]:
        """Return the value at the position and the index after it, None if it is not complete."""
        try:
            with garbage_collection.paused():
                return _decode(self._text, self._at)
        except RecursionError:
            return CUT, self._end_of_nested()
        except ValueError:
            return None, None

    def _end_of_nested(self) -> int | None:
        level = 0
        for token in _TOKEN.finditer(self._text, self._at):
            if token[0] in "[]{}":
                level += 1 if token[0] in "[{" else -1
            if level == 0:
                return token.end()
        return None

    async def _peek(self) -> str:
        while True:
            spaces = _SPACES.match(self._text, self._at)
            self._at = spaces.end() if spaces else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            await self._more()

    async def _more(self) -> None:
        if not await self._take_in():
            raise MalformedAnswer("the API server's list was cut off, or is no JSON")

    async def _take_in(self) -> bool:
        """Append the next chunk; return False at the end."""
        async for chunk in self._chunks:
            self._append(chunk)
            return True
        return False

    def _append(self, chunk: bytes) -> None:
        try:
            text = self._decoder.decode(chunk)
        except UnicodeDecodeError as error:
            raise MalformedAnswer("the API server's list is no UTF-8") from error
        self._text, self._at = self._text[self._at :] + text, 0

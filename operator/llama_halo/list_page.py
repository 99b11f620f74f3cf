"""Reads one page of a list; a page of large objects is never in memory as a whole."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from llama_halo import garbage_collection, nested_json
from llama_halo.api_server import CutObject, entry_of, parse_object
from llama_halo.errors import MalformedAnswer

Json = dict[str, Any]

WHOLE_BYTES = 4 * 2**20
"""Up to this size a page is parsed at once, which shares the strings of its keys."""
MAX_ITEM_CHARACTERS = 8 * 2**20
"""The API server stores no object of more than 1.5 MiB, unless it is told to."""
_SPACES = re.compile(r"[ \t\r\n]*")
_MARK = re.compile(r'["\[\]{}]')
_REST_OF_STRING = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
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
            key, _ = await reader.value()
            await reader.expect(":")
            if key == "items":
                has_items = True
                async for item, was_cut in reader.array():
                    yield item, was_cut
            else:
                value, _ = await reader.value()
                if key == "metadata":
                    self.metadata = entry_of({key: value}, key, dict)
            if await reader.take(",}") == "}":
                break
        if not has_items:
            raise MalformedAnswer("the API server's list has no items")
        entry_of({"metadata": self.metadata or None}, "metadata", dict)


class _NestedScan:
    """Finds the end of an object or a list in a text that grows, in one pass."""

    def __init__(self) -> None:
        self._level = 0
        self._done = 0
        self._in_string = False

    def end_in(self, text: str, start: int) -> int | None:
        """Return the index after the value that starts at `start`, None if it is not complete."""
        at = start + self._done
        while True:
            if self._in_string:
                rest = _REST_OF_STRING.match(text, at)
                at = rest.end() if rest else at
                if at >= len(text) or text[at] == "\\":
                    break
                self._in_string = False
                at += 1
            mark = _MARK.search(text, at)
            if mark is None:
                at = len(text)
                break
            at = mark.end()
            if mark[0] == '"':
                self._in_string = True
                continue
            self._level += 1 if mark[0] in "[{" else -1
            if self._level == 0:
                return at
        self._done = at - start
        return None


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

    async def array(self) -> AsyncIterator[tuple[Any, bool]]:
        await self.expect("[")
        if await self._peek() == "]":
            await self.expect("]")
            return
        while True:
            yield await self.value()
            if await self.take(",]") == "]":
                return

    async def value(self) -> tuple[Any, bool]:
        """Return the next value, and whether parts that are nested too deeply were cut out."""
        await self._peek()
        while True:
            available = len(self._text) - self._at
            try:
                with garbage_collection.paused():
                    value, end = _decode(self._text, self._at)
            except RecursionError:
                return await self._nested_value(), True
            except ValueError:
                pass  # it is not complete, or no JSON
            else:
                # A number at the end of the text may go on.
                if end < len(self._text):
                    self._at = end
                    return value, False
            self._require_bound()
            # Twice as much for each attempt: the attempts together cost no more than two.
            await self._more()
            while len(self._text) - self._at < 2 * available and await self._take_in():
                pass

    async def _nested_value(self) -> Any:
        """Return a value that is nested too deeply for the parser, without its deep parts."""
        scan = _NestedScan()
        while (end := scan.end_in(self._text, self._at)) is None:
            self._require_bound()
            await self._more()
        data = self._text[self._at : end].encode()
        self._at = end
        try:
            return nested_json.loads(data)[0]
        except (ValueError, RecursionError) as error:
            raise MalformedAnswer("the API server's list is no JSON") from error

    def _require_bound(self) -> None:
        if len(self._text) - self._at > MAX_ITEM_CHARACTERS:
            raise MalformedAnswer(
                f"an item of a list has more than {MAX_ITEM_CHARACTERS} characters, or is no JSON"
            )

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

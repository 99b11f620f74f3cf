"""Pages of lists, whole or as a stream: every item once, whatever the pieces are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo import list_page
from llama_halo.errors import MalformedAnswer
from llama_halo.list_page import ListPage, _NestedScan
from llama_halo.nested_json import is_cut

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
ITEMS = st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), max_size=5)


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def read(data: bytes, size: int = 7) -> tuple[list[Any], Any]:
    async def collect() -> tuple[list[Any], Any]:
        page = ListPage()
        items = [item async for item, _ in page.items(pieces(data, size))]
        return items, page.metadata

    return asyncio.run(collect())


@given(
    items=ITEMS,
    size=st.integers(1, 50),
    whole=st.booleans(),
    spelling=st.sampled_from([{}, {"indent": 1}, {"ensure_ascii": False}]),
)
def test_every_item_is_read_once_however_the_page_arrives(
    items: list[Any], size: int, whole: bool, spelling: dict[str, Any]
) -> None:
    metadata = {"resourceVersion": "7", "continue": 'a"]}\\'}
    for page in (
        {"kind": "List", "metadata": metadata, "items": items},
        {"items": items, "extra": [{}, "]"], "metadata": metadata},
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(list_page, "WHOLE_BYTES", 2**20 if whole else 0)
            assert read(json.dumps(page, **spelling).encode(), size) == (items, metadata)


def test_a_number_that_a_piece_ends_in_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_page, "WHOLE_BYTES", 0)
    assert read(b'{"items": [123456, 7], "metadata": {"a": 1}}', 13)[0] == [123456, 7]


def test_an_empty_list_may_be_null() -> None:
    metadata = {"resourceVersion": "7"}
    data = json.dumps({"items": None, "metadata": metadata}).encode()
    assert read(data) == ([], metadata)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"metadata": {}}',
        b'{"items": [], "metadata": 7}',
        b'{"items": {"a": 1}, "metadata": {"a": 1}}',
        b'{"items": [{"a": 1}',
        b'{"items": [{"a": 1}], "metadata": {"a": 1}',
        b'{"items": [{"a" 1}], "metadata": {"a": 1}}',
        b'{"items": [1 2], "metadata": {"a": 1}}',
        b"<html>",
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_no_list_is_malformed(
    data: bytes, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_page, "WHOLE_BYTES", 2**20 if whole else 0)
    with pytest.raises(MalformedAnswer):
        read(data)


@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
@pytest.mark.parametrize("rest", ["", '}}}}[{"\\', '"' * 200, '\\"]' * 100])
def test_an_item_that_is_nested_too_deeply_is_cut_and_the_others_are_read(
    rest: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = "[" * 12_000 + "]" * 12_000
    item = f'{{"name": "deep", "spec": {deep}, "rest": {json.dumps(rest)}}}'
    data = f'{{"metadata": {{"a": 1}}, "items": [{{"b": 1}}, {item}, {{"c": 1}}]}}'
    monkeypatch.setattr(list_page, "WHOLE_BYTES", 0)
    items, _ = read(data.encode(), size)
    assert (items[0], items[2]) == ({"b": 1}, {"c": 1})
    assert (items[1]["name"], items[1]["rest"], is_cut(items[1])) == ("deep", rest, True)


def test_the_end_of_a_deep_item_is_searched_in_one_pass() -> None:
    """A string of quotes that a piece cuts off is not searched again from each of its quotes."""
    text = "[" + '"' + '\\"' * 100_000
    scan = _NestedScan()
    for end in range(1000, len(text), 1000):
        assert scan.end_in(text[:end], 0) is None
    assert scan.end_in(text + '"]', 0) == len(text) + 2


def test_an_item_without_an_end_takes_no_memory_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(list_page, "WHOLE_BYTES", 0)
    monkeypatch.setattr(list_page, "MAX_ITEM_CHARACTERS", 1000)
    with pytest.raises(MalformedAnswer, match="more than 1000 characters"):
        read(b'{"items": [{"a": "' + b"x" * 5000 + b'"}], "metadata": {"a": 1}}', 100)

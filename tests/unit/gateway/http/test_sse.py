"""Server-sent events, however their bytes are cut."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.http.sse import SseEvent, encode, events


@given(st.lists(st.text(alphabet="aä\u2028 b:", max_size=8), max_size=5), st.data())
async def test_events_are_whole_however_the_bytes_are_cut(texts: list[str], data: Any) -> None:
    whole = b"".join(encode({"text": chunk}, "delta") for chunk in texts)
    if data.draw(st.booleans()):
        whole = whole.replace(b"\n", b"\r\n")

    async def chunks() -> AsyncIterator[bytes]:
        rest = whole
        while rest:
            size = data.draw(st.integers(1, len(rest)))
            yield rest[:size]
            rest = rest[size:]

    value = [event async for event in events(chunks())]
    assert [event.value["text"] for event in value] == texts
    assert all(event.name == "delta" for event in value)


def test_done_is_no_json() -> None:
    assert SseEvent.of("[DONE]").value is None


async def test_an_event_beyond_the_limit_ends_the_stream() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"data: 1\n\ndata: "
        while True:
            yield b"x" * 2**20

    stream = events(endless())
    assert (await anext(stream)).value == 1
    with pytest.raises(Failure, match="an event has more than 16 MiB"):
        await anext(stream)

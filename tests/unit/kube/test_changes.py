"""Changes of the cache: nothing is lost, nothing that fails stops the others."""

from __future__ import annotations

import asyncio

from llama_halo.kube.cache import Key
from llama_halo.kube.changes import Change, ChangeFeed

ONE, TWO, OWNER = (
    Key("Pod", "llm", "one"),
    Key("Pod", "llm", "two"),
    Key("LlamaModel", "llm", "m"),
)


def test_several_changes_of_one_object_are_one_with_all_owners() -> None:
    handled: list[Change] = []
    feed = ChangeFeed(handled.append)
    feed.add(Change(ONE, frozenset({OWNER}), is_own_write=True))
    feed.add(Change(TWO, is_own_write=True))
    feed.add(Change(ONE, frozenset({TWO})))
    feed.drain()
    assert handled == [
        Change(ONE, frozenset({OWNER, TWO})),
        Change(TWO, is_own_write=True),
    ]


def test_a_change_that_cannot_be_handled_stops_no_other() -> None:
    handled: list[Key] = []

    def handle(change: Change) -> None:
        if change.key == ONE:
            raise ValueError("not a number")
        handled.append(change.key)

    feed = ChangeFeed(handle)
    feed.add(Change(ONE))
    feed.add(Change(TWO))
    feed.drain()
    feed.add(Change(TWO))
    feed.drain()
    assert handled == [TWO, TWO]


def test_a_handler_may_drain_and_add() -> None:
    handled: list[Key] = []

    def handle(change: Change) -> None:
        feed.drain()
        handled.append(change.key)
        if change.key == ONE:
            feed.add(Change(TWO))

    feed = ChangeFeed(handle)
    feed.add(Change(ONE))
    feed.drain()
    assert handled == [ONE, TWO]


async def test_what_is_added_is_handled_when_nobody_drains() -> None:
    handled = asyncio.Queue[Key]()
    feed = ChangeFeed(lambda change: handled.put_nowait(change.key))
    running = asyncio.create_task(feed.run())
    feed.add(Change(ONE))
    assert await handled.get() == ONE
    feed.add(Change(TWO))
    assert await handled.get() == TWO
    running.cancel()

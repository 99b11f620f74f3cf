"""The reflector: what it does after each way in which a watch ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from llama_halo.errors import ClusterError, Gone
from llama_halo.kube.cache import ObjectCache
from llama_halo.kube.reflector import LIST_SECONDS, Reflector
from llama_halo.kube.resources import POD
from tests.support.virtual_time import in_virtual_time

Json = dict[str, Any]
Step = tuple[str, Json] | Exception


def pod(name: str, version: int) -> Json:
    metadata = {"name": name, "namespace": "llm", "uid": name, "resourceVersion": str(version)}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata}


OPENED: Step = ("OPENED", {})
SILENCE: Step = ("SILENCE", {})
BOOKMARK: Step = ("BOOKMARK", {"metadata": {"resourceVersion": "50"}})


class Server:
    """Lists what it is given, and plays one script for each watch; then it stays silent."""

    def __init__(self, lists: Sequence[list[Json]], watches: Sequence[Sequence[Step]]) -> None:
        self._lists, self._watches = list(lists), list(watches)
        self.requests: list[str] = []

    async def list(self, *_: Any, **__: Any) -> tuple[list[Json], int]:
        self.requests.append("list")
        return (self._lists.pop(0) if len(self._lists) > 1 else self._lists[0]), 10

    async def watch(
        self, *_: Any, version: int | None = None, **__: Any
    ) -> AsyncIterator[tuple[str, Json]]:
        self.requests.append(f"watch {version}")
        for step in self._watches.pop(0) if self._watches else [OPENED, SILENCE]:
            if isinstance(step, Exception):
                raise step
            if step == SILENCE:
                await asyncio.sleep(10**6)
            yield step


class Reflected:
    """A reflector and what it reports."""

    def __init__(self, server: Server) -> None:
        self.cache, self.health, self.recoveries = ObjectCache(), list[str](), 0
        self.reflector = Reflector(
            server,  # type: ignore[arg-type]
            self.cache,
            POD,
            None,
            on_health=self.health.append,
            on_recovery=self._recovered,
            clock=asyncio.get_running_loop().time,
        )

    def _recovered(self) -> None:
        self.recoveries += 1

    async def run(self, seconds: float) -> None:
        task = asyncio.create_task(self.reflector.run())
        await asyncio.sleep(seconds)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    def names(self) -> list[str]:
        return sorted(item["metadata"]["name"] for item in self.cache.all("Pod"))


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (Gone(410, "too old"), ["list", "watch 10", "list", "watch 10"]),
        (ClusterError(500, "an ERROR event"), ["list", "watch 10", "list", "watch 10"]),
        (ConnectionResetError("cut"), ["list", "watch 10", "watch 50"]),
    ],
    ids=["410", "an ERROR event", "a connection that is cut"],
)
@in_virtual_time
async def test_it_lists_again_only_when_the_version_is_lost(
    ending: Exception, expected: list[str]
) -> None:
    server = Server([[pod("a", 5)]], [[OPENED, BOOKMARK, ending]])
    reflected = Reflected(server)
    await reflected.run(3)
    assert server.requests == expected
    assert reflected.health[0] == ""
    assert "the watch of pods is broken" in reflected.health[1]
    assert reflected.health[-1] == ""
    assert reflected.recoveries == 1


@in_virtual_time
async def test_what_was_deleted_during_a_gap_is_found_by_the_list() -> None:
    server = Server([[pod("a", 5), pod("b", 6)], [pod("b", 6)]], [[OPENED, Gone(410, "too old")]])
    reflected = Reflected(server)
    await reflected.run(3)
    assert reflected.names() == ["b"]


@in_virtual_time
async def test_events_reach_the_cache_and_the_next_watch_goes_on_from_them() -> None:
    events: list[Step] = [OPENED, ("ADDED", pod("b", 20)), ("DELETED", pod("a", 30))]
    server = Server([[pod("a", 5)]], [events])
    reflected = Reflected(server)
    await reflected.run(3)
    assert reflected.names() == ["b"]
    assert server.requests[:3] == ["list", "watch 10", "watch 30"]


@in_virtual_time
async def test_a_watch_that_ends_as_soon_as_it_begins_is_not_tried_without_a_pause() -> None:
    server = Server([[]], [[OPENED]] * 1000)
    reflected = Reflected(server)
    await reflected.run(60)
    assert len(server.requests) < 40


@in_virtual_time
async def test_it_lists_from_time_to_time_though_nothing_breaks() -> None:
    async def slow_watch(*_: Any, **__: Any) -> AsyncIterator[tuple[str, Json]]:
        yield "OPENED", {}
        await asyncio.sleep(150)

    server = Server([[]], [])
    server.watch = slow_watch  # type: ignore[method-assign]
    reflected = Reflected(server)
    await reflected.run(2 * LIST_SECONDS + 400)
    assert server.requests == ["list", "list", "list"]

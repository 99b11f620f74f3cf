"""The leader Lease: who acts is who wrote it last, and a deleted Lease is written anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from llama_halo.errors import ClusterError
from llama_halo.kube import leader
from llama_halo.kube.resources import LEASE
from tests.support.virtual_time import in_virtual_time

Json = dict[str, Any]


def lease(holder: str | None) -> Json:
    return {"spec": {"holderIdentity": holder} if holder else {}}


class Server:
    """Plays one script of events, or an error, for each watch; then it stays silent."""

    def __init__(self, *watches: list[tuple[str, Json]] | Exception) -> None:
        self.watches = list(watches)
        self.applied: list[tuple[Json, str]] = []
        self.refusals: list[Exception] = []
        self.watched: list[Json] = []

    async def apply(self, resource: Any, body: Json, *, manager: str) -> Json:
        assert resource is LEASE
        self.applied.append((body, manager))
        if self.refusals:
            raise self.refusals.pop(0)
        return body

    async def watch(self, resource: Any, **options: Any) -> AsyncIterator[tuple[str, Json]]:
        self.watched.append(options)
        if not self.watches:
            await asyncio.sleep(10**6)
        script = self.watches.pop(0)
        if isinstance(script, Exception):
            raise script
        for event in script:
            yield event


async def seen_by(server: Server, identity: str) -> list[str | None]:
    """Return what the watch reports within an hour."""
    holders: list[str | None] = []
    client: Any = server
    watch = leader.watch_claim(client, "system", identity, on_holder=holders.append)
    with suppress(TimeoutError):
        await asyncio.wait_for(watch, 3600)
    return holders


@in_virtual_time
async def test_a_claim_names_the_operator_in_its_own_namespace() -> None:
    server: Any = Server()
    await leader.claim(server, "system", "pod-1")
    ((body, manager),) = server.applied
    assert body["metadata"] == {"name": "llama-halo-operator", "namespace": "system"}
    assert body["spec"] == {"holderIdentity": "pod-1"}
    assert manager == leader.MANAGER


@in_virtual_time
async def test_the_watch_reports_who_else_holds_the_lease() -> None:
    events = [
        ("OPENED", {}),
        ("ADDED", lease("pod-1")),
        ("MODIFIED", lease("pod-2")),
        ("BOOKMARK", {}),
        ("MODIFIED", lease("pod-1")),
    ]
    server = Server(events)
    assert await seen_by(server, "pod-1") == [None, "pod-2", None]
    assert server.watched[0] == {"namespace": "system", "name": "llama-halo-operator"}
    assert server.applied == []


@in_virtual_time
async def test_a_lease_that_is_deleted_is_claimed_anew() -> None:
    server = Server([("ADDED", lease("pod-1")), ("DELETED", lease("pod-1"))])
    assert await seen_by(server, "pod-1") == [None]
    assert [body["spec"] for body, _ in server.applied] == [{"holderIdentity": "pod-1"}]


@in_virtual_time
async def test_a_watch_that_breaks_is_opened_again() -> None:
    server = Server(
        ClusterError(500, "etcd is away"),
        ConnectionError("the server is away"),
        [("ADDED", lease("pod-2"))],
    )
    assert await seen_by(server, "pod-1") == ["pod-2"]
    assert len(server.watched) == 4


@in_virtual_time
async def test_a_claim_that_fails_is_repeated() -> None:
    server = Server([("DELETED", lease("pod-1"))], [("ADDED", lease("pod-1"))])
    server.refusals = [ClusterError(503, "etcd is away"), ConnectionError("the server is away")]
    assert await seen_by(server, "pod-1") == [None]
    assert len(server.applied) == 3

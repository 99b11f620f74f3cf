"""The leader Lease: who acts is who wrote it last, and a deleted Lease is written anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from llama_halo.errors import ClusterError
from llama_halo.kube.leader import MANAGER, IdentityLease
from llama_halo.kube.resources import LEASE, POD
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
        self.pods: dict[str, Json] = {}

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

    async def list(self, resource: Any, *, namespace: str, fields: str) -> tuple[list[Json], int]:
        assert (resource, namespace) == (POD, "system")
        pod = self.pods.get(fields.removeprefix("metadata.name="))
        return ([pod] if pod else []), 1


def identity_lease(server: Server, identity: str, holders: list[str | None]) -> IdentityLease:
    client: Any = server
    return IdentityLease(client, "system", identity, on_holder=holders.append)


async def seen_by(server: Server, identity: str) -> list[str | None]:
    """Return what the watch reports within an hour."""
    holders: list[str | None] = []
    lease = identity_lease(server, identity, holders)
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(lease.watch(), lease.reclaim()), 3600)
    return holders


@in_virtual_time
async def test_a_claim_names_the_operator_in_its_own_namespace() -> None:
    server = Server()
    await identity_lease(server, "pod-1", []).claim()
    ((body, manager),) = server.applied
    assert body["metadata"] == {"name": "llama-halo-operator", "namespace": "system"}
    assert body["spec"] == {"holderIdentity": "pod-1"}
    assert manager == MANAGER


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


@in_virtual_time
async def test_a_lease_without_a_holder_is_claimed_anew() -> None:
    server = Server([("ADDED", lease(None))], [("ADDED", lease("pod-1"))])
    assert await seen_by(server, "pod-1") == [None]
    assert len(server.applied) == 1


def pod(name: str, app: str = "llama-halo-operator", phase: str = "Running") -> Json:
    labels = {"app.kubernetes.io/name": app, "app.kubernetes.io/instance": "llama-halo"}
    return {"metadata": {"name": name, "labels": labels}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("holder", "pods", "claims"),
    [
        pytest.param("pod-2", [pod("pod-1"), pod("pod-2")], False, id="another operator"),
        pytest.param("pod-2", [pod("pod-1")], True, id="an operator that is gone"),
        pytest.param("pod-2", [pod("pod-1"), pod("pod-2", phase="Failed")], True, id="or ended"),
        pytest.param("intruder", [pod("pod-1")], True, id="a name that somebody wrote"),
        pytest.param("pod-1,metadata.name=x", [pod("pod-1")], True, id="no name at all"),
        pytest.param(
            "main-router-1",
            [pod("pod-1"), pod("main-router-1", "model-router")],
            True,
            id="a gateway",
        ),
        pytest.param("pod-2", [], False, id="an operator that is no pod cannot tell"),
    ],
)
@in_virtual_time
async def test_a_lease_whose_holder_is_no_operator_that_runs_is_claimed_again(
    holder: str, pods: list[Json], claims: bool
) -> None:
    server = Server([("ADDED", lease(holder))])
    server.pods = {item["metadata"]["name"]: item for item in pods}
    assert await seen_by(server, "pod-1") == [holder]
    assert bool(server.applied) is claims

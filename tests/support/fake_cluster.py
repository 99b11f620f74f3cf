"""An API server in memory, for property tests that make thousands of writes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import count
from typing import Any

from llama_halo.errors import NotFound
from llama_halo.kube.resources import Resource

Json = dict[str, Any]


class FakeCluster:
    """Stores what is applied, and returns it with a uid and a resourceVersion."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}
        self.statuses: dict[tuple[str, str, str], Json] = {}
        self._versions = count(10**6)

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        obj = self.objects.get((resource.kind, namespace or "", name))
        if obj is None:
            raise NotFound(404, "not found")
        return obj

    async def list(
        self, resource: Resource, *, namespace: str | None, selector: str = "", fields: str = ""
    ) -> tuple[list[Json], int]:
        return [], next(self._versions)

    async def create(self, resource: Resource, namespace: str | None, body: Json) -> Json:
        return body

    async def apply(self, resource: Resource, body: Json, *, manager: str) -> Json:
        metadata = body["metadata"]
        key = (resource.kind, metadata.get("namespace", ""), metadata["name"])
        version = str(next(self._versions))
        uid = f"uid-{'-'.join(key)}"
        stored = {**body, "metadata": {**metadata, "uid": uid, "resourceVersion": version}}
        stored["metadata"]["generation"] = 1
        self.objects[key] = stored
        return stored

    async def apply_status(self, resource: Resource, body: Json, *, manager: str) -> Json:
        metadata = body["metadata"]
        key = (resource.kind, metadata["namespace"], metadata["name"])
        self.statuses[key] = body["status"]
        version = str(next(self._versions))
        return {**body, "metadata": {**metadata, "resourceVersion": version}}

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> bool:
        return self.objects.pop((resource.kind, namespace, name), None) is not None

    async def watch(
        self,
        resource: Resource,
        *,
        namespace: str | None,
        selector: str = "",
        name: str = "",
        version: int | None = None,
    ) -> AsyncGenerator[tuple[str, Json], None]:
        return
        yield

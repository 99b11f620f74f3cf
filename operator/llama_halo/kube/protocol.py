"""The operations of the API server that the operator uses; `kube.client` implements them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Protocol

from llama_halo.kube.resources import Resource

Json = dict[str, Any]


class KubeApi(Protocol):
    """A Kubernetes API server.

    Methods raise `ClusterError` (and its children `NotFound`, `Conflict`) for error answers.
    """

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json: ...

    async def list(
        self, resource: Resource, *, namespace: str | None, selector: str = "", fields: str = ""
    ) -> tuple[list[Json], int]:
        """Return all objects, read in chunks, and the list's resourceVersion."""
        ...

    async def create(self, resource: Resource, namespace: str | None, body: Json) -> Json: ...

    async def apply(self, resource: Resource, body: Json, *, manager: str) -> Json:
        """Apply server-side with force: `manager` takes over the fields that the body sets."""
        ...

    async def apply_status(self, resource: Resource, body: Json, *, manager: str) -> Json: ...

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> bool:
        """Delete the object if it has this uid; return False if the server answers Conflict."""
        ...

    def watch(
        self,
        resource: Resource,
        *,
        namespace: str | None,
        selector: str = "",
        name: str = "",
        version: int | None = None,
    ) -> AsyncGenerator[tuple[str, Json], None]:
        """Yield (event type, object), bookmarks included, until the server ends the watch.

        The first event is OPENED, with an empty object: the server accepted the request. The watch
        starts after `version`. Without a version the server first sends every existing object.
        Raises `Gone` when the server no longer has the version.
        """
        ...

"""What the reconcile loop needs of a cluster; `rest` is the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
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
        """Apply server-side, taking over the fields that the body names."""
        ...

    async def apply_status(self, resource: Resource, body: Json, *, manager: str) -> Json: ...

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> bool:
        """Delete exactly the object with this uid; return whether it is gone or going."""
        ...

    def watch(
        self,
        resource: Resource,
        *,
        namespace: str | None,
        selector: str = "",
        name: str = "",
        version: int | None = None,
    ) -> AsyncIterator[tuple[str, Json]]:
        """Yield (event type, object) until the server ends the watch, bookmarks too.

        The first event is OPENED with an empty object: the server took the request.
        From a version on, else everything there is first. Raises `Gone` when the version is no
        longer known.
        """
        ...

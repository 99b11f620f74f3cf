"""The real cluster: raw requests through the official client, which keeps configuration, TLS and
token refresh. Its typed models are not used: they cost 30 MB and add nothing to plain objects.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kubernetes.aio import client, config

from llama_halo.cluster.port import Json
from llama_halo.cluster.resources import Resource
from llama_halo.errors import ClusterError, Conflict, NotFound, StartupError

CHUNK = 500
TIMEOUT_SECONDS = 30
_APPLY = "application/apply-patch+yaml"


class RestCluster:
    """The API server that the environment points to; `connect` makes one."""

    def __init__(self, api: Any) -> None:
        self._api = api

    @classmethod
    async def connect(cls) -> RestCluster:
        """Use the pod's service account, else KUBECONFIG or ~/.kube/config."""
        try:
            if "KUBECONFIG" not in os.environ and _in_cluster():
                config.load_incluster_config()
            else:
                await config.load_kube_config()
        except (config.ConfigException, FileNotFoundError) as error:
            raise StartupError(
                f"no cluster to talk to ({error}): run in a pod with a service account, or set"
                " KUBECONFIG"
            ) from error
        return cls(client.ApiClient())

    async def close(self) -> None:
        await self._api.close()

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        return await self._request("GET", resource.path(namespace, name))

    async def list(
        self, resource: Resource, *, namespace: str | None, selector: str
    ) -> tuple[list[Json], int]:
        items: list[Json] = []
        query = {"limit": str(CHUNK), **({"labelSelector": selector} if selector else {})}
        while True:
            page = await self._request("GET", resource.path(namespace), query)
            items += page["items"]
            more = page["metadata"].get("continue")
            if not more:
                break
            query["continue"] = more
        for item in items:
            item.setdefault("kind", resource.kind)
            item.setdefault("apiVersion", resource.api_version)
        return items, int(page["metadata"]["resourceVersion"])

    async def create(self, resource: Resource, namespace: str | None, body: Json) -> Json:
        return await self._request("POST", resource.path(namespace), body=body)

    async def apply(self, resource: Resource, body: Json, *, manager: str) -> Json:
        return await self._apply(resource, body, manager, subresource="")

    async def apply_status(self, resource: Resource, body: Json, *, manager: str) -> Json:
        return await self._apply(resource, body, manager, subresource="/status")

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> None:
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._request("DELETE", resource.path(namespace, name), body=body)
        except (NotFound, Conflict):
            return  # gone, or another object by now: both are what was asked for

    async def watch(
        self, resource: Resource, namespace: str | None, *, name: str
    ) -> AsyncIterator[tuple[str, Json]]:
        query = {"watch": "1", "fieldSelector": f"metadata.name={name}", "timeoutSeconds": "300"}
        response = await self._call("GET", resource.path(namespace), query, seconds=330)
        try:
            async for line in response.content:
                if line.strip():
                    event = json.loads(line)
                    yield event["type"], event["object"]
        finally:
            response.close()

    async def _apply(self, resource: Resource, body: Json, manager: str, subresource: str) -> Json:
        metadata = body["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"]) + subresource
        query = {"fieldManager": manager, "force": "true"}
        return await self._request("PATCH", path, query, body=body, content_type=_APPLY)

    async def _request(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> Json:
        response = await self._call(method, path, query, body=body, content_type=content_type)
        async with response:
            answer: Json = json.loads(await response.read())
            return answer

    async def _call(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        *,
        body: Json | None = None,
        content_type: str = "application/json",
        seconds: float = TIMEOUT_SECONDS,
    ) -> Any:
        """Send a request and return the open aiohttp response; raise for error statuses."""
        request = self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = await self._api.call_api(*await request, _request_timeout=seconds)
        response = answer.response
        if response.status >= 400:
            async with response:
                raise _error(response.status, await response.read())
        return response


def _in_cluster() -> bool:
    return Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists()


def _error(status: int, body: bytes) -> ClusterError:
    try:
        answer = json.loads(body)
        message = answer.get("message", "")
        causes = (answer.get("details") or {}).get("causes") or []
    except (ValueError, AttributeError):
        message, causes = body.decode(errors="replace")[:300], []
    kinds = {404: NotFound, 409: Conflict}
    return kinds.get(status, ClusterError)(
        status, message, causes=tuple(cause.get("reason", "") for cause in causes)
    )

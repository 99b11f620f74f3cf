"""The gateway's own watch on the LlamaModels of its namespace.

When the API server cannot be reached, what was last known goes on being served.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from llama_halo.gateway.models import Model, model_of

log = logging.getLogger(__name__)

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_WATCH_SECONDS = 290
_RETRY_SECONDS = (0.5, 1, 2, 5, 10)


@dataclass(frozen=True)
class ApiServer:
    """Where the API server is and what to show it; the defaults are a pod's."""

    url: str = "https://kubernetes.default.svc"
    certificate_authority: Path = _ACCOUNT / "ca.crt"
    token: Path = _ACCOUNT / "token"


class ModelWatch:
    """The models by name, kept current by `run`."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self._server = server
        self._path = f"/apis/llama-halo.dev/v1alpha1/namespaces/{namespace}/llamamodels"
        self.models: dict[str, Model] = {}
        self.synced = False

    async def run(self) -> None:
        """List and watch, for ever."""
        failures = 0
        async with self._client() as client:
            while True:
                try:
                    version = await self._list(client)
                    failures = 0
                    await self._watch(client, version)
                except (httpx.HTTPError, ValueError, KeyError, OSError) as error:
                    delay = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)]
                    failures += 1
                    log.warning(
                        "watch on llamamodels broke, trying again",
                        extra={"reason": repr(error), "retry_seconds": delay},
                    )
                    await asyncio.sleep(delay)

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._server.url,
            verify=httpx.create_ssl_context(verify=str(self._server.certificate_authority)),
            timeout=httpx.Timeout(10, read=_WATCH_SECONDS + 30),
        )

    def _headers(self) -> dict[str, str]:
        """The token is read each time: the kubelet replaces it every hour."""
        return {"Authorization": f"Bearer {self._server.token.read_text().strip()}"}

    async def _list(self, client: httpx.AsyncClient) -> str:
        response = await client.get(self._path, headers=self._headers())
        response.raise_for_status()
        answer = response.json()
        self.models = {each.name: each for each in map(model_of, answer["items"])}
        self.synced = True
        version: str = answer["metadata"]["resourceVersion"]
        return version

    async def _watch(self, client: httpx.AsyncClient, version: str) -> None:
        """Follow changes until the server ends the watch; the caller lists again."""
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        async with client.stream(
            "GET", self._path, params=query, headers=self._headers()
        ) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                self._take(event["type"], event["object"])

    def _take(self, kind: str, cr: dict[str, Any]) -> None:
        if kind in ("ADDED", "MODIFIED"):
            model = model_of(cr)
            self.models[model.name] = model
        elif kind == "DELETED":
            self.models.pop(cr["metadata"]["name"], None)

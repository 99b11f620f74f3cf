"""The load: namespaces, LlamaModels and ModelRouters, and what a watch sees of them."""

from __future__ import annotations

import asyncio
import json
import math
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import aiohttp

from hack.testbed.layout import Layout
from llama_halo.kube.resources import BY_KIND, LLAMAMODEL, MODELROUTER, Resource

NAMESPACES = 10
MODELS_PER_NODE = 100
AT_ONCE = 16
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
Json = dict[str, Any]


def namespaces() -> list[str]:
    return [f"bench-{index}" for index in range(NAMESPACES)]


def nodes_for(models: int) -> int:
    """Return how many fake nodes of 125 GiB the models fit on."""
    return max(3, math.ceil(models / MODELS_PER_NODE))


def model(index: int, **spec: Any) -> Json:
    """Return one LlamaModel with explicit memory."""
    base = {
        "source": {"local": {"path": "x.gguf"}},
        "contextSize": 4096,
        "memory": {"gpu": "768Mi", "host": "128Mi"},
        # No server is behind these pods.
        "verify": {"toolCalling": "Off"},
        "pod": {"resources": {"requests": {"cpu": "100m"}}},
    }
    return {
        "apiVersion": LLAMAMODEL.api_version,
        "kind": LLAMAMODEL.kind,
        "metadata": {"name": f"model-{index}", "namespace": namespaces()[index % NAMESPACES]},
        "spec": {**base, **spec},
    }


def router(index: int) -> Json:
    """Return one ModelRouter of a model in its namespace."""
    name = f"model-{index}"
    return {
        "apiVersion": MODELROUTER.api_version,
        "kind": MODELROUTER.kind,
        "metadata": {"name": f"router-{index}", "namespace": namespaces()[index % NAMESPACES]},
        "spec": {
            "models": [{"name": name, "modelRef": {"name": name}}],
            "routes": {"default": name},
            "pod": {"resources": {"requests": {"cpu": "100m"}}},
        },
    }


class Client:
    """The administrator's requests to the API server; they are not in the audit log."""

    def __init__(self, layout: Layout) -> None:
        context = ssl.create_default_context(cafile=layout.pki / "ca.crt")
        context.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")
        self._session = aiohttp.ClientSession(
            layout.server,
            connector=aiohttp.TCPConnector(ssl=context, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def close(self) -> None:
        await self._session.close()

    async def send(
        self, method: str, path: str, body: Json | None = None, *, patch: str = "merge-patch+json"
    ) -> Json:
        kind = f"application/{patch}" if method == "PATCH" else "application/json"
        headers = {"Content-Type": kind}
        async with self._session.request(method, path, json=body, headers=headers) as response:
            answer: Json = await response.json()
            if response.status >= 400 and response.status != 409:
                raise RuntimeError(f"{method} {path}: {answer.get('message')}")
            return answer

    async def create(self, obj: Json) -> Json:
        path = BY_KIND[obj["kind"]].path(obj["metadata"].get("namespace"))
        return await self.send("POST", path, obj)

    async def delete_all(self, resources: Iterable[Resource]) -> None:
        """Empty the namespaces of these kinds."""
        for resource in resources:
            await at_once(
                lambda name, resource=resource: self.send("DELETE", resource.path(name)),
                namespaces(),
            )

    async def follow(
        self, resource: Resource, on_event: Callable[[str, Json], None], *, metadata_only: bool
    ) -> None:
        """Call `on_event` for every event of a kind, existing objects first; never returns."""
        headers = {"Accept": METADATA_ONLY if metadata_only else "application/json"}
        while True:
            try:
                async with self._session.get(
                    resource.path(), params={"watch": "1"}, headers=headers
                ) as response:
                    response.raise_for_status()  # a CRD is not served the moment it is made
                    await _tell_events(response, on_event)
            except aiohttp.ClientError as error:
                print(f"bench: watching {resource.plural} again: {error!r}", file=sys.stderr)
                await asyncio.sleep(0.1)


async def _tell_events(
    response: aiohttp.ClientResponse, on_event: Callable[[str, Json], None]
) -> None:
    buffer = b""
    async for chunk in response.content.iter_any():
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            event = json.loads(line)
            if event["type"] != "ERROR":
                on_event(event["type"], event["object"])


async def at_once(work: Callable[[Any], Awaitable[Any]], items: Iterable[Any]) -> None:
    """Run `work` for every item, `AT_ONCE` at a time."""
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


async def until(
    check: Callable[[], bool], *, seconds: float, description: str, pause_seconds: float = 0.02
) -> float:
    """Wait for something and return the seconds that it took."""
    started = time.monotonic()
    while not check():
        if time.monotonic() - started > seconds:
            raise RuntimeError(f"{description} did not come within {seconds:.0f} s")
        await asyncio.sleep(pause_seconds)
    return time.monotonic() - started

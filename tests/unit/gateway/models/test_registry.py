"""The gateway's watch: a resource that cannot be read leaves the other models as they are."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from llama_halo.api_server import ApiServer
from llama_halo.gateway.models.registry import ModelRegistry

Json = dict[str, Any]
PATH = "/apis/llama-halo.dev/v1alpha1/namespaces/llm/llamamodels"


class PlainServer(ApiServer):
    """An API server without TLS and tokens."""

    def client(self, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(f"{self.url}/", timeout=timeout)

    def headers(self) -> dict[str, str]:
        return {}


def model(name: str, **more: Any) -> Json:
    return {"metadata": {"name": name}, "spec": {}, "status": {"endpoint": f"http://{name}"}} | more


class World:
    """What the API server answers to the list, and to the watch after it."""

    def __init__(self, items: Any, lines: list[bytes]) -> None:
        self.items, self.lines = items, lines
        self.lists = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            self.lists += 1
            return web.json_response({"items": self.items, "metadata": {"resourceVersion": "7"}})
        response = web.StreamResponse()
        await response.prepare(request)
        for line in self.lines:
            await response.write(line + b"\n")
        await asyncio.Event().wait()
        return response


async def watched(world: World, until: str) -> set[str]:
    """Return the names of the models once one of them is known."""
    app = web.Application()
    app.router.add_get(PATH, world.answer)
    async with TestServer(app) as server:
        registry = ModelRegistry(PlainServer(str(server.make_url("")).rstrip("/")), "llm")
        task = asyncio.create_task(registry.run())
        async with asyncio.timeout(5):
            while until not in registry.models:
                await registry.wait_for_change(until, within_seconds=0.02)
        assert not task.done(), "the watch goes on"
        task.cancel()
        return set(registry.models)


def event(kind: str, cr: Json) -> bytes:
    return json.dumps({"type": kind, "object": cr}).encode()


@pytest.mark.parametrize(
    "broken",
    [
        {"status": {"conditions": 5}},
        {"status": {"conditions": [5]}},
        {"spec": {"activation": 7}},
        {"metadata": {"name": "broken", "labels": [1]}},
        {"status": {"placements": [{"address": "a", "reason": []}, 7]}},
    ],
)
async def test_an_unreadable_resource_leaves_the_others(
    broken: Json, caplog: pytest.LogCaptureFixture
) -> None:
    items = [model("one"), model("broken") | broken, model("two")]
    world = World(items, [event("MODIFIED", items[1]), event("ADDED", model("three"))])
    assert await watched(world, "three") == {"one", "two", "three"}
    assert {record.__dict__["model"] for record in caplog.records} == {"broken"}
    assert world.lists == 1


async def test_an_unreadable_change_leaves_the_model_as_it_was() -> None:
    worse = {**model("one"), "status": {"conditions": 5}}
    world = World([model("one")], [event("MODIFIED", worse), event("ADDED", model("two"))])
    assert await watched(world, "two") == {"one", "two"}


@pytest.mark.parametrize("line", [b"no JSON", b"[]", b'{"type": "ADDED"}', b"[" * 5000])
async def test_a_malformed_event_does_not_end_the_registry(line: bytes) -> None:
    world = World([model("one")], [line, event("ADDED", model("two"))])
    world.items = [model("one"), model("two")]
    assert await watched(world, "two") == {"one", "two"}


async def test_a_resource_that_is_nested_too_deeply_stays_as_it_was() -> None:
    deep = b'{"type": "MODIFIED", "object": {"metadata": {"name": "one"}, "spec": '
    deep += b'{"a":' * 200_000 + b"1" + b"}" * 200_000 + b"}}"
    assert await watched(World([model("one")], [deep, event("ADDED", model("two"))]), "two") == {
        "one",
        "two",
    }

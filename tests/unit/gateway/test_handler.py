"""What a client and the log get when an endpoint raises."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from llama_halo.gateway.apis import openai_chat
from llama_halo.gateway.apis.client_api import OPENAI
from llama_halo.gateway.auth import Keys
from llama_halo.gateway.dispatch.client_stream import ClientStream, send
from llama_halo.gateway.dispatch.fast_path import FastPath
from llama_halo.gateway.handler import RequestHandler
from llama_halo.gateway.http.sse import SseEvent
from llama_halo.gateway.metrics import GatewayMetrics
from llama_halo.gateway.request_record import RequestRecord
from llama_halo.gateway.routing.table import Target

BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def mistaken(_: Any) -> AsyncIterator[bytes]:
    """Stand for a converter with a programming error, after its first event."""
    yield b"data: {}\n\n"
    raise KeyError("secret words")


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[Target, AsyncIterator[SseEvent]]]:
    async def events() -> AsyncIterator[SseEvent]:
        yield SseEvent.of({})

    yield Target("m", "default", "m"), events()


async def in_a_stream(request: web.Request, record: RequestRecord) -> web.StreamResponse:
    exchange = replace(openai_chat.build_exchange(BODY), stream=mistaken)
    client = ClientStream(request, exchange, record, ping_seconds=0)
    return await send(client, opened(), FastPath(exchange.passthrough))


async def at_once(_: web.Request, __: RequestRecord) -> web.StreamResponse:
    raise KeyError("secret words")


async def refused(_: web.Request, __: RequestRecord) -> web.StreamResponse:
    raise web.HTTPNotAcceptable


async def ask(endpoint: Any, keys: Keys = Keys(None), **headers: str) -> tuple[int, str]:  # noqa: B008
    handler = RequestHandler(keys, GatewayMetrics())
    app = web.Application()
    app.router.add_get("/", handler.wrap(OPENAI, endpoint))
    async with TestClient(TestServer(app)) as client:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with client.get("/", headers=named) as response:
            return response.status, await response.text()


async def test_a_mistake_of_the_gateway_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    status, text = await ask(at_once)
    assert status == 500
    assert json.loads(text)["error"]["message"] == "the request could not be handled (KeyError)"
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"]
    assert "secret" not in text


async def test_a_mistake_in_a_stream_is_told_in_the_stream(
    caplog: pytest.LogCaptureFixture,
) -> None:
    status, text = await ask(in_a_stream)
    assert status == 200
    first, error = text.strip().split("\n\n")
    assert first == "data: {}"
    message = json.loads(error.removeprefix("data: "))["error"]["message"]
    assert message == "the request could not be handled (KeyError)"
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"]


async def test_a_refusal_of_the_http_library_has_the_apis_form() -> None:
    status, text = await ask(refused)
    assert status == 406
    assert json.loads(text)["error"]["message"] == "Not Acceptable"


async def answered(_: web.Request, __: RequestRecord) -> web.StreamResponse:
    return web.Response(text="it answers")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "router:8080", "Origin": "http://router:8080"}, 200),
        ({"Host": "router", "Origin": "https://router"}, 200),
        ({"Origin": "app://obsidian.md"}, 200),
        ({"Sec_Fetch_Site": "same-origin", "Origin": "https://a-proxy.example"}, 200),
        ({"Sec_Fetch_Site": "none"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Host": "router", "Origin": "http://router:9"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
    ],
)
async def test_without_keys_no_page_of_another_site_is_answered(
    headers: dict[str, str], status: int
) -> None:
    assert (await ask(answered, **headers))[0] == status


async def test_with_keys_pages_of_other_sites_are_answered(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text("a-key-of-sixteen-bytes")
    headers = {"Origin": "http://page.example", "X_Api_Key": "a-key-of-sixteen-bytes"}
    assert (await ask(answered, Keys(tmp_path), **headers))[0] == 200

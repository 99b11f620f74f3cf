"""What the client sends to the API server, and through which proxy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from llama_halo.kube.client import KubeClient, environment_proxy

SERVER = "https://10.96.0.1:443"


@pytest.mark.parametrize(
    ("environment", "proxy", "headers"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128", None),
        (
            {"HTTPS_PROXY": "http://user:p%40w@proxy:3128"},
            "http://proxy:3128",
            {"Proxy-Authorization": "Basic dXNlcjpwQHc="},
        ),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "10.96.0.1"}, None, None),
        ({"HTTPS_PROXY": "https://user:pw@proxy:3128"}, None, None),
    ],
)
def test_an_http_proxy_is_used_and_its_password_is_not_in_its_address(
    environment: dict[str, str],
    proxy: str | None,
    headers: dict[str, str] | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("HTTPS_PROXY", "NO_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert environment_proxy(SERVER) == (proxy, headers)
    assert "pw" not in caplog.text


def kubeconfig(path: Path, server: str) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "test", "cluster": {"server": server}}],
                "users": [{"name": "test", "user": {"token": "secret"}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "current-context": "test",
            }
        )
    )
    return path


async def test_a_proxied_request_ends_with_a_last_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a Content-Length the API server may drop the answer of a backend that is quick."""
    requests: list[tuple[str, str | None, str | None, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        headers = request.headers
        body = await request.json()
        length, encoding = headers.get("Content-Length"), headers.get("Transfer-Encoding")
        requests.append((request.path, length, encoding, body))
        return web.Response(text="data: 1\n\ndata: 2\n")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        config = kubeconfig(tmp_path / "kubeconfig", str(server.make_url("")))
        monkeypatch.setenv("KUBECONFIG", str(config))
        cluster = await KubeClient.connect()
        lines = cluster.stream("main", "ai", "/v1/chat/completions", {"model": "qwen"}, {})
        assert [line async for line in lines] == [b"data: 1", b"data: 2"]
        await cluster.close()
    path = "/api/v1/namespaces/ai/services/main:http/proxy/v1/chat/completions"
    assert requests == [(path, None, "chunked", {"model": "qwen"})]

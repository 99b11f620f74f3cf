"""What the client sends to the API server, and through which proxy."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from llama_halo.errors import ClusterError, Gone, MalformedAnswer
from llama_halo.kube.client import KubeClient, environment_proxy
from llama_halo.kube.resources import CONFIG_MAP, POD

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


CREATED = "2026-01-01T00:00:00Z"
OBJECT: dict[str, Any] = {
    "metadata": {
        "name": "a",
        "namespace": "ai",
        "uid": "u",
        "resourceVersion": "7",
        "creationTimestamp": CREATED,
    }
}
DEEP = '{"a":' * 200_000 + "1" + "}" * 200_000
"""Deeper than the JSON parser of any Python takes."""


@contextlib.asynccontextmanager
async def api_server(
    answer: Callable[[web.Request], Awaitable[web.Response]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[KubeClient]:
    """Yield a client of a server that answers so."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        config = kubeconfig(tmp_path / "kubeconfig", str(server.make_url("")))
        monkeypatch.setenv("KUBECONFIG", str(config))
        cluster = await KubeClient.connect()
        try:
            yield cluster
        finally:
            await cluster.close()


def always(text: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return a handler that answers every request with a text."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text)

    return answer


@pytest.mark.parametrize(
    "page",
    [
        "<html>a proxy</html>",
        "[]",
        "{}",
        '{"items": {}, "metadata": {"resourceVersion": "9"}}',
        '{"items": [], "metadata": {"resourceVersion": "next"}}',
    ],
)
async def test_a_list_that_is_none_is_a_malformed_answer(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api_server(always(page), tmp_path, monkeypatch) as cluster:
        with pytest.raises(MalformedAnswer, match="the API server's answer"):
            await cluster.list(POD, namespace="ai")


async def test_a_list_comes_in_pages_and_its_objects_have_their_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(request: web.Request) -> web.Response:
        more = {} if "continue" in request.query else {"continue": "more"}
        metadata = {"resourceVersion": "9", **more}
        return web.json_response({"items": [OBJECT], "metadata": metadata})

    async with api_server(answer, tmp_path, monkeypatch) as cluster:
        objects, version = await cluster.list(POD, namespace="ai")
    assert version == 9
    assert [(obj["kind"], obj["apiVersion"]) for obj in objects] == [("Pod", "v1")] * 2


async def test_of_config_maps_the_metadata_alone_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted: list[str] = []
    partial = {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", **OBJECT}

    async def answer(request: web.Request) -> web.Response:
        accepted.append(request.headers["Accept"])
        if "watch" in request.query:
            return web.Response(text=json.dumps({"type": "ADDED", "object": partial}) + "\n")
        return web.json_response({"items": [partial], "metadata": {"resourceVersion": "9"}})

    async with api_server(answer, tmp_path, monkeypatch) as cluster:
        (listed,), _ = await cluster.list(CONFIG_MAP, namespace="ai")
        events = [event async for event in cluster.watch(CONFIG_MAP, namespace="ai", version=5)]
    assert [obj["kind"] for obj in (listed, events[-1][1])] == ["ConfigMap"] * 2
    assert accepted == [
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    ]


BROKEN: list[Any] = [
    5,
    {"metadata": {"name": "b"}},
    {"metadata": {**OBJECT["metadata"], "name": ""}},
    {"metadata": {**OBJECT["metadata"], "labels": {"a": 5}}},
    {"metadata": {**OBJECT["metadata"], "ownerReferences": [{"kind": "Job"}]}},
    {"metadata": {**OBJECT["metadata"], "resourceVersion": "9" * 5000}},
    {"metadata": OBJECT["metadata"], "spec": [1]},
    {"metadata": OBJECT["metadata"], "status": {"conditions": None}},
    {"metadata": OBJECT["metadata"], "status": {"conditions": [{"status": "True"}]}},
]


@pytest.mark.parametrize("broken", BROKEN, ids=range(len(BROKEN)))
async def test_an_object_that_cannot_be_read_is_rejected_alone(
    broken: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    page = json.dumps({"items": [broken, OBJECT, broken], "metadata": {"resourceVersion": "9"}})
    rejected: list[str] = []
    async with api_server(always(page), tmp_path, monkeypatch) as cluster:
        cluster.on_rejected = rejected.append
        objects, _ = await cluster.list(POD, namespace="ai")
    assert [obj["metadata"]["name"] for obj in objects] == ["a"]
    assert rejected == ["Pod", "Pod"]
    assert len([record for record in caplog.records if "rejected" in record.message]) == 1


async def test_a_list_with_an_object_that_is_nested_too_deeply_has_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = json.dumps(OBJECT).replace('"a"', '"deep"')[:-1] + f', "spec": {DEEP}}}'
    page = f'{{"items": [{deep}, {json.dumps(OBJECT)}], "metadata": {{"resourceVersion": "9"}}}}'
    rejected: list[str] = []
    async with api_server(always(page), tmp_path, monkeypatch) as cluster:
        cluster.on_rejected = rejected.append
        objects, version = await cluster.list(POD, namespace="ai")
    assert [obj["metadata"]["name"] for obj in objects] == ["a"]
    assert (version, rejected) == (9, ["Pod"])


async def test_a_watch_goes_on_after_an_object_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [f'{{"type": "ADDED", "object": {{"metadata": {DEEP}}}}}']
    events += [json.dumps({"type": "ADDED", "object": obj}) for obj in (BROKEN[1], OBJECT)]
    async with api_server(always("\n".join([*events, ""])), tmp_path, monkeypatch) as cluster:
        watch = cluster.watch(POD, namespace="ai", version=5)
        assert [(await anext(watch))[0] for _ in range(2)] == ["OPENED", "ADDED"]


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["not JSON"], MalformedAnswer),
        (["5"], MalformedAnswer),
        ([{"type": "ADDED"}], MalformedAnswer),
        ([{"type": "BOOKMARK", "object": {"metadata": {}}}], MalformedAnswer),
        ([{"type": "ERROR", "object": {"code": 410, "message": "too old"}}], Gone),
        ([{"type": "ERROR", "object": {"code": 500, "message": "etcd"}}], ClusterError),
    ],
)
async def test_a_watch_ends_with_what_is_wrong_in_it(
    lines: list[Any], error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [{"type": "ADDED", "object": OBJECT}, *lines]
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in events)
    async with api_server(always(text), tmp_path, monkeypatch) as cluster:
        watch = cluster.watch(POD, namespace="ai", version=5)
        assert [(await anext(watch))[0] for _ in range(2)] == ["OPENED", "ADDED"]
        with pytest.raises(error):
            await anext(watch)


async def test_a_line_that_is_cut_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = json.dumps({"type": "ADDED", "object": OBJECT})
    text = f"{whole}\n{whole[:40]}"
    async with api_server(always(text), tmp_path, monkeypatch) as cluster:
        kinds = [kind async for kind, _ in cluster.watch(POD, namespace="ai", version=5)]
    assert kinds == ["OPENED", "ADDED"]


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

    async with api_server(answer, tmp_path, monkeypatch) as cluster:
        lines = cluster.stream("main", "ai", "/v1/chat/completions", {"model": "qwen"}, {})
        assert [line async for line in lines] == [b"data: 1", b"data: 2"]
    path = "/api/v1/namespaces/ai/services/main:http/proxy/v1/chat/completions"
    assert requests == [(path, None, "chunked", {"model": "qwen"})]

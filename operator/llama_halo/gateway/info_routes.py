"""Routes that need no model: lists, health, and the routes that clients call at startup."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from prometheus_client import generate_latest

from llama_halo.gateway import listing, ui
from llama_halo.gateway.dispatch.queue import AdmissionQueue
from llama_halo.gateway.handler import RequestHandler
from llama_halo.gateway.http.bodies import read_object
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.metrics import GatewayMetrics
from llama_halo.gateway.models.model import Model
from llama_halo.gateway.models.registry import ModelRegistry
from llama_halo.gateway.request_record import RequestRecord
from llama_halo.gateway.routing.features import RequestFeatures
from llama_halo.gateway.routing.selector import TargetSelector, no_such_model

UNKNOWN_URL = "unknown_url"
OLLAMA_VERSION = "0.13.4"
"""The API version that clients check before they use newer features: the first with /v1/responses,
which Codex requires."""
_MANAGED = "models are LlamaModel resources: use kubectl apply"
Json = dict[str, Any]


class InfoRoutes:
    """Lists, probes, metrics, the status page, and errors for unknown paths."""

    def __init__(
        self,
        registry: ModelRegistry,
        selector: TargetSelector,
        handler: RequestHandler,
        admission: AdmissionQueue,
        metrics: GatewayMetrics,
    ) -> None:
        self._registry = registry
        self._selector = selector
        self._handler = handler
        self._admission = admission
        self._metrics = metrics

    def open_routes(self) -> list[web.RouteDef]:
        """Return the routes that need no key: probes, and what clients call without one."""
        root = self._root
        return [
            *self.admin_routes(),
            web.get("/health", _ok),
            web.get("/", root),
            web.get("/ui", _page),
            # Claude Code calls these at startup and uses nothing of the response.
            web.get("/api/hello", root),
            web.post("/api/event_logging/batch", _discard),
            web.post("/api/event_logging/v2/batch", _discard),
            web.get("/api/version", _version),
        ]

    def admin_routes(self) -> list[web.RouteDef]:
        """Return the routes of the probes and the metrics."""
        return [
            web.get("/healthz", _ok),
            web.get("/readyz", self._readyz),
            web.get("/metrics", self._metrics_text),
        ]

    async def models(self, _: web.Request, record: RequestRecord) -> web.StreamResponse:
        """`GET /v1/models`."""
        return _json(listing.listing(self._selector.table), record)

    async def ui_data(self, _: web.Request, record: RequestRecord) -> web.StreamResponse:
        """`GET /ui/data`: the data of the status page."""
        table, others = self._selector.table, self._handler.others(record)
        return _json(ui.snapshot(table, self._admission, others, self._metrics.answered), record)

    async def model(self, request: web.Request, record: RequestRecord) -> web.StreamResponse:
        """`GET /v1/models/NAME`."""
        return _json(self._entry_of(request.match_info["name"], listing.entry), record)

    async def tags(self, _: web.Request, record: RequestRecord) -> web.StreamResponse:
        """`GET /api/tags`: Ollama's list of models."""
        return _json(listing.tags(self._selector.table), record)

    async def running(self, _: web.Request, record: RequestRecord) -> web.StreamResponse:
        """`GET /api/ps`: the models that answer now."""
        return _json(listing.running(self._selector.table), record)

    async def show(self, request: web.Request, record: RequestRecord) -> web.StreamResponse:
        """`POST /api/show`: architecture, context and capabilities of a model."""
        return _json(self._entry_of(await _name(request), listing.show), record)

    async def pull(self, request: web.Request, record: RequestRecord) -> web.StreamResponse:
        """`POST /api/pull`: succeeds for a known model and downloads nothing; else 404."""
        body = await read_object(request)
        name = str(body.get("model", body.get("name", "")))
        self._entry_of(name, listing.entry)
        lines = [{"status": "pulling manifest"}, {"status": "success"}]
        if body.get("stream") is False:
            return _json(lines[-1], record)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        return web.Response(
            text=text, content_type="application/x-ndjson", headers=record.headers()
        )

    async def unknown(self, request: web.Request, _: RequestRecord) -> web.StreamResponse:
        """Answer an unknown path with the list of paths; Ollama's model management with 501."""
        if request.path in ("/api/create", "/api/copy", "/api/delete", "/api/push"):
            raise Failure(501, f"{request.path} is not served: {_MANAGED}")
        if request.path.startswith("/v1/v1/"):
            raise Failure(404, "the base URL has /v1 twice: give it without /v1", code=UNKNOWN_URL)
        raise Failure(
            404,
            f"{request.method} {request.path[:200]} is not served here: /v1/messages (Anthropic),"
            " /v1/chat/completions, /v1/responses, /v1/completions, /v1/embeddings, /v1/rerank,"
            " /v1/audio/transcriptions, /v1/models (OpenAI) and /api/chat, /api/generate,"
            " /api/tags (Ollama) are",
            code=UNKNOWN_URL,
        )

    def _entry_of(self, name: str, entry: Callable[[str, Model | None], Json]) -> Json:
        """Return the entry of a model by any of its names; raises `Failure` (404) if unknown."""
        table = self._selector.table
        models_by_name = table.models_by_name()
        exact = next(
            (
                candidate
                for candidate in (name, name.removesuffix(":latest"))
                if candidate in models_by_name
            ),
            None,
        )
        if exact is not None:
            return entry(exact, models_by_name[exact])
        target = table.resolve(name, RequestFeatures())  # a name that only a pattern matches
        if target is None:
            raise no_such_model(name[:200])
        return entry(name, table.model_of(target))

    async def _root(self, _: web.Request) -> web.Response:
        # Ollama's clients check for this text.
        return web.Response(
            text=f"Ollama is running (llama-halo router {self._selector.table.config.router})\n"
        )

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._handler.draining:
            return web.Response(status=503, text="draining\n")
        if not self._registry.synced:
            return web.Response(status=503, text="the models have not been listed yet\n")
        return web.Response(text="ok\n")

    async def _metrics_text(self, _: web.Request) -> web.Response:
        self._metrics.tasks.set(len(asyncio.all_tasks()))
        text = await asyncio.to_thread(generate_latest, self._metrics.registry)
        headers = {"Content-Type": "text/plain; version=0.0.4"}
        return web.Response(body=text, headers=headers)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def with_slashes(*routes: web.RouteDef) -> list[web.RouteDef]:
    """Return the routes, and the plain ones again with the trailing slash some clients send."""
    plain = [route for route in routes if "{" not in route.path and route.path != "/"]
    more = [web.RouteDef(route.method, f"{route.path}/", route.handler, {}) for route in plain]
    return [*routes, *more]


def path_of(request: web.Request) -> str:
    """Return the request's path without a trailing slash."""
    return request.path.rstrip("/")


async def _ok(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _page(_: web.Request) -> web.Response:
    return web.Response(text=ui.page(), headers=ui.HEADERS)


async def _discard(_: web.Request) -> web.Response:
    return web.json_response({})


async def _version(_: web.Request) -> web.Response:
    return web.json_response({"version": OLLAMA_VERSION})


async def _name(request: web.Request) -> str:
    body = await read_object(request)
    return str(body.get("model", body.get("name", "")))


def _json(body: Json, record: RequestRecord) -> web.Response:
    record.record_first_byte()
    return web.json_response(body, headers=record.headers())

"""The gateway's HTTP server: routes of the two APIs, the life of a request, and draining."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from prometheus_client import generate_latest

from llama_halo.gateway import anthropic, openai
from llama_halo.gateway.config import GatewayConfig
from llama_halo.gateway.failures import Failure, anthropic_error, openai_error
from llama_halo.gateway.hold import Held
from llama_halo.gateway.listing import entry, listing, names
from llama_halo.gateway.metrics import GatewayMetrics
from llama_halo.gateway.requests import checked, session_of
from llama_halo.gateway.routing import Target, is_background, resolve
from llama_halo.gateway.sse import encode
from llama_halo.gateway.watch import ModelWatch

log = logging.getLogger(__name__)

BODY_LIMIT_BYTES = 64 * 2**20
_STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
# Legal before anything else of a stream, and skipped by every client that was tried.
_HEARTBEATS = {"anthropic": encode({"type": "ping"}, "ping"), "openai": b": keep-alive\n\n"}
COMMIT_SECONDS = 10.0
"""For so long an error still gets its own HTTP status."""


@dataclass
class _Call:
    """One request on its way: what the log and the metrics say of it. Never its content."""

    api: str
    request_id: str = field(default_factory=lambda: f"req_{uuid.uuid4().hex}")
    started: float = field(default_factory=time.monotonic)
    first_byte_seconds: float | None = None
    target: Target | None = None

    def headers(self) -> dict[str, str]:
        found = {"request-id": self.request_id, "x-request-id": self.request_id}
        if self.target:
            found |= {"x-route": self.target.route, "x-model": self.target.name}
        return found

    def first_byte(self) -> None:
        if self.first_byte_seconds is None:
            self.first_byte_seconds = time.monotonic() - self.started


class Gateway:
    """One router's data path."""

    def __init__(
        self, config: GatewayConfig, watch: ModelWatch, held: Held, metrics: GatewayMetrics
    ) -> None:
        self._config = config
        self._watch = watch
        self._held = held
        self.metrics = metrics
        self.draining = False
        self.in_flight = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        app = web.Application(client_max_size=BODY_LIMIT_BYTES)
        app.on_response_prepare.append(self._close_when_draining)
        app.add_routes(
            [
                web.post("/v1/messages", self._handler("anthropic", self._messages)),
                web.post(
                    "/v1/messages/count_tokens", self._handler("anthropic", self._count_tokens)
                ),
                web.post("/v1/chat/completions", self._handler("openai", self._chat)),
                web.get("/v1/models", self._models),
                web.get("/v1/models/{name:.+}", self._handler("openai", self._model)),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/", self._root),
                # Claude Code calls these at its start and expects nothing of them.
                web.get("/api/hello", self._root),
                web.post("/api/event_logging/batch", self._discard),
                web.post("/api/event_logging/v2/batch", self._discard),
                web.route("*", "/{path:.*}", self._handler("openai", self._unknown)),
            ]
        )
        return app

    def _handler(
        self, api: str, handle: Callable[[web.Request, _Call], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Wrap a handler: failures in the API's own shape, metrics, one log line."""

        async def handler(request: web.Request) -> web.StreamResponse:
            call = _Call(api)
            status = 499  # unless an answer says otherwise, the client went away
            self._entered()
            try:
                response = await handle(request, call)
                status = response.status
                return response
            except Failure as failure:
                status = failure.status
                return _failed(failure, call)
            except web.HTTPRequestEntityTooLarge:
                status = 413
                limit = BODY_LIMIT_BYTES // 2**20
                return _failed(Failure(413, f"the request body exceeds {limit} MiB"), call)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                # Something that neither we nor the model's server should have sent or taken.
                status = 500
                log.exception("request failed", extra={"request_id": call.request_id})
                what = f"the request could not be handled ({type(error).__name__})"
                return _failed(Failure(500, what), call)
            except ConnectionResetError:
                raise asyncio.CancelledError from None  # the client went away while we wrote
            finally:
                self._left()
                self._account(call, request.path, status)

        return handler

    async def _close_when_draining(self, _: web.Request, response: web.StreamResponse) -> None:
        """Send a client with a kept connection elsewhere for its next request."""
        if self.draining:
            response.force_close()

    def _entered(self) -> None:
        self.in_flight += 1
        self.metrics.in_flight.inc()
        self.idle.clear()

    def _left(self) -> None:
        self.in_flight -= 1
        self.metrics.in_flight.dec()
        if not self.in_flight:
            self.idle.set()

    async def _messages(self, request: web.Request, call: _Call) -> web.StreamResponse:
        body = anthropic.validate(await _json(request))
        target = self._choose(body, call)
        path, upstream_body = "/v1/messages", anthropic.stream_body(body)
        session = session_of(request.headers, body)
        if not body.get("stream"):
            async with self._held.stream(target, path, upstream_body, session=session) as events:
                return _answer(await anthropic.collect(events, model=body["model"]), call)

        async def chunks() -> AsyncGenerator[bytes, None]:
            async with self._held.stream(target, path, upstream_body, session=session) as events:
                async for chunk in anthropic.stream(
                    events, model=body["model"], request_id=call.request_id
                ):
                    yield chunk

        return await self._stream(request, chunks(), call)

    async def _count_tokens(self, request: web.Request, call: _Call) -> web.StreamResponse:
        body = anthropic.validate(await _json(request))
        target = self._choose(body, call)
        mended = anthropic.upstream_body(body)
        mended.pop("stream", None)
        path = "/v1/messages/count_tokens"
        session = session_of(request.headers, body)
        return _answer(await self._held.ask(target, path, mended, session=session), call)

    async def _chat(self, request: web.Request, call: _Call) -> web.StreamResponse:
        body = checked(await _json(request))
        target = self._choose(body, call)
        path, upstream_body = "/v1/chat/completions", openai.stream_body(body)
        session = session_of(request.headers, body)
        if not body.get("stream"):
            async with self._held.stream(target, path, upstream_body, session=session) as events:
                return _answer(await openai.collect(events, model=body["model"]), call)

        async def chunks() -> AsyncGenerator[bytes, None]:
            async with self._held.stream(target, path, upstream_body, session=session) as events:
                async for chunk in openai.stream(
                    events, model=body["model"], usage=openai.wants_usage(body)
                ):
                    yield chunk

        return await self._stream(request, chunks(), call)

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response(listing(self._config, self._watch.models))

    async def _model(self, request: web.Request, call: _Call) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in names(self._config, self._watch.models):
            raise _no_such_model(name)
        return _answer(entry(self._config, self._watch.models, name), call)

    async def _unknown(self, request: web.Request, call: _Call) -> web.StreamResponse:
        if request.path.startswith("/v1/v1/"):
            raise Failure(404, "the base URL has /v1 twice: give it without /v1")
        raise Failure(
            404,
            f"{request.method} {request.path} is not served here; /v1/messages (Anthropic) and"
            " /v1/chat/completions, /v1/models (OpenAI) are",
        )

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self.draining:
            return web.Response(status=503, text="draining\n")
        if not self._watch.synced:
            return web.Response(status=503, text="the models are not known yet\n")
        return web.Response(text="ok\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self.metrics.registry),
            headers={"Content-Type": "text/plain; version=0.0.4"},
        )

    async def _root(self, _: web.Request) -> web.Response:
        return web.Response(text=f"llama-halo router {self._config.router}\n")

    async def _discard(self, _: web.Request) -> web.Response:
        return web.json_response({})

    def _choose(self, body: dict[str, Any], call: _Call) -> Target:
        """Note which model answers a request."""
        name, background = body["model"], is_background(body)
        target = resolve(self._config, self._watch.models, name, background=background)
        if target is None:
            raise _no_such_model(name)
        call.target = target
        return target

    async def _stream(
        self, request: web.Request, chunks: AsyncGenerator[bytes, None], call: _Call
    ) -> web.StreamResponse:
        """Send a stream as it comes; until the first event, an error still has its own HTTP
        status, unless that takes long: then the client is told that it is not forgotten."""
        first = asyncio.ensure_future(anext(chunks, None))
        response: web.StreamResponse | None = None
        try:
            while not (await asyncio.wait({first}, timeout=self._patience(response)))[0]:
                response = response or await _begin(request, call)
                await response.write(_HEARTBEATS[call.api])
            chunk = await first
            if chunk is None:
                raise Failure(502, "the model's server ended without an answer")
            response = response or await _begin(request, call)
            call.first_byte()
            await response.write(chunk)
            async for chunk in chunks:
                await response.write(chunk)
        except Failure as failure:
            if response is None:
                raise
            await response.write(_in_band(failure, call))
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await chunks.aclose()
        await response.write_eof()
        return response

    def _patience(self, response: web.StreamResponse | None) -> float:
        """Return after what silence to write a heartbeat: the first one fixes the HTTP status."""
        pause = self._config.ping_seconds
        return min(pause, COMMIT_SECONDS) if response is None else pause

    def _account(self, call: _Call, path: str, status: int) -> None:
        model = call.target.name if call.target else ""
        route = call.target.route if call.target else ""
        self.metrics.requests.labels(call.api, model, route, str(status)).inc()
        if call.first_byte_seconds is not None:
            self.metrics.first_byte_seconds.labels(model, route).observe(call.first_byte_seconds)
        log.info(
            "request",
            extra={
                "path": path,
                "model": model,
                "route": route,
                "status": status,
                "request_id": call.request_id,
                "duration_ms": round((time.monotonic() - call.started) * 1000, 1),
                "first_byte_ms": call.first_byte_seconds
                and round(call.first_byte_seconds * 1000, 1),
            },
        )


async def _json(request: web.Request) -> Any:
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise Failure(400, f"the request body is not JSON: {error}") from error


async def _begin(request: web.Request, call: _Call) -> web.StreamResponse:
    response = web.StreamResponse(headers={**_STREAM_HEADERS, **call.headers()})
    await response.prepare(request)
    return response


def _in_band(failure: Failure, call: _Call) -> bytes:
    """Return a failure as an event of a stream whose status is sent already."""
    if call.api == "anthropic":
        return encode(anthropic_error(failure, call.request_id), "error")
    return encode(openai_error(failure))


def _answer(body: dict[str, Any], call: _Call) -> web.Response:
    call.first_byte()
    return web.json_response(body, headers=call.headers())


def _failed(failure: Failure, call: _Call) -> web.Response:
    if call.api == "anthropic":
        body = anthropic_error(failure, call.request_id)
    else:
        body = openai_error(failure)
    return web.json_response(
        body, status=failure.status, headers={**call.headers(), **failure.headers}
    )


def _no_such_model(name: str) -> Failure:
    return Failure(
        404,
        f"The model '{name}' does not exist; GET /v1/models lists what does",
        code="model_not_found",
    )

"""The gateway's HTTP server: the routes of all APIs, the life of a request, and draining."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from llama_halo.contract.gateway_config import GatewayConfig
from llama_halo.gateway import ui
from llama_halo.gateway.apis import (
    anthropic,
    ollama,
    openai_audio,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
)
from llama_halo.gateway.apis.client_api import ANTHROPIC, OLLAMA, OPENAI, RESPONSES, Api
from llama_halo.gateway.apis.exchange import ApiExchange
from llama_halo.gateway.apis.openai_embeddings import EMBEDDINGS, RERANK
from llama_halo.gateway.apis.upstream_request import UpstreamRequest
from llama_halo.gateway.apis.validation import checked_model, passed_on, session_of
from llama_halo.gateway.auth import Keys
from llama_halo.gateway.dispatch.client_stream import ClientStream, send
from llama_halo.gateway.dispatch.dispatcher import RequestDispatcher
from llama_halo.gateway.dispatch.fast_path import FastPath
from llama_halo.gateway.dispatch.queue import AdmissionQueue
from llama_halo.gateway.http import bodies
from llama_halo.gateway.http.errors import UNREADABLE, Failure, broken, ending, unreadable
from llama_halo.gateway.http.json_codec import dumps
from llama_halo.gateway.info_routes import InfoRoutes, path_of, with_slashes
from llama_halo.gateway.metrics import GatewayMetrics
from llama_halo.gateway.models.model import EMBEDDING, TRANSCRIPTION
from llama_halo.gateway.models.model import RERANK as RERANKS
from llama_halo.gateway.models.registry import ModelRegistry
from llama_halo.gateway.request_record import RequestRecord
from llama_halo.gateway.routing.clients import client_of
from llama_halo.gateway.routing.features import RequestFeatures, features_of
from llama_halo.gateway.routing.selector import TargetSelector

log = logging.getLogger(__name__)

MOST_REQUESTS = 4096
"""At once, open streams and held ones included."""
MOST_NAME_LETTERS = 100
"""Of the name that a client asked for, in the log."""
Json = dict[str, Any]
Handle = Callable[[web.Request, RequestRecord], Awaitable[web.StreamResponse]]
Make = Callable[[Json], ApiExchange]


class Gateway:
    """One router's data path."""

    def __init__(
        self,
        config: GatewayConfig,
        registry: ModelRegistry,
        dispatcher: RequestDispatcher,
        admission: AdmissionQueue,
        keys: Keys,
        metrics: GatewayMetrics,
    ) -> None:
        self._config = config
        self._registry = registry
        self._dispatcher = dispatcher
        self._keys = keys
        self._selector = TargetSelector(config, registry, dispatcher)
        self.info_routes = InfoRoutes(config, registry, metrics)
        self.metrics = metrics
        self._admission = admission
        self._records: dict[str, RequestRecord] = {}
        """What is being answered, by the request's number."""
        self._body_bytes = 0
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def draining(self) -> bool:
        return self.info_routes.draining

    @property
    def in_flight(self) -> int:
        return len(self._records)

    def drain(self) -> None:
        """Tell the Service and kept connections to go elsewhere."""
        self.info_routes.draining = True

    def cut(self) -> None:
        """End what is still open; each client is told."""
        for record in self._records.values():
            record.aborted = True
            if record.task:
                record.task.cancel()

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        app = web.Application(client_max_size=bodies.LIMIT_BYTES)
        app.on_response_prepare.append(self._prepare)
        post, get = self._post, self._get
        generate, info = self._generate, self.info_routes
        app.add_routes(
            with_slashes(
                post("/v1/messages", ANTHROPIC, generate(anthropic.validate, anthropic.generation)),
                post("/v1/messages/count_tokens", ANTHROPIC, self._count_tokens),
                post(
                    "/v1/chat/completions",
                    OPENAI,
                    generate(openai_chat.validate, openai_chat.generation),
                ),
                post(
                    "/v1/completions",
                    OPENAI,
                    generate(openai_completions.validate, openai_completions.generation),
                ),
                post(
                    "/v1/responses",
                    RESPONSES,
                    generate(openai_responses.validate, openai_responses.generation),
                ),
                post(
                    EMBEDDINGS, OPENAI, self._json_endpoint(EMBEDDINGS, openai_embeddings.checked)
                ),
                *(
                    post(
                        path, OPENAI, self._json_endpoint(RERANK, openai_embeddings.checked_rerank)
                    )
                    for path in (RERANK, "/rerank")
                ),
                *(post(path, OPENAI, self._transcribe) for path in openai_audio.PATHS),
                post("/api/chat", OLLAMA, generate(ollama.validate_chat, ollama.chat)),
                post("/api/generate", OLLAMA, generate(ollama.validate_prompt, ollama.generate)),
                post("/api/embed", OLLAMA, self._embed),
                post("/api/embeddings", OLLAMA, self._embed),
                post("/api/show", OLLAMA, info.show),
                post("/api/pull", OLLAMA, info.pull),
                get("/api/tags", OLLAMA, info.tags),
                get("/api/ps", OLLAMA, info.running),
                get("/v1/models", OPENAI, info.models),
                get("/v1/models/{name:.+}", OPENAI, info.model),
                get("/ui/data", OPENAI, self._ui_data),
                *info.open_routes(),
                web.route(
                    "*", "/{path:(?:v1/)*messages.*}", self._handler(ANTHROPIC, info.unknown)
                ),
                web.route("*", "/api/{path:.*}", self._handler(OLLAMA, info.unknown)),
                web.route("*", "/{path:.*}", self._handler(OPENAI, info.unknown)),
            )
        )
        return app

    def _post(self, path: str, api: Api, handle: Handle) -> web.RouteDef:
        return web.post(path, self._handler(api, handle))

    def _get(self, path: str, api: Api, handle: Handle) -> web.RouteDef:
        return web.get(path, self._handler(api, handle))

    def _handler(
        self, api: Api, handle: Handle
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Wrap a handler: keys, failures in the API's own shape, metrics, one log line."""

        async def handler(request: web.Request) -> web.StreamResponse:
            if request.method == "OPTIONS":
                return self._preflight(request)
            record = RequestRecord(api, client_of(request.headers), task=asyncio.current_task())
            status = 499  # unless an answer says otherwise, the client went away
            self._entered(record)
            try:
                self._keys.check(request.headers)
                self._admit(request)
                response = await handle(request, record)
                status = response.status
                return response
            except (Failure, web.HTTPRequestEntityTooLarge, *UNREADABLE) as error:
                record.failure = _failure_of(error, record)
                return _failed(record.failure, record)
            except asyncio.CancelledError:
                if not record.aborted:
                    raise
                record.failure = ending()
                return _failed(record.failure, record)
            except ConnectionResetError:
                raise asyncio.CancelledError from None  # the client went away while we wrote
            finally:
                self._left(record)
                self._account(record, request.path, status)
                record.failure = record.task = None  # no cycle: those are collected seldom

        return handler

    def _admit(self, request: web.Request) -> None:
        """Refuse more requests than there is memory for, and a body that says it is too large."""
        if self.in_flight > MOST_REQUESTS:
            raise Failure(429, "too many requests at once", retry_after_seconds=5)
        if (request.content_length or 0) > bodies.LIMIT_BYTES:
            raise bodies.too_large()

    def _weighing(self, record: RequestRecord) -> Callable[[int], None]:
        """Return a callback that counts the bytes of a body: all bodies together have a limit."""

        def taken(size: int) -> None:
            self._body_bytes += size
            record.body_bytes += size
            if self._body_bytes > bodies.MOST_AT_ONCE_BYTES:
                raise Failure(429, "too many large requests at once", retry_after_seconds=5)

        return taken

    async def _prepare(self, _: web.Request, response: web.StreamResponse) -> None:
        """Send a client with a kept connection elsewhere while draining; let pages of any site read
        what they have a key for, and nothing without keys."""
        if self.draining:
            response.force_close()
        if self._keys.required:
            response.headers["Access-Control-Allow-Origin"] = "*"
            response.headers["Access-Control-Expose-Headers"] = "request-id, x-model, x-route"

    def _entered(self, record: RequestRecord) -> None:
        self._records[record.request_id] = record
        self.metrics.in_flight.inc()
        self.idle.clear()

    def _left(self, record: RequestRecord) -> None:
        del self._records[record.request_id]
        self._body_bytes -= record.body_bytes
        self.metrics.in_flight.dec()
        if not self.in_flight:
            self.idle.set()

    def _generate(self, validate: Callable[[Any], Json], make: Make) -> Handle:
        """Return the handler of an API that generates text."""

        async def handle(request: web.Request, record: RequestRecord) -> web.StreamResponse:
            body = validate(bodies.parsed(await bodies.read(request, self._weighing(record))))
            record.requested_model = body["model"]
            if shortcut := ollama.without_prompt(path_of(request), body):
                self._selector.ensure_known(record.requested_model)
                return _answer(shortcut, record)
            tag, body = anthropic.take_tag(body) if record.api is ANTHROPIC else ("", body)
            exchange = make(body)
            session = session_of(request.headers, body)
            count = UpstreamRequest(exchange.counts, exchange.body) if exchange.counts else None
            targets = await self._selector.select(
                tag or record.requested_model,
                features_of(request.headers, body, record.body_bytes),
                session=session,
                count=count,
            )
            record.target = targets[0]
            upstream_request = UpstreamRequest(
                exchange.path,
                exchange.body,
                native_path=exchange.native_path,
                client_body=body,
                headers=passed_on(request.headers),
            )
            fast_path = FastPath(exchange.passthrough)
            opened = self._dispatcher.stream(targets, upstream_request, fast_path, session=session)
            if exchange.streams:
                client = ClientStream(request, exchange, record, self._config.ping_seconds)
                return await send(client, opened, fast_path)
            async with opened as (record.target, events):
                try:
                    return _answer(await exchange.collect(record.count_tokens(events)), record)
                except UNREADABLE as error:
                    raise unreadable(error) from error

        return handle

    async def _count_tokens(
        self, request: web.Request, record: RequestRecord
    ) -> web.StreamResponse:
        data = await bodies.read(request, self._weighing(record))
        body = anthropic.validate(bodies.parsed(data))
        record.requested_model = body["model"]
        features = features_of(request.headers, body, record.body_bytes)
        targets = await self._selector.select(
            record.requested_model, features, session=session_of(request.headers, body), count=None
        )
        record.target = targets[0]
        count = UpstreamRequest(anthropic.COUNT_PATH, anthropic.upstream_body(body))
        return _answer(
            {"input_tokens": await self._selector.count_tokens(targets[0], features, count)}, record
        )

    def _json_endpoint(self, path: str, check: Callable[[Any], Json]) -> Handle:
        """Return the handler of what is answered at once with one object."""

        async def handle(request: web.Request, record: RequestRecord) -> web.StreamResponse:
            body = check(bodies.parsed(await bodies.read(request, self._weighing(record))))
            return _answer(await self._ask_model(request, record, path, body), record)

        return handle

    async def _embed(self, request: web.Request, record: RequestRecord) -> web.StreamResponse:
        body = checked_model(bodies.parsed(await bodies.read(request, self._weighing(record))))
        asked = await self._ask_model(request, record, EMBEDDINGS, ollama.embedding(body))
        return _answer(ollama.embedded(asked, body, path_of(request)), record)

    async def _ask_model(
        self, request: web.Request, record: RequestRecord, path: str, body: Json
    ) -> Json:
        record.requested_model = body["model"]
        session = session_of(request.headers, body)
        mode = EMBEDDING if path == EMBEDDINGS else RERANKS
        targets = await self._selector.select(
            record.requested_model, RequestFeatures(), session=session, count=None, mode=mode
        )
        upstream_request = UpstreamRequest(path, body)
        record.target, answer = await self._dispatcher.ask(
            targets, upstream_request, session=session
        )
        value = answer.value()
        record.usage.note(value)
        return {**value, "model": record.requested_model}

    async def _transcribe(self, request: web.Request, record: RequestRecord) -> web.StreamResponse:
        """Pass a recording on; what is said in it comes back in the form that was asked for."""
        form = await bodies.read_form(request, self._weighing(record))
        record.requested_model = openai_audio.checked(form)
        session = session_of(request.headers, {"user": record.request_id})
        targets = await self._selector.select(
            record.requested_model,
            RequestFeatures(),
            session=session,
            count=None,
            mode=TRANSCRIPTION,
        )
        upstream_request = UpstreamRequest(path_of(request), form=form)
        record.target, answer = await self._dispatcher.ask(
            targets, upstream_request, session=session
        )
        record.first_byte()
        headers = {**record.headers(), "Content-Type": answer.content_type}
        return web.Response(body=answer.data, headers=headers)

    def _preflight(self, request: web.Request) -> web.StreamResponse:
        """Answer what a browser asks before it lets a page of another site send a request."""
        allowed = {
            "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
            "Access-Control-Allow-Headers": request.headers.get(
                "Access-Control-Request-Headers", "authorization, content-type, x-api-key"
            ),
            "Access-Control-Max-Age": "86400",
        }
        methods = {"Allow": "GET, HEAD, POST, OPTIONS"}
        return web.Response(status=204, headers=methods | (allowed if self._keys.required else {}))

    async def _ui_data(self, _: web.Request, record: RequestRecord) -> web.StreamResponse:
        """`GET /ui/data`: what the status page shows."""
        others = [other for other in self._records.values() if other is not record]
        snapshot = ui.snapshot(
            self._config, self._registry.models, self._admission, others, self.metrics.answered
        )
        return _answer(snapshot, record)

    def _account(self, record: RequestRecord, path: str, status: int) -> None:
        model = record.target.name if record.target else ""
        route = record.target.route if record.target else ""
        failure = record.failure
        status = failure.status if failure else status
        self.metrics.done(record, model, route, status)
        log.info(
            "request",
            extra={
                "path": path,
                "api": record.api.name,
                "client": record.client,
                "asked": record.requested_model[:MOST_NAME_LETTERS],
                "model": model,
                "route": route,
                "status": status,
                "request_id": record.request_id,
                **({"error": failure.log_message, "code": failure.code} if failure else {}),
                "duration_ms": round((time.monotonic() - record.started) * 1000, 1),
                "first_byte_ms": record.first_byte_seconds
                and round(record.first_byte_seconds * 1000, 1),
                "prompt_tokens": record.usage.prompt,
                "cached_tokens": record.usage.cached,
                "answer_tokens": record.usage.answer,
            },
        )


def _answer(body: Json, record: RequestRecord) -> web.Response:
    record.first_byte()
    return web.Response(
        body=dumps(body), content_type="application/json", charset="utf-8", headers=record.headers()
    )


def _failure_of(error: Exception, record: RequestRecord) -> Failure:
    """Return what a client is told of an error."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return bodies.too_large()
    if isinstance(error, RecursionError):
        return Failure(400, "the request is nested too deeply")
    # Something that neither we nor the model's server should have sent or taken.
    log.error("request failed", extra={"request_id": record.request_id}, exc_info=error)
    return broken(error)


def _failed(failure: Failure, record: RequestRecord) -> web.Response:
    return web.json_response(
        record.api.error(failure, record.request_id),
        status=failure.status,
        headers={**record.headers(), **failure.headers},
    )

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
from llama_halo.gateway.apis.exchange import Generation
from llama_halo.gateway.apis.openai_embeddings import EMBEDDINGS, RERANK
from llama_halo.gateway.apis.upstream_request import Question
from llama_halo.gateway.apis.validation import checked_model, passed_on, session_of
from llama_halo.gateway.auth import Keys
from llama_halo.gateway.dispatch.client_stream import Line, send
from llama_halo.gateway.dispatch.dispatcher import Held
from llama_halo.gateway.dispatch.fast_path import Lane
from llama_halo.gateway.dispatch.queue import Admission
from llama_halo.gateway.http import bodies
from llama_halo.gateway.http.errors import UNREADABLE, Failure, broken, ending, unreadable
from llama_halo.gateway.http.json_codec import dumps
from llama_halo.gateway.info_routes import Service, path_of, with_slashes
from llama_halo.gateway.metrics import GatewayMetrics
from llama_halo.gateway.models.model import EMBEDDING, TRANSCRIPTION
from llama_halo.gateway.models.model import RERANK as RERANKS
from llama_halo.gateway.models.registry import ModelWatch
from llama_halo.gateway.request_record import Call
from llama_halo.gateway.routing.clients import client_of
from llama_halo.gateway.routing.features import Traits, traits_of
from llama_halo.gateway.routing.selector import Choice

log = logging.getLogger(__name__)

MOST_REQUESTS = 4096
"""At once, open streams and held ones included."""
MOST_NAME_LETTERS = 100
"""Of the name that a client asked for, in the log."""
Json = dict[str, Any]
Handle = Callable[[web.Request, Call], Awaitable[web.StreamResponse]]
Make = Callable[[Json], Generation]


class Gateway:
    """One router's data path."""

    def __init__(
        self,
        config: GatewayConfig,
        watch: ModelWatch,
        held: Held,
        admission: Admission,
        keys: Keys,
        metrics: GatewayMetrics,
    ) -> None:
        self._config = config
        self._watch = watch
        self._held = held
        self._keys = keys
        self._choice = Choice(config, watch, held)
        self.service = Service(config, watch, metrics)
        self.metrics = metrics
        self._admission = admission
        self._calls: dict[str, Call] = {}
        """What is being answered, by the request's number."""
        self._body_bytes = 0
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def draining(self) -> bool:
        return self.service.draining

    @property
    def in_flight(self) -> int:
        return len(self._calls)

    def drain(self) -> None:
        """Tell the Service and kept connections to go elsewhere."""
        self.service.draining = True

    def cut(self) -> None:
        """End what is still open; each client is told."""
        for call in self._calls.values():
            call.cut = True
            if call.task:
                call.task.cancel()

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        app = web.Application(client_max_size=bodies.LIMIT_BYTES)
        app.on_response_prepare.append(self._prepare)
        post, get = self._post, self._get
        generate, service = self._generate, self.service
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
                post(EMBEDDINGS, OPENAI, self._asking(EMBEDDINGS, openai_embeddings.checked)),
                *(
                    post(path, OPENAI, self._asking(RERANK, openai_embeddings.checked_rerank))
                    for path in (RERANK, "/rerank")
                ),
                *(post(path, OPENAI, self._write_down) for path in openai_audio.PATHS),
                post("/api/chat", OLLAMA, generate(ollama.validate_chat, ollama.chat)),
                post("/api/generate", OLLAMA, generate(ollama.validate_prompt, ollama.generate)),
                post("/api/embed", OLLAMA, self._embed),
                post("/api/embeddings", OLLAMA, self._embed),
                post("/api/show", OLLAMA, service.show),
                post("/api/pull", OLLAMA, service.pull),
                get("/api/tags", OLLAMA, service.tags),
                get("/api/ps", OLLAMA, service.running),
                get("/v1/models", OPENAI, service.models),
                get("/v1/models/{name:.+}", OPENAI, service.model),
                get("/ui/data", OPENAI, self._seen),
                *service.open_routes(),
                web.route(
                    "*", "/{path:(?:v1/)*messages.*}", self._handler(ANTHROPIC, service.unknown)
                ),
                web.route("*", "/api/{path:.*}", self._handler(OLLAMA, service.unknown)),
                web.route("*", "/{path:.*}", self._handler(OPENAI, service.unknown)),
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
            call = Call(api, client_of(request.headers), task=asyncio.current_task())
            status = 499  # unless an answer says otherwise, the client went away
            self._entered(call)
            try:
                self._keys.check(request.headers)
                self._admit(request)
                response = await handle(request, call)
                status = response.status
                return response
            except (Failure, web.HTTPRequestEntityTooLarge, *UNREADABLE) as error:
                call.failure = _failure_of(error, call)
                return _failed(call.failure, call)
            except asyncio.CancelledError:
                if not call.cut:
                    raise
                call.failure = ending()
                return _failed(call.failure, call)
            except ConnectionResetError:
                raise asyncio.CancelledError from None  # the client went away while we wrote
            finally:
                self._left(call)
                self._account(call, request.path, status)
                call.failure = call.task = None  # no cycle: those are collected seldom

        return handler

    def _admit(self, request: web.Request) -> None:
        """Refuse more requests than there is memory for, and a body that says it is too large."""
        if self.in_flight > MOST_REQUESTS:
            raise Failure(429, "too many requests at once", retry_after_seconds=5)
        if (request.content_length or 0) > bodies.LIMIT_BYTES:
            raise bodies.too_large()

    def _weighing(self, call: Call) -> Callable[[int], None]:
        """Return what is told of the bytes of a call's body: all that are in work have a limit."""

        def taken(size: int) -> None:
            self._body_bytes += size
            call.body_bytes += size
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

    def _entered(self, call: Call) -> None:
        self._calls[call.request_id] = call
        self.metrics.in_flight.inc()
        self.idle.clear()

    def _left(self, call: Call) -> None:
        del self._calls[call.request_id]
        self._body_bytes -= call.body_bytes
        self.metrics.in_flight.dec()
        if not self.in_flight:
            self.idle.set()

    def _generate(self, validate: Callable[[Any], Json], make: Make) -> Handle:
        """Return the handler of an API that generates text."""

        async def handle(request: web.Request, call: Call) -> web.StreamResponse:
            body = validate(bodies.parsed(await bodies.read(request, self._weighing(call))))
            call.asked = body["model"]
            if shortcut := ollama.without_prompt(path_of(request), body):
                self._choice.named(call.asked)
                return _answer(shortcut, call)
            tag, body = anthropic.take_tag(body) if call.api is ANTHROPIC else ("", body)
            exchange = make(body)
            session = session_of(request.headers, body)
            count = Question(exchange.counts, exchange.body) if exchange.counts else None
            targets = await self._choice.choose(
                tag or call.asked,
                traits_of(request.headers, body, call.body_bytes),
                session=session,
                count=count,
            )
            call.target = targets[0]
            question = Question(
                exchange.path,
                exchange.body,
                own=exchange.own,
                given=body,
                headers=passed_on(request.headers),
            )
            lane = Lane(exchange.passes)
            opened = self._held.stream(targets, question, lane, session=session)
            if exchange.streams:
                line = Line(request, exchange, call, self._config.ping_seconds)
                return await send(line, opened, lane)
            async with opened as (call.target, events):
                try:
                    return _answer(await exchange.collect(call.noting(events)), call)
                except UNREADABLE as error:
                    raise unreadable(error) from error

        return handle

    async def _count_tokens(self, request: web.Request, call: Call) -> web.StreamResponse:
        data = await bodies.read(request, self._weighing(call))
        body = anthropic.validate(bodies.parsed(data))
        call.asked = body["model"]
        traits = traits_of(request.headers, body, call.body_bytes)
        targets = await self._choice.choose(
            call.asked, traits, session=session_of(request.headers, body), count=None
        )
        call.target = targets[0]
        count = Question(anthropic.COUNT_PATH, anthropic.upstream_body(body))
        return _answer({"input_tokens": await self._choice.tokens(targets[0], traits, count)}, call)

    def _asking(self, path: str, check: Callable[[Any], Json]) -> Handle:
        """Return the handler of what is answered at once with one object."""

        async def handle(request: web.Request, call: Call) -> web.StreamResponse:
            body = check(bodies.parsed(await bodies.read(request, self._weighing(call))))
            return _answer(await self._ask(request, call, path, body), call)

        return handle

    async def _embed(self, request: web.Request, call: Call) -> web.StreamResponse:
        body = checked_model(bodies.parsed(await bodies.read(request, self._weighing(call))))
        asked = await self._ask(request, call, EMBEDDINGS, ollama.embedding(body))
        return _answer(ollama.embedded(asked, body, path_of(request)), call)

    async def _ask(self, request: web.Request, call: Call, path: str, body: Json) -> Json:
        call.asked = body["model"]
        session = session_of(request.headers, body)
        mode = EMBEDDING if path == EMBEDDINGS else RERANKS
        targets = await self._choice.choose(
            call.asked, Traits(), session=session, count=None, mode=mode
        )
        question = Question(path, body)
        call.target, answer = await self._held.ask(targets, question, session=session)
        value = answer.value()
        call.usage.note(value)
        return {**value, "model": call.asked}

    async def _write_down(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Pass a recording on; what is said in it comes back in the form that was asked for."""
        form = await bodies.read_form(request, self._weighing(call))
        call.asked = openai_audio.checked(form)
        session = session_of(request.headers, {"user": call.request_id})
        targets = await self._choice.choose(
            call.asked, Traits(), session=session, count=None, mode=TRANSCRIPTION
        )
        question = Question(path_of(request), form=form)
        call.target, answer = await self._held.ask(targets, question, session=session)
        call.first_byte()
        headers = {**call.headers(), "Content-Type": answer.content_type}
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

    async def _seen(self, _: web.Request, call: Call) -> web.StreamResponse:
        """`GET /ui/data`: what the status page shows."""
        others = [record for record in self._calls.values() if record is not call]
        snapshot = ui.snapshot(
            self._config, self._watch.models, self._admission, others, self.metrics.answered
        )
        return _answer(snapshot, call)

    def _account(self, call: Call, path: str, status: int) -> None:
        model = call.target.name if call.target else ""
        route = call.target.route if call.target else ""
        failure = call.failure
        status = failure.status if failure else status
        self.metrics.done(call, model, route, status)
        log.info(
            "request",
            extra={
                "path": path,
                "api": call.api.name,
                "client": call.client,
                "asked": call.asked[:MOST_NAME_LETTERS],
                "model": model,
                "route": route,
                "status": status,
                "request_id": call.request_id,
                **({"error": failure.told, "code": failure.code} if failure else {}),
                "duration_ms": round((time.monotonic() - call.started) * 1000, 1),
                "first_byte_ms": call.first_byte_seconds
                and round(call.first_byte_seconds * 1000, 1),
                "prompt_tokens": call.usage.prompt,
                "cached_tokens": call.usage.cached,
                "answer_tokens": call.usage.answer,
            },
        )


def _answer(body: Json, call: Call) -> web.Response:
    call.first_byte()
    return web.Response(
        body=dumps(body), content_type="application/json", charset="utf-8", headers=call.headers()
    )


def _failure_of(error: Exception, call: Call) -> Failure:
    """Return what a client is told of an error."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return bodies.too_large()
    if isinstance(error, RecursionError):
        return Failure(400, "the request is nested too deeply")
    # Something that neither we nor the model's server should have sent or taken.
    log.error("request failed", extra={"request_id": call.request_id}, exc_info=error)
    return broken(error)


def _failed(failure: Failure, call: Call) -> web.Response:
    return web.json_response(
        call.api.error(failure, call.request_id),
        status=failure.status,
        headers={**call.headers(), **failure.headers},
    )

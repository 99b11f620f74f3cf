"""The gateway's HTTP routes: the endpoint and the client API of each path."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.typedefs import Middleware

from llama_halo.contract.gateway_config import GatewayConfig
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
from llama_halo.gateway.apis.openai_embeddings import EMBEDDINGS_PATH, RERANK_PATH
from llama_halo.gateway.auth import Keys
from llama_halo.gateway.dispatch.dispatcher import RequestDispatcher
from llama_halo.gateway.dispatch.queue import AdmissionQueue
from llama_halo.gateway.endpoints import Endpoints
from llama_halo.gateway.handler import Endpoint, RequestHandler
from llama_halo.gateway.http import bodies
from llama_halo.gateway.info_routes import InfoRoutes, with_slashes
from llama_halo.gateway.metrics import GatewayMetrics
from llama_halo.gateway.models.registry import ModelRegistry
from llama_halo.gateway.routing.selector import TargetSelector


class Gateway:
    """One router's HTTP server."""

    def __init__(
        self,
        config: GatewayConfig,
        registry: ModelRegistry,
        dispatcher: RequestDispatcher,
        admission: AdmissionQueue,
        keys: Keys,
        metrics: GatewayMetrics,
    ) -> None:
        self._handler = RequestHandler(keys, metrics)
        self._selector = TargetSelector(config, registry, dispatcher.ask_now)
        self._endpoints = Endpoints(config, self._handler, self._selector, dispatcher)
        self.info_routes = InfoRoutes(registry, self._selector, self._handler, admission, metrics)

    @property
    def in_flight(self) -> int:
        return self._handler.in_flight

    @property
    def idle(self) -> asyncio.Event:
        """Set while no request is in flight."""
        return self._handler.idle

    def drain(self) -> None:
        """Fail the readiness probe, and close keep-alive connections after their next response."""
        self._handler.draining = True

    def abort(self) -> None:
        """Abort every open request; each client gets an error."""
        self._handler.abort()

    def application(self, *middlewares: Middleware) -> web.Application:
        """Return the aiohttp application."""
        app = web.Application(client_max_size=bodies.MAX_BODY_BYTES, middlewares=middlewares)
        app.on_response_prepare.append(self._handler.prepare_response)
        post, get, wrap = self._post, self._get, self._handler.wrap
        endpoints, info = self._endpoints, self.info_routes
        generate = endpoints.generate
        app.add_routes(
            with_slashes(
                post(
                    "/v1/messages",
                    ANTHROPIC,
                    generate(anthropic.validate, anthropic.build_exchange),
                ),
                post("/v1/messages/count_tokens", ANTHROPIC, endpoints.count_tokens),
                post(
                    "/v1/chat/completions",
                    OPENAI,
                    generate(openai_chat.validate, openai_chat.build_exchange),
                ),
                post(
                    "/v1/completions",
                    OPENAI,
                    generate(openai_completions.validate, openai_completions.build_exchange),
                ),
                post(
                    "/v1/responses",
                    RESPONSES,
                    generate(openai_responses.validate, openai_responses.build_exchange),
                ),
                post(
                    EMBEDDINGS_PATH,
                    OPENAI,
                    endpoints.json_endpoint(EMBEDDINGS_PATH, openai_embeddings.validate),
                ),
                *(
                    post(
                        path,
                        OPENAI,
                        endpoints.json_endpoint(RERANK_PATH, openai_embeddings.validate_rerank),
                    )
                    for path in (RERANK_PATH, "/rerank")
                ),
                *(post(path, OPENAI, endpoints.transcribe) for path in openai_audio.PATHS),
                post("/api/chat", OLLAMA, generate(ollama.validate_chat, ollama.chat)),
                post("/api/generate", OLLAMA, generate(ollama.validate_prompt, ollama.generate)),
                post("/api/embed", OLLAMA, endpoints.embed),
                post("/api/embeddings", OLLAMA, endpoints.embed),
                post("/api/show", OLLAMA, info.show),
                post("/api/pull", OLLAMA, info.pull),
                get("/api/tags", OLLAMA, info.tags),
                get("/api/ps", OLLAMA, info.running),
                get("/v1/models", OPENAI, info.models),
                get("/v1/models/{name:.+}", OPENAI, info.model),
                get("/ui/data", OPENAI, info.ui_data),
                *info.open_routes(),
                web.route("*", "/{path:(?:v1/)*messages.*}", wrap(ANTHROPIC, info.unknown)),
                web.route("*", "/api/{path:.*}", wrap(OLLAMA, info.unknown)),
                web.route("*", "/{path:.*}", wrap(OPENAI, info.unknown)),
            )
        )
        return app

    def _post(self, path: str, api: Api, endpoint: Endpoint) -> web.RouteDef:
        return web.post(path, self._handler.wrap(api, endpoint))

    def _get(self, path: str, api: Api, endpoint: Endpoint) -> web.RouteDef:
        return web.get(path, self._handler.wrap(api, endpoint))

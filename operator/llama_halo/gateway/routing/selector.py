"""Chooses the model of a request: by its name, its shape, and the length of its prompt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from llama_halo.contract.gateway_config import GatewayConfig
from llama_halo.contract.model import Mode
from llama_halo.gateway.apis.upstream_request import UpstreamRequest
from llama_halo.gateway.http.errors import MODEL_NOT_FOUND, Failure
from llama_halo.gateway.models.model import (
    Model,
    serves,
)
from llama_halo.gateway.models.registry import ModelRegistry
from llama_halo.gateway.routing.features import RequestFeatures
from llama_halo.gateway.routing.sessions import Session
from llama_halo.gateway.routing.table import IMAGE, RoutingTable, Target

Json = dict[str, Any]
AskNow = Callable[[Model, UpstreamRequest], Awaitable[Json | None]]
"""Sends a request to a model that is available now; returns None for any other."""
BYTES_PER_TOKEN = 3.6
"""Bytes of text in a token, measured with prompts of coding agents."""
MAX_SESSIONS = 10_000
STAYS_ABOVE = 0.8
"""Share of the threshold: a long conversation stays on its route above it."""


class TargetSelector:
    """Chooses targets by one router's table, and remembers which conversations are long."""

    def __init__(self, config: GatewayConfig, registry: ModelRegistry, ask_now: AskNow) -> None:
        self._config = config
        self._registry = registry
        self._ask_now = ask_now
        self._table = RoutingTable.build(config, registry.models)
        self._long: OrderedDict[str, None] = OrderedDict()

    @property
    def table(self) -> RoutingTable:
        """The routing table, rebuilt when the models have changed."""
        if self._table.models is not self._registry.models:
            self._table = RoutingTable.build(self._config, self._registry.models)
        return self._table

    def ensure_known(self, name: str) -> None:
        """Raise `Failure` (404) when no model or route has the name."""
        if self.table.resolve(name, RequestFeatures()) is None:
            raise no_such_model(name)

    async def select(
        self,
        name: str,
        features: RequestFeatures,
        *,
        session: Session,
        count: UpstreamRequest | None,
        mode: str = Mode.CHAT,
    ) -> list[Target]:
        """Return the targets of a request, the best first; `count` is the request for its tokens.

        Raises `Failure` when no model has the name, or when none of the targets serves the mode,
        accepts the request's images and other parts, or fetches its URLs.
        """
        await self._registry.wait_until_synced(within_seconds=self._config.hold_seconds)
        table = self.table
        target = table.resolve(name, features)
        if target is None:
            raise no_such_model(name)
        # Counting must not fetch URLs either.
        count_request = None if features.has_remote_url or features.unknown_part else count
        if target.may_be_long and await self._is_long(target, features, session, count_request):
            long = table.long_context()
            if long and (not features.has_image or self._may_see(long)):
                target = long
        able = [
            fallback
            for fallback in table.with_fallbacks(target)
            if serves(table.model_of(fallback), mode)
        ]
        if not able:
            raise _wrong_mode(target, table.models[target.model_key].mode, mode)
        first, *others = able
        chosen = [first, *others]
        if features.has_image:
            chosen = [other for other in others if self._may_see(other)]
            if first.route == IMAGE or self._may_see(first):
                chosen = [first, *chosen]
            if not chosen:
                raise _images_unsupported(target)
        if features.has_remote_url or features.unknown_part:
            chosen = [candidate for candidate in chosen if self._takes_any_part(candidate)]
            if not chosen and features.has_remote_url:
                raise _remote_urls_unsupported()
            if not chosen:
                raise _unknown_part(features.unknown_part)
        return chosen

    async def count_tokens(
        self, target: Target, features: RequestFeatures, count: UpstreamRequest | None
    ) -> int:
        """Return the tokens of a request as its model counts them, or an estimate if the model is
        not available now: counting loads no model."""
        model = self.table.model_of(target)
        exact = await self._ask_now(model, count) if model and count else None
        counted = (exact or {}).get("input_tokens")
        return counted if isinstance(counted, int) else round(features.text_bytes / BYTES_PER_TOKEN)

    def _may_see(self, target: Target) -> bool:
        model = self.table.model_of(target)
        return model is None or model.accepts_images is not False

    def _takes_any_part(self, target: Target) -> bool:
        model = self.table.model_of(target)
        provider = model.provider if model else None
        return provider is not None and provider.protocol != "Ollama"  # which fetches nothing

    async def _is_long(
        self,
        target: Target,
        features: RequestFeatures,
        session: Session,
        count: UpstreamRequest | None,
    ) -> bool:
        """Tell whether a prompt is long; count its tokens only if an estimate leaves that open.

        A conversation that was long stays long above `STAYS_ABOVE`. The client's own tasks do not.
        """
        long = self._config.routes.long_context
        if long is None:
            return False
        conversation = f"{session.conversation} {features.subagent}"
        stays = conversation in self._long and not features.background
        threshold = long.threshold_tokens * (STAYS_ABOVE if stays else 1)
        guess = features.text_bytes / BYTES_PER_TOKEN
        if threshold / 2 < guess < threshold * 2:
            guess = await self.count_tokens(target, features, count)
        if features.background:
            return guess > threshold
        if guess <= threshold:
            self._long.pop(conversation, None)
            return False
        self._long[conversation] = None
        self._long.move_to_end(conversation)
        if len(self._long) > MAX_SESSIONS:
            self._long.popitem(last=False)
        return True


def no_such_model(name: str) -> Failure:
    """Return the failure (404) of an unknown model name."""
    return Failure(
        404,
        f"The model '{name}' does not exist; GET /v1/models lists what does",
        code=MODEL_NOT_FOUND,
        model_name=name,
    )


_ASKED: Mapping[str, str] = {
    Mode.EMBEDDING: "/v1/embeddings",
    Mode.RERANK: "/v1/rerank",
    Mode.TRANSCRIPTION: "/v1/audio/transcriptions",
    Mode.CHAT: "/v1/chat/completions, /v1/responses or /v1/messages",
}


def _wrong_mode(target: Target, has: str, mode: str) -> Failure:
    return Failure(
        400,
        f"model {target.name} has mode {has}: ask it at {_ASKED[has]}, or ask a model with"
        f" spec.mode {mode}",
    )


def _images_unsupported(target: Target) -> Failure:
    return Failure(
        400,
        f"model {target.name} takes no images: set routes.image of the router to a model that does,"
        " or spec.projector of this one",
    )


def _remote_urls_unsupported() -> Failure:
    return Failure(
        400,
        "the request refers to an image or file by URL, which is not fetched: send it inline, as"
        " base64 or a data: URL",
    )


def _unknown_part(part: str) -> Failure:
    return Failure(
        400,
        f"{part} is not supported: send text, images, recordings or files, each with the type that"
        " this API defines",
    )

"""Encodes a request in its server's protocol: llama-server's own, or a provider's.

A request of another API than the provider's is converted by way of Chat Completions.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from llama_halo.contract.gateway_config import ProviderConfig
from llama_halo.contract.model import Mode
from llama_halo.gateway.apis import openai_audio
from llama_halo.gateway.apis.anthropic import PATH as MESSAGES
from llama_halo.gateway.apis.openai_chat import PATH as CHAT
from llama_halo.gateway.apis.openai_completions import PATH as COMPLETIONS
from llama_halo.gateway.apis.openai_embeddings import EMBEDDINGS_PATH, RERANK_PATH
from llama_halo.gateway.apis.openai_responses import PATH as RESPONSES
from llama_halo.gateway.apis.upstream_request import UpstreamRequest
from llama_halo.gateway.convert import (
    anthropic_to_chat,
    chat_to_anthropic,
    chat_to_ollama,
    responses_to_chat,
)
from llama_halo.gateway.http.bodies import FormField
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.http.json_codec import dumps
from llama_halo.gateway.http.sse import SseEvent, events
from llama_halo.gateway.models.model import Model

Json = dict[str, Any]
Bytes = AsyncIterable[bytes]
Events = AsyncIterator[SseEvent]
_OPENAI_HOST = "//api.openai.com"
ANTHROPIC_VERSION = "2023-06-01"
# Fields that only llama-server knows: other servers refuse requests with unknown fields.
_LLAMA_SERVER_FIELDS = frozenset(
    {
        *("chat_template_kwargs", "cache_prompt", "id_slot", "n_keep", "thinking_budget_tokens"),
        *("repeat_penalty", "repeat_last_n", "typical_p", "min_p", "top_k"),
    }
)


@dataclass(frozen=True)
class EncodedRequest:
    """A request as it is sent, and the reader that turns its answer into llama-server's events."""

    path: str
    body: Json = field(default_factory=dict)
    form: tuple[FormField, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    read: Callable[[Bytes], Events] = events

    @cached_property
    def json(self) -> bytes:
        """The body's JSON, encoded once for all retries."""
        return dumps(self.body)


def encode_request(model: Model, upstream_request: UpstreamRequest, key: str) -> EncodedRequest:
    """Return the request for a model's server; `key` is the provider's API key, if it has one.

    Raises `Failure` (400) for a request that the provider's protocol cannot express.
    """
    if model.provider is None and upstream_request.form and model.mode == Mode.TRANSCRIPTION:
        return EncodedRequest(
            openai_audio.PATHS[0], form=openai_audio.for_whisper(upstream_request)
        )
    if model.provider is None:
        body = upstream_request.body
        if "id_slot" in body:  # which would choose another key's slot, with its cache
            body = {name: value for name, value in body.items() if name != "id_slot"}
        return EncodedRequest(upstream_request.path, body, upstream_request.form)
    own = _native_request(model.provider, model.provider_name, upstream_request, key)
    return own or _converted_request(model.provider, model.provider_name, upstream_request, key)


def _native_request(
    provider: ProviderConfig, name: str, upstream_request: UpstreamRequest, key: str
) -> EncodedRequest | None:
    """Return the request in the provider's own API, None if it has to be converted."""
    path, client_body = (
        upstream_request.path,
        {**upstream_request.client_body, "model": name, "stream": True},
    )
    if provider.protocol == "Anthropic" and upstream_request.native_path == MESSAGES:
        headers = {**_anthropic(key), **upstream_request.headers}
        client_body["messages"] = chat_to_anthropic.drop_unsigned_thinking(client_body["messages"])
        reader = events if path == MESSAGES else _messages_as_chat
        return EncodedRequest(_messages_path(provider), client_body, headers=headers, read=reader)
    if provider.protocol == "OpenAI" and upstream_request.form:
        form = openai_audio.for_model(upstream_request.form, name)
        return EncodedRequest(path.removeprefix("/v1"), form=form, headers=_bearer(key))
    if provider.protocol == "OpenAI" and upstream_request.native_path in (CHAT, COMPLETIONS):
        body = {**client_body, "stream_options": {"include_usage": True}}
        return EncodedRequest(path.removeprefix("/v1"), body, headers=_bearer(key))
    body = {**upstream_request.body, "model": name}
    if provider.protocol == "OpenAI" and path in (COMPLETIONS, EMBEDDINGS_PATH, RERANK_PATH):
        fields = {name: value for name, value in body.items() if name not in _LLAMA_SERVER_FIELDS}
        return EncodedRequest(path.removeprefix("/v1"), fields, headers=_bearer(key))
    if provider.protocol == "Ollama" and path == EMBEDDINGS_PATH:
        return EncodedRequest(path, body, headers=_bearer(key))  # Ollama has OpenAI's route, too
    return None


def _messages_as_chat(data: Bytes) -> Events:
    return chat_to_anthropic.events_to_chat(events(data))


def _converted_request(
    provider: ProviderConfig, name: str, upstream_request: UpstreamRequest, key: str
) -> EncodedRequest:
    chat, answer = _chat_request(upstream_request, provider)
    chat = {**chat, "model": name}
    if provider.protocol == "OpenAI":
        fields = {name: value for name, value in chat.items() if name not in _LLAMA_SERVER_FIELDS}
        if _OPENAI_HOST in provider.base_url and "max_tokens" in fields:
            fields["max_completion_tokens"] = fields.pop(
                "max_tokens"
            )  # OpenAI's newer models require this name
        return EncodedRequest(
            "/chat/completions",
            {**fields, "stream": True, "stream_options": {"include_usage": True}},
            headers=_bearer(key),
            read=lambda data: answer(events(data)),
        )
    if provider.protocol == "Anthropic":
        return EncodedRequest(
            _messages_path(provider),
            {**chat_to_anthropic.request_to_anthropic(chat), "stream": True},
            headers=_anthropic(key),
            read=lambda data: answer(chat_to_anthropic.events_to_chat(events(data))),
        )
    return EncodedRequest(
        "/api/chat",
        chat_to_ollama.request_to_ollama(chat),
        headers=_bearer(key),
        read=lambda data: answer(chat_to_ollama.events_to_chat(data)),
    )


def _chat_request(
    upstream_request: UpstreamRequest, provider: ProviderConfig
) -> tuple[Json, Callable[[Events], Events]]:
    """Return a request as a chat, and the converter of the chat's events for the client's API."""
    if upstream_request.path == CHAT:
        return upstream_request.body, _identity
    if upstream_request.path == MESSAGES:
        return anthropic_to_chat.request_to_chat(
            upstream_request.body
        ), anthropic_to_chat.events_to_anthropic
    if upstream_request.path == RESPONSES:
        return responses_to_chat.request_to_chat(
            upstream_request.body
        ), responses_to_chat.events_to_responses
    raise Failure(
        400,
        f"provider {provider.name} speaks the {provider.protocol} API, which has no"
        f" {upstream_request.path}: use a model of the cluster, or a chat API",
    )


def _identity(upstream: Events) -> Events:
    return upstream


def _messages_path(provider: ProviderConfig) -> str:
    return "/messages" if provider.base_url.rstrip("/").endswith("/v1") else MESSAGES


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _anthropic(key: str) -> dict[str, str]:
    return {"anthropic-version": ANTHROPIC_VERSION, **({"x-api-key": key} if key else {})}

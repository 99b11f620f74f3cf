"""What a server is sent, by the protocol that it speaks: llama-server's own, or a provider's; pure.

Everything that is not a provider's own API goes to it by way of Chat Completions.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from llama_halo.gateway.apis.anthropic import PATH as MESSAGES
from llama_halo.gateway.apis.completions import PATH as COMPLETIONS
from llama_halo.gateway.apis.openai import PATH as CHAT
from llama_halo.gateway.apis.question import Question
from llama_halo.gateway.apis.responses import PATH as RESPONSES
from llama_halo.gateway.config import Provider
from llama_halo.gateway.failures import Failure
from llama_halo.gateway.models import Model
from llama_halo.gateway.sse import SseEvent, events
from llama_halo.gateway.translate import (
    clients_anthropic,
    clients_responses,
    servers_anthropic,
    servers_ollama,
)

Json = dict[str, Any]
Bytes = AsyncIterable[bytes]
Events = AsyncIterator[SseEvent]
ANTHROPIC_VERSION = "2023-06-01"
# What only llama-server knows; others refuse a request for a name that they do not know.
_OURS = ("chat_template_kwargs", "cache_prompt", "id_slot", "n_keep", "thinking_budget_tokens")


@dataclass(frozen=True)
class Wire:
    """A request as it is sent, and how its stream is read as llama-server's."""

    path: str
    body: Json
    headers: dict[str, str] = field(default_factory=dict)
    read: Callable[[Bytes], Events] = events


def wire(model: Model, question: Question, key: str) -> Wire:
    """Return what a model's server is sent; `key` is the provider's API key, if it has one.

    Raises `Failure` for what the provider's protocol has no words for.
    """
    provider = model.provider
    if provider is None:
        return Wire(question.path, question.body)
    if provider.protocol == "Anthropic" and question.path == MESSAGES:
        body = {**question.given, "model": model.provider_name, "stream": True}
        headers = {**_anthropic(key), **question.headers}
        return Wire(_messages_path(provider), body, headers)
    if provider.protocol == "OpenAI" and question.path in (COMPLETIONS, *_PLAIN):
        body = {**question.body, "model": model.provider_name}
        return Wire(question.path.removeprefix("/v1"), body, _bearer(key))
    chat, answer = _as_chat(question, provider)
    chat = {**chat, "model": model.provider_name}
    if provider.protocol == "OpenAI":
        known = {name: value for name, value in chat.items() if name not in _OURS}
        body = {**known, "stream": True, "stream_options": {"include_usage": True}}
        return Wire("/chat/completions", body, _bearer(key), lambda bytes_: answer(events(bytes_)))
    if provider.protocol == "Anthropic":
        return Wire(
            _messages_path(provider),
            {**servers_anthropic.message_of(chat), "stream": True},
            _anthropic(key),
            lambda bytes_: answer(servers_anthropic.chat_of(events(bytes_))),
        )
    return Wire(
        "/api/chat",
        servers_ollama.chat_of(chat),
        _bearer(key),
        lambda bytes_: answer(servers_ollama.chat_events_of(bytes_)),
    )


_PLAIN = ("/v1/embeddings", "/v1/rerank")
"""What is answered with one object, and alike by all that serve it."""


def _as_chat(question: Question, provider: Provider) -> tuple[Json, Callable[[Events], Events]]:
    """Return a request as a chat, and how the chat's events become those that it expects."""
    if question.path == CHAT:
        return question.body, _same
    if question.path == MESSAGES:
        return clients_anthropic.chat_of(question.body), clients_anthropic.messages_of
    if question.path == RESPONSES:
        return clients_responses.chat_of(question.body), clients_responses.responses_of
    raise Failure(
        400,
        f"provider {provider.name} speaks the {provider.protocol} API, which has no"
        f" {question.path}: ask a model of the cluster, or for a chat",
    )


def _same(upstream: Events) -> Events:
    return upstream


def _messages_path(provider: Provider) -> str:
    return "/messages" if provider.base_url.rstrip("/").endswith("/v1") else MESSAGES


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _anthropic(key: str) -> dict[str, str]:
    return {"anthropic-version": ANTHROPIC_VERSION, **({"x-api-key": key} if key else {})}

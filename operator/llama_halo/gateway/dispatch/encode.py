"""Encodes a request in its server's protocol: llama-server's own, or a provider's.

A request of another API than the provider's is converted by way of Chat Completions.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from llama_halo.contract.gateway_config import ProviderConfig
from llama_halo.contract.model import Mode
from llama_halo.gateway.apis import openai_audio
from llama_halo.gateway.apis.anthropic import PATH as MESSAGES
from llama_halo.gateway.apis.ollama import CHAT_PATH as OLLAMA_CHAT
from llama_halo.gateway.apis.ollama import EMBED_PATH as OLLAMA_EMBED
from llama_halo.gateway.apis.ollama import GENERATE_PATH as OLLAMA_GENERATE
from llama_halo.gateway.apis.openai_chat import PATH as CHAT
from llama_halo.gateway.apis.openai_completions import PATH as COMPLETIONS
from llama_halo.gateway.apis.openai_embeddings import EMBEDDINGS_PATH, RERANK_PATH
from llama_halo.gateway.apis.openai_responses import PATH as RESPONSES
from llama_halo.gateway.apis.upstream_request import UpstreamRequest
from llama_halo.gateway.convert import (
    anthropic_to_chat,
    chat_to_anthropic,
    chat_to_ollama,
    compatibility,
    responses_to_chat,
)
from llama_halo.gateway.convert.documents import with_texts
from llama_halo.gateway.convert.llama_server import for_llama_server
from llama_halo.gateway.convert.provider_events import mended_chunks, provider_events
from llama_halo.gateway.convert.provider_tools import ProviderTools
from llama_halo.gateway.convert.turns import results_after_calls
from llama_halo.gateway.convert.whole_answers import chat_events, message_events
from llama_halo.gateway.http.bodies import FormField
from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.http.json_codec import dumps
from llama_halo.gateway.http.sse import SseEvent, events
from llama_halo.gateway.models.model import Model

Json = dict[str, Any]
Bytes = AsyncIterable[bytes]
Events = AsyncIterator[SseEvent]
_USAGE = {"stream_options": {"include_usage": True}}
ANTHROPIC_VERSION = "2023-06-01"
# Fields that only llama-server knows: other servers refuse requests with unknown fields.
_LLAMA_SERVER_FIELDS = frozenset(
    {
        *("chat_template_kwargs", "cache_prompt", "id_slot", "n_keep", "thinking_budget_tokens"),
        *("repeat_penalty", "repeat_last_n", "typical_p", "min_p", "top_k", "mirostat"),
        *("mirostat_tau", "mirostat_eta"),
    }
)


_CHAT_TOOL_NAME_CHARACTERS, _MESSAGES_TOOL_NAME_CHARACTERS = 64, 128
_WITHOUT_REASONING = (".openai.com", ".azure.com", ".mistral.ai", ".groq.com")
"""Hosts that refuse `reasoning_content` in a request; others may require it."""
_COMPLETION_TOKENS = (".openai.com", ".azure.com")
"""Hosts whose newer models know only `max_completion_tokens`."""
_SHORT_IDS = (".mistral.ai",)
"""Hosts that want ids of nine letters and digits."""
_LIMITS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class EncodedRequest:
    """A request as it is sent, and the readers that turn its answer into events of llama-server or
    of the client's own API."""

    path: str
    body: Json = field(default_factory=dict)
    form: tuple[FormField, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    read: Callable[[Bytes], Events] = events
    """Reads a stream."""
    whole: Callable[[Json], Iterable[SseEvent]] | None = None
    """Returns the stream that would have had an answer in one piece; None where `read` does."""
    omitted: tuple[str, ...] = ()
    """The client's fields that the server's API has not, and that change nothing essential."""

    @cached_property
    def json(self) -> bytes:
        """The body's JSON, encoded once for all retries."""
        return dumps(self.body)


def encode_request(
    model: Model, upstream_request: UpstreamRequest, key: str, *, strict: bool = False
) -> EncodedRequest:
    """Return the request for a model's server; `key` is the provider's API key, if it has one.

    `strict` is for a model whose chat template wants turns to alternate, or short ids of calls.
    Raises `Failure` (400) for a request that the server's API cannot express.
    """
    provider = model.provider
    if provider is None and upstream_request.form and model.mode == Mode.TRANSCRIPTION:
        return EncodedRequest(
            openai_audio.PATHS[0], form=openai_audio.for_whisper(upstream_request)
        )
    client_body, path = upstream_request.client_body, upstream_request.native_path
    api = compatibility.API_OF.get(path or upstream_request.path, "")
    if provider is None:
        omitted = compatibility.check(api, client_body, "llama-server")
        body = for_llama_server(upstream_request.body, upstream_request.pdf_texts, strict=strict)
        return EncodedRequest(upstream_request.path, body, upstream_request.form, omitted=omitted)
    native = _native_request(provider, model.provider_name, upstream_request, key)
    if native is None:
        converted = _converted_request(provider, model.provider_name, upstream_request, key)
        native = converted
    if api and not _speaks(provider, api):
        omitted = compatibility.check(api, client_body, provider.protocol)
        native = replace(native, omitted=omitted)
    return _limited(native, model.max_tokens)


def _speaks(provider: ProviderConfig, api: str) -> bool:
    """Tell whether a provider's own API is the client's."""
    return compatibility.PROTOCOL_OF[api] == provider.protocol


def _limited(encoded: EncodedRequest, limit: int | None) -> EncodedRequest:
    """Return a request that asks for at most `limit` tokens."""
    if limit is None or encoded.form:
        return encoded
    changes: Json = {
        name: limit
        for name in _LIMITS
        if isinstance(encoded.body.get(name), int) and encoded.body[name] > limit
    }
    options, thinking = encoded.body.get("options"), encoded.body.get("thinking")
    if isinstance(options, dict) and isinstance(options.get("num_predict"), int):
        changes["options"] = {**options, "num_predict": min(options["num_predict"], limit)}
    if isinstance(thinking, dict) and isinstance(thinking.get("budget_tokens"), int):
        # Anthropic's API wants the budget of thoughts below the limit of the answer.
        changes["thinking"] = {
            **thinking,
            "budget_tokens": min(thinking["budget_tokens"], limit - 1),
        }
    return replace(encoded, body={**encoded.body, **changes}) if changes else encoded


def _native_request(
    provider: ProviderConfig, name: str, upstream_request: UpstreamRequest, key: str
) -> EncodedRequest | None:
    """Return the request in the provider's own API, None if it has to be converted."""
    streams = upstream_request.streams
    client_body = {**upstream_request.client_body, "model": name, "stream": streams}
    if provider.protocol == "Anthropic":
        return _native_anthropic(provider, client_body, upstream_request, key)
    if provider.protocol == "Ollama":
        return _native_ollama(provider, name, client_body, upstream_request, key)
    return _native_openai(provider, name, client_body, upstream_request, key)


def _native_anthropic(
    provider: ProviderConfig, client_body: Json, upstream_request: UpstreamRequest, key: str
) -> EncodedRequest | None:
    if upstream_request.native_path != MESSAGES:
        return None
    messages = chat_to_anthropic.drop_unsigned_thinking(client_body["messages"])
    return EncodedRequest(
        _messages_path(provider),
        {**client_body, "messages": messages},
        headers={**_anthropic(key), **upstream_request.headers},
        read=lambda data: provider_events(data, provider.name),
        whole=message_events,
    )


def _native_ollama(
    provider: ProviderConfig,
    name: str,
    client_body: Json,
    upstream_request: UpstreamRequest,
    key: str,
) -> EncodedRequest | None:
    path = upstream_request.native_path
    if path in (OLLAMA_CHAT, OLLAMA_GENERATE):

        def read(data: Bytes) -> Events:
            return chat_to_ollama.events(data, provider.name)

        return EncodedRequest(path, client_body, headers=_bearer(key), read=read)
    if path == OLLAMA_EMBED:
        fields = {field: value for field, value in client_body.items() if field != "stream"}
        return EncodedRequest(path, fields, headers=_bearer(key))
    if upstream_request.path == EMBEDDINGS_PATH:  # Ollama has OpenAI's route, too
        body = {**upstream_request.body, "model": name}
        return EncodedRequest(EMBEDDINGS_PATH, body, headers=_bearer(key))
    return None


def _native_openai(
    provider: ProviderConfig,
    name: str,
    client_body: Json,
    upstream_request: UpstreamRequest,
    key: str,
) -> EncodedRequest | None:
    path = upstream_request.path
    if upstream_request.form:
        form = openai_audio.for_model(upstream_request.form, name)
        return EncodedRequest(path.removeprefix("/v1"), form=form, headers=_bearer(key))
    if upstream_request.native_path in (CHAT, COMPLETIONS):
        body = {field: value for field, value in client_body.items() if field not in _USAGE}
        body |= _USAGE if upstream_request.streams else {}
    elif path in (COMPLETIONS, EMBEDDINGS_PATH, RERANK_PATH):
        fields = {**upstream_request.body, "model": name}
        body = {
            field: value for field, value in fields.items() if field not in _LLAMA_SERVER_FIELDS
        }
    else:
        return None
    return EncodedRequest(
        path.removeprefix("/v1"),
        body,
        headers=_bearer(key),
        read=lambda data: mended_chunks(provider_events(data, provider.name)),
        whole=chat_events if path in (CHAT, COMPLETIONS) else None,
    )


def _converted_request(
    provider: ProviderConfig, name: str, upstream_request: UpstreamRequest, key: str
) -> EncodedRequest:
    chat, answer = _chat_request(upstream_request, provider)
    streams = upstream_request.streams
    others = {name: value for name, value in chat.items() if name not in ("stream", *_USAGE)}
    chat = {**others, "model": name, "messages": results_after_calls(chat["messages"])}
    if provider.protocol == "Ollama":
        chat = with_texts(chat, upstream_request.pdf_texts)
        return EncodedRequest(
            OLLAMA_CHAT,
            {**chat_to_ollama.request_to_ollama(chat), "stream": streams},
            headers=_bearer(key),
            read=lambda data: answer(chat_to_ollama.events_to_chat(data, provider.name)),
        )
    is_short = _is_at(provider, _SHORT_IDS)
    if provider.protocol == "OpenAI":
        tools = ProviderTools(chat, _CHAT_TOOL_NAME_CHARACTERS, short_ids=is_short)
        return EncodedRequest(
            "/chat/completions",
            {
                **_for_openai(tools.chat, provider),
                "stream": streams,
                **(_USAGE if streams else {}),
            },
            headers=_bearer(key),
            read=lambda data: answer(
                tools.restored(mended_chunks(provider_events(data, provider.name)))
            ),
            whole=chat_events,
        )
    tools = ProviderTools(chat, _MESSAGES_TOOL_NAME_CHARACTERS)
    return EncodedRequest(
        _messages_path(provider),
        {**chat_to_anthropic.request_to_anthropic(tools.chat), "stream": streams},
        headers=_anthropic(key),
        read=lambda data: answer(
            tools.restored(chat_to_anthropic.events_to_chat(provider_events(data, provider.name)))
        ),
        whole=message_events,
    )


def _for_openai(chat: Json, provider: ProviderConfig) -> Json:
    """Return a converted chat without what only llama-server, or no host of this kind, takes."""
    fields = {name: value for name, value in chat.items() if name not in _LLAMA_SERVER_FIELDS}
    if _is_at(provider, _COMPLETION_TOKENS) and "max_tokens" in fields:
        fields["max_completion_tokens"] = fields.pop("max_tokens")
    if _is_at(provider, _WITHOUT_REASONING):
        fields["messages"] = [
            {name: value for name, value in message.items() if name != "reasoning_content"}
            for message in fields["messages"]
        ]
    return fields


def _is_at(provider: ProviderConfig, hosts: tuple[str, ...]) -> bool:
    host = urlsplit(provider.base_url).hostname or ""
    return host.endswith(hosts)


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

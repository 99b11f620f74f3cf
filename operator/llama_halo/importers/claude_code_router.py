"""Reads Claude Code Router's config.json (1.x and 2.x), and its presets, which have more fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_halo.importers.providers import here, provider_at
from llama_halo.importers.result import ImportResult, SettingOutcome, SettingsReader
from llama_halo.importers.secrets import redact

_ROUTES = ("default", "background", "think", "longContext", "webSearch", "image")
_OF_THE_PROGRAM = {
    "PORT": "the Service's port is spec.service.port",
    "HOST": "the Service is the address",
    "LOG": "the gateway writes one line for each request",
    "LOG_LEVEL": "the gateway writes one line for each request",
    "NON_INTERACTIVE_MODE": "there is nobody to ask",
    "CLAUDE_PATH": "of the client",
    "StatusLine": "of the client",
    "forceUseImageAgent": "an image goes to routes.image",
    "name": "of the preset",
    "version": "of the preset",
    "description": "of the preset",
    "author": "of the preset",
    "keywords": "of the preset",
    "homepage": "of the preset",
    "repository": "of the preset",
    "license": "of the preset",
}
_ASKED = {
    "PROXY_URL": "set HTTPS_PROXY in the operator's and the router's pods",
    "CUSTOM_ROUTER_PATH": "a program of your own cannot be a route: use routes, aliases, fallbacks",
    "REWRITE_SYSTEM_PROMPT": "what clients send goes on as it is",
    "transformers": "a program of your own cannot change requests here",
    "schema": "the preset asks for values when it is installed: write them out",
    "configMappings": "the preset asks for values when it is installed: write them out",
    "userValues": "the preset asks for values when it is installed: write them out",
    "template": "the preset asks for values when it is installed: write them out",
    "tokenizer": "the model's own server counts its tokens",
}


def is_config(document: Any) -> bool:
    """Tell whether a document is Claude Code Router's."""
    return isinstance(document, Mapping) and bool(
        {"Providers", "providers", "Router"} & set(document)
    )


def read(result: ImportResult, file: str, document: Mapping[str, Any]) -> None:
    """Read a configuration; local providers first, because their model names take precedence."""
    top = SettingsReader(result, file, document)
    names: dict[str, str] = {}
    providers = [
        _Provider.of(entry)
        for spelling in ("Providers", "providers")
        for entry in top.several(spelling)
    ]
    for provider in sorted(providers, key=lambda candidate: not candidate.is_local):
        (_add_local_models if provider.is_local else _add_provider_models)(result, provider, names)
        for name in ("tokenizer", "headers"):
            provider.values.ask(name, "there is no such setting of a provider")
        provider.values.end()
    _router(result, top.inner("Router"), names)
    _fallbacks(result, top, names)
    if top.ask("APIKEY", "put it into a Secret and name it in spec.auth of the ModelRouter"):
        result.needs_key = True
    timeout = top.number("API_TIMEOUT_MS")
    if timeout:
        result.api_timeout = f"{max(timeout // 1000, 1)}s"
        top.note("API_TIMEOUT_MS", SettingOutcome.CHANGED, "of --engine claudeCodeRouter alone")
    for name, reason in _OF_THE_PROGRAM.items():
        top.drop(name, reason)
    for name, task in _ASKED.items():
        top.ask(name, task)
    top.end()


@dataclass(frozen=True)
class _Provider:
    """One provider of the file."""

    name: str
    address: str
    models: tuple[str, ...]
    values: SettingsReader

    @classmethod
    def of(cls, values: SettingsReader) -> _Provider:
        name, address = values.text("name"), values.text("api_base_url")
        return cls(name, address, tuple(values.texts("models")), values)

    @property
    def is_local(self) -> bool:
        return here(self.address) not in (None, _OLLAMA)


def _add_local_models(result: ImportResult, provider: _Provider, names: dict[str, str]) -> None:
    """Add a local provider's models; a lone model is the LlamaModel known at the port, if any."""
    values = provider.values
    for model in provider.models:
        alone = (
            result.find_by_port(here(provider.address) or 0) if len(provider.models) == 1 else None
        )
        llama = result.find_model(model) or alone or result.model(model)
        result.add_alias(llama.name, model)
        names[f"{provider.name},{model}"] = llama.name
    values.note("api_base_url", SettingOutcome.MAPPED, f"LlamaModels: {', '.join(provider.models)}")
    values.drop("api_key", "models of the cluster have none")
    values.drop("transformer", "llama-server speaks Anthropic's API itself")


def _add_provider_models(result: ImportResult, provider: _Provider, names: dict[str, str]) -> None:
    values = provider.values
    key, transformer = values.take("api_key"), values.take("transformer")
    passed = "anthropic" in str(transformer or "").lower() and "/v1/messages" in provider.address
    protocol = "Anthropic" if passed else "OpenAI"
    label = provider_at(result, provider.name, provider.address, protocol=protocol, key=bool(key))
    for model in provider.models:
        names[f"{provider.name},{model}"] = result.add_provider_model(model, label, model)
    values.note("api_base_url", SettingOutcome.MAPPED, f"providers: {label}")
    if transformer:
        result.transformers[label] = redact(transformer)
        text = "of --engine claudeCodeRouter alone; the gateway translates by itself"
        values.note("transformer", SettingOutcome.CHANGED, text)


_OLLAMA = 11434


def _router(result: ImportResult, router: SettingsReader, names: Mapping[str, str]) -> None:
    for route in _ROUTES:
        value = router.text(route, f"routes.{route}")
        if value:
            model = _named(value, names)
            result.routes[route] = {"model": model} if route == "longContext" else model
    threshold = router.number("longContextThreshold")
    long = result.routes.get("longContext")
    if threshold and isinstance(long, dict):
        long["thresholdTokens"] = threshold
        router.note(
            "longContextThreshold", SettingOutcome.MAPPED, "routes.longContext.thresholdTokens"
        )
    elif threshold:
        router.note(
            "longContextThreshold", SettingOutcome.DROPPED, "there is no route for long prompts"
        )
    router.end()


def _fallbacks(result: ImportResult, top: SettingsReader, names: Mapping[str, str]) -> None:
    """Convert fallbacks of routes to fallbacks of the routes' models."""
    fallback = top.inner("fallback")
    for route in fallback.peek():
        target = result.routes.get(route)
        model = target["model"] if isinstance(target, dict) else target
        others = [_named(text, names) for text in fallback.texts(route)]
        if model and others:
            result.fallbacks.setdefault(model, others)
            fallback.note(route, SettingOutcome.CHANGED, f"fallbacks of {model}, whoever asks")
        else:
            fallback.note(route, SettingOutcome.DROPPED, "there is no such route")


def _named(text: str, names: Mapping[str, str]) -> str:
    return names.get(text, text.partition(",")[2] or text)

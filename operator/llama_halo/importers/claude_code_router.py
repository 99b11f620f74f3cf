"""Claude Code Router's config.json (1.x and 2.x), and its presets, which are the same with more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_halo.importers.found import Found, Settings, Verdict
from llama_halo.importers.providers import here, provider_at

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


def is_it(document: Any) -> bool:
    """Tell whether a document is Claude Code Router's."""
    return isinstance(document, Mapping) and bool(
        {"Providers", "providers", "Router"} & set(document)
    )


def read(found: Found, file: str, document: Mapping[str, Any]) -> None:
    """Read a whole configuration."""
    top = Settings(found, file, document)
    names: dict[str, str] = {}
    for spelling in ("Providers", "providers"):
        for at, values in enumerate(top.take(spelling) or []):
            _provider(found, Settings(found, f"{file}: Providers[{at}]", values), names)
    _router(found, top.inner("Router"), names)
    _fallbacks(found, top, names)
    if top.ask("APIKEY", "put it into a Secret and name it in spec.auth of the ModelRouter"):
        found.needs_key = True
    timeout = top.take("API_TIMEOUT_MS", "engine.claudeCodeRouter.apiTimeout, with that engine")
    if timeout:
        found.api_timeout = f"{int(timeout) // 1000}s"
    for name, why in _OF_THE_PROGRAM.items():
        top.drop(name, why)
    for name, what in _ASKED.items():
        top.ask(name, what)
    top.end()


def _provider(found: Found, values: Settings, names: dict[str, str]) -> None:
    """Read a provider: of this machine, then its models are LlamaModels; or elsewhere."""
    name = str(values.take("name"))
    address = str(values.take("api_base_url") or "")
    models = [str(each) for each in values.take("models") or []]
    key = values.take("api_key")
    transformer = values.take("transformer")
    port = here(address)
    if port is not None and port != _OLLAMA:
        for each in models:
            known = found.models.get(each) or (found.at_port(port) if len(models) == 1 else None)
            llama = known or found.model(each)
            llama.port = port
            if each != llama.name:
                found.add_alias(llama.name, each)
            names[f"{name},{each}"] = llama.name
        values.note("api_base_url", Verdict.MAPPED, f"LlamaModels: {', '.join(models)}")
        if transformer:
            values.note(
                "transformer", Verdict.DROPPED, "llama-server speaks Anthropic's API itself"
            )
    else:
        words = str(transformer or "").lower()
        protocol = "Anthropic" if "/v1/messages" in address and "anthropic" in words else "OpenAI"
        provider = provider_at(found, name, address, protocol=protocol, key=bool(key))
        for each in models:
            found.add_elsewhere(each, provider, each)
            names[f"{name},{each}"] = next(
                known.name
                for known in found.elsewhere.values()
                if (known.provider, known.model) == (provider, each)
            )
        values.note("api_base_url", Verdict.MAPPED, f"providers: {provider}")
        if transformer:
            found.transformers[provider] = transformer
            values.note(
                "transformer",
                Verdict.CHANGED,
                "kept for --engine claudeCodeRouter; the gateway translates by itself",
            )
    for each in ("tokenizer", "headers"):
        values.ask(each, "there is no such setting of a provider")
    values.end()


_OLLAMA = 11434


def _router(found: Found, router: Settings, names: Mapping[str, str]) -> None:
    for route in _ROUTES:
        value = router.take(route, f"routes.{route}")
        if value:
            model = _named(str(value), names)
            found.routes[route] = {"model": model} if route == "longContext" else model
    threshold = router.take("longContextThreshold", "routes.longContext.thresholdTokens")
    if threshold and isinstance(found.routes.get("longContext"), dict):
        found.routes["longContext"]["thresholdTokens"] = int(threshold)
    router.end()


def _fallbacks(found: Found, top: Settings, names: Mapping[str, str]) -> None:
    """Its fallbacks are of a route, these are of the route's model."""
    for route, values in top.inner("fallback").items():
        target = found.routes.get(route)
        model = target["model"] if isinstance(target, dict) else target
        if model and values:
            found.fallbacks.setdefault(model, [_named(str(each), names) for each in values])
            top.note(f"fallback.{route}", Verdict.CHANGED, f"fallbacks of {model}, whoever asks")
        else:
            top.note(f"fallback.{route}", Verdict.DROPPED, "there is no such route")


def _named(text: str, names: Mapping[str, str]) -> str:
    return names.get(text, text.partition(",")[2] or text)

"""Claude Code Router 1.0.73 and 2.0.0 as a ModelRouter's engine.

Behaviour that this module relies on: it does not register a provider without `api_key`. Without
APIKEY it listens on loopback, whatever HOST says. It reads its file only at start, and expands
`$VAR` from the environment then. `ccr start` stays in the foreground, and does nothing if the
process in its pid file is alive.
"""

from __future__ import annotations

import json
import re
from typing import Any

from llama_halo.api.modelrouter import ClaudeCodeRouterEngine, ModelRouterSpec, RoutedModel
from llama_halo.plan.engines import gateway, sidecar
from llama_halo.plan.engines.engine import CONFIG_FOLDER, PORT, RouteMapping, route_models
from llama_halo.plan.facts import Defaults, Owner
from llama_halo.plan.quantity import seconds

NAME = "claudeCodeRouter"
DEFAULT_VERSION = "2.0.0"
LOCAL = "local"
"""The provider name of the cluster's own models."""
CONFIG_FILE = "config.json"
_KEY = "LLAMA_HALO_KEY"
_TIMEOUT_SECONDS = 3600
"""As long as llama-server's own: a long prompt takes many minutes before the first token."""
_PASSED_THROUGH = {"use": ["Anthropic"]}
# The pid file of a process that was killed would keep the next one from starting.
_START = (
    'rm -rf "$HOME/.claude-code-router" && mkdir "$HOME/.claude-code-router"'
    f' && cp {CONFIG_FOLDER}/{CONFIG_FILE} "$HOME/.claude-code-router/" && exec ccr start'
)


def refusal(spec: ModelRouterSpec) -> str | None:
    """Return why Claude Code Router cannot serve a spec, None if it can."""
    return (
        _version_refusal(_engine(spec).version or DEFAULT_VERSION)
        or sidecar.selector_refusal(spec, NAME)
        or sidecar.route_refusal(
            spec, NAME, ("subagent",), "it cannot recognise requests of Claude Code's subagents"
        )
        or _default_route_refusal(spec)
        or _auth_refusal(spec)
        or sidecar.keys_refusal(spec, NAME, most=1)
        or _providers_refusal(spec)
    )


def _version_refusal(version: str) -> str | None:
    if re.fullmatch(r"[12]\.\d+\.\d+", version):
        return None
    if not re.match(r"\d+\.", version):
        return (
            f"engine {NAME}: {version} is not a version: use one such as {DEFAULT_VERSION}, which"
            " is also the image's tag"
        )
    return (
        f"engine {NAME} version {version} is not supported: from 3 on its configuration is a"
        " database that is filled once, and its routes are rules of another kind; use 2.0.0 or"
        " 1.0.73, or engine gateway"
    )


def _default_route_refusal(spec: ModelRouterSpec) -> str | None:
    if "default" in route_models(spec):
        return None
    return f"engine {NAME} needs spec.routes.default, which takes every other request: set it"


def _auth_refusal(spec: ModelRouterSpec) -> str | None:
    if spec.auth:
        return None
    return (
        f"engine {NAME} needs spec.auth: without an API key it listens on the pod's loopback only;"
        " name a Secret and one entry of it in spec.auth.secretRef, or use engine gateway"
    )


def _providers_refusal(spec: ModelRouterSpec) -> str | None:
    names = {provider.name for provider in spec.providers or ()}
    if LOCAL in names:
        return (
            f"engine {NAME} calls the cluster's own models {LOCAL}: give the entry of"
            " spec.providers another name"
        )
    for name, chosen in (_engine(spec).transformers or {}).items():
        if name not in names | {LOCAL}:
            provider_names = ", ".join(sorted(names | {LOCAL}))
            return (
                f"spec.engine.{NAME}.transformers.{name} names no provider: use one of"
                f" {provider_names}"
            )
        if not all(
            isinstance(transformer, dict) or (key == "use" and isinstance(transformer, list))
            for key, transformer in chosen.items()
        ):
            return (
                f"spec.engine.{NAME}.transformers.{name} must be like {{use: [deepseek], MODEL:"
                " {use: [[maxtoken, {max_tokens: 8192}]]}}"
            )
    return None


def files(owner: Owner, spec: ModelRouterSpec) -> dict[str, str]:
    """Return Claude Code Router's config.json and the policy of the gateway sidecar."""
    timeout = _engine(spec).api_timeout
    config = {
        "HOST": "0.0.0.0",
        "PORT": PORT,
        "APIKEY": f"${_KEY}",
        "API_TIMEOUT_MS": round((seconds(timeout) if timeout else _TIMEOUT_SECONDS) * 1000),
        "LOG": False,
        "NON_INTERACTIVE_MODE": True,
        "Providers": _providers(spec),
        "Router": _router(spec),
    }
    text = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
    return {CONFIG_FILE: text, **gateway.sidecar_files(owner, spec)}


def _providers(spec: ModelRouterSpec) -> list[dict[str, Any]]:
    """Return a provider for the cluster's models, and one for each of the spec that has models.

    All of them point to the gateway sidecar; they differ in name and transformers.
    """
    by_provider: dict[str, list[RoutedModel]] = {}
    for model in spec.models or ():
        by_provider.setdefault(model.provider or LOCAL, []).append(model)
    chosen = _engine(spec).transformers or {}
    return [
        _provider(name, models, chosen.get(name)) for name, models in sorted(by_provider.items())
    ]


def _provider(name: str, models: list[RoutedModel], transformer: Any) -> dict[str, Any]:
    names = [model.name for model in models]
    names += [model.model for model in models if model.model]
    names += [alias for model in models for alias in model.aliases or () if "*" not in alias]
    path = "/v1/chat/completions" if transformer else "/v1/messages"
    return {
        "name": name,
        "api_base_url": f"{sidecar.UPSTREAM}{path}",
        "api_key": sidecar.NO_KEY,
        "models": list(dict.fromkeys(names)),
        "transformer": _transformer(models, transformer) if transformer else _PASSED_THROUGH,
    }


def _transformer(models: list[RoutedModel], chosen: dict[str, Any]) -> dict[str, Any]:
    """Return the transformers of a provider.

    Those of a model are repeated under the router's name for it, which is the name in routes.
    """
    transformer = dict(chosen)
    for model in models:
        if model.model in chosen:
            transformer.setdefault(model.name, chosen[model.model])
    return transformer


def _router(spec: ModelRouterSpec) -> dict[str, Any]:
    providers = {model.name: model.provider or LOCAL for model in spec.models or ()}
    router: dict[str, Any] = {
        route: f"{providers[model]},{model}" for route, model in route_models(spec).items()
    }
    long = spec.routes.long_context if spec.routes else None
    if long:
        router["longContextThreshold"] = long.threshold_tokens or 60000
    return router


def pod(
    owner: Owner, spec: ModelRouterSpec, defaults: Defaults, config_name: str
) -> dict[str, Any]:
    """Return the pod's containers and volumes: Claude Code Router and the gateway sidecar."""
    version = _engine(spec).version or DEFAULT_VERSION
    engine = sidecar.container(
        spec,
        name="claude-code-router",
        image=sidecar.image(defaults.engine_images[NAME], version, spec),
        command=sidecar.guarded(["sh", "-c", _START], [_KEY]),
        env=sidecar.key_variables(spec, [_KEY]),
        health="/health",
        memory=("192Mi", "1Gi"),
    )
    return sidecar.pod(engine, owner, spec, defaults, config_name)


_NOTES = {
    "background": "only for names with claude and haiku, which Claude Code does not use by itself:"
    " set ANTHROPIC_DEFAULT_HAIKU_MODEL=claude-haiku",
    "think": "every request with thinking, which includes all of Claude Code's main requests",
    "longContext": "by cl100k's count of tokens, not the model's own",
    "image": "only for an image in the last message",
}


def routes(spec: ModelRouterSpec) -> list[RouteMapping]:
    """Return the routes, with notes on which requests of Claude Code take them."""
    routes_by_name = route_models(spec)
    notes = dict(_NOTES)
    if "think" in routes_by_name:
        notes["default"] = "requests without thinking; Claude Code's main requests go to think"
    return [
        RouteMapping(route, model, notes.get(route, "")) for route, model in routes_by_name.items()
    ]


def _engine(spec: ModelRouterSpec) -> ClaudeCodeRouterEngine:
    engine = spec.engine and spec.engine.claude_code_router
    return engine or ClaudeCodeRouterEngine()

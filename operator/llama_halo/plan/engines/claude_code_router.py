"""Claude Code Router 1.0.73 and 2.0.0 as a ModelRouter's engine.

What it does: a provider without `api_key` is not registered; without APIKEY it listens on loopback,
whatever HOST says; `$VAR` is taken from the environment at its start, and the file is read only
then; `ccr start` stays in the foreground, and does nothing if the pid in its file is alive.
"""

from __future__ import annotations

import json
import re
from typing import Any

from llama_halo.api.modelrouter import ClaudeCodeRouterEngine, ModelRouterSpec, RoutedModel
from llama_halo.plan.engines import gateway, sidecar
from llama_halo.plan.engines.engine import CONFIG_FOLDER, PORT, RouteMapping, routed
from llama_halo.plan.facts import Defaults, Owner
from llama_halo.plan.quantity import seconds

NAME = "claudeCodeRouter"
DEFAULT_VERSION = "2.0.0"
LOCAL = "local"
"""The provider that the cluster's own models are."""
CONFIG_FILE = "config.json"
_KEY = "LLAMA_HALO_KEY"
_TIMEOUT_SECONDS = 3600
"""As long as llama-server's own: a long prompt takes many minutes before the first word."""
_PASSED_THROUGH = {"use": ["Anthropic"]}
# The pid file of a process that was killed would keep the next one from starting.
_START = (
    'rm -rf "$HOME/.claude-code-router" && mkdir "$HOME/.claude-code-router"'
    f' && cp {CONFIG_FOLDER}/{CONFIG_FILE} "$HOME/.claude-code-router/" && exec ccr start'
)


def refusal(spec: ModelRouterSpec) -> str | None:
    """Return what Claude Code Router cannot do of a spec."""
    return (
        _refused_version(_engine(spec).version or DEFAULT_VERSION)
        or sidecar.no_selector(spec, NAME)
        or sidecar.no_route(
            spec, NAME, ("subagent",), "Claude Code's subagents carry nothing that it looks at"
        )
        or _no_default(spec)
        or _no_key(spec)
        or sidecar.named_keys(spec, NAME, most=1)
        or _bad_providers(spec)
    )


def _refused_version(version: str) -> str | None:
    if re.fullmatch(r"[12]\.\d+\.\d+", version):
        return None
    if not re.match(r"\d+\.", version):
        return (
            f"engine {NAME} version {version} is none: give one like {DEFAULT_VERSION}, which is"
            " also the image's tag"
        )
    return (
        f"engine {NAME} version {version} is not supported: from 3 on its configuration is a"
        " database that is filled once, and its routes are rules of another kind; use 2.0.0 or"
        " 1.0.73, or engine gateway"
    )


def _no_default(spec: ModelRouterSpec) -> str | None:
    if "default" in routed(spec):
        return None
    return f"engine {NAME} needs spec.routes.default: it is where every other request goes"


def _no_key(spec: ModelRouterSpec) -> str | None:
    if spec.auth:
        return None
    return (
        f"engine {NAME} needs spec.auth: without an API key it listens on the pod's loopback only;"
        " name a Secret and one entry of it in spec.auth.secretRef, or use engine gateway"
    )


def _bad_providers(spec: ModelRouterSpec) -> str | None:
    names = {provider.name for provider in spec.providers or ()}
    if LOCAL in names:
        return (
            f"engine {NAME} calls the cluster's own models {LOCAL}: give the entry of"
            " spec.providers another name"
        )
    for name, chosen in (_engine(spec).transformers or {}).items():
        if name not in names | {LOCAL}:
            provider_names = ", ".join(sorted(names | {LOCAL}))
            return f"engine.{NAME}.transformers.{name} is no provider: {provider_names} are"
        if not isinstance(chosen, dict) or not all(
            isinstance(transformer, dict) or (key == "use" and isinstance(transformer, list))
            for key, transformer in chosen.items()
        ):
            return (
                f"engine.{NAME}.transformers.{name} must be like {{use: [deepseek], MODEL: {{use:"
                " [[maxtoken, {max_tokens: 8192}]]}}"
            )
    return None


def files(owner: Owner, spec: ModelRouterSpec) -> dict[str, str]:
    """Return its config.json, and the policy of the gateway beside it."""
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
    """Return a provider for the cluster's models and one for each of the spec: all of them are the
    gateway beside, under other names and transformers."""
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
    """Return the transformers of a provider; those of a model under the router's name for it, too:
    it is the one that routes use."""
    transformer = dict(chosen)
    for model in models:
        if model.model in chosen:
            transformer.setdefault(model.name, chosen[model.model])
    return transformer


def _router(spec: ModelRouterSpec) -> dict[str, Any]:
    providers = {model.name: model.provider or LOCAL for model in spec.models or ()}
    router: dict[str, Any] = {
        route: f"{providers[model]},{model}" for route, model in routed(spec).items()
    }
    long = spec.routes.long_context if spec.routes else None
    if long:
        router["longContextThreshold"] = long.threshold_tokens or 60000
    return router


def pod(
    owner: Owner, spec: ModelRouterSpec, defaults: Defaults, config_name: str
) -> dict[str, Any]:
    """Return Claude Code Router and the gateway beside it."""
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
    "background": "only for a name with claude and haiku in it, which Claude Code gives to none of"
    " its own requests here: set ANTHROPIC_DEFAULT_HAIKU_MODEL=claude-haiku",
    "think": "every request with thinking, and Claude Code has it in all of its main requests",
    "longContext": "by cl100k's count of tokens, not the model's own",
    "image": "only for an image in the last message",
}


def routes(spec: ModelRouterSpec) -> list[RouteMapping]:
    """Return what its rules make of the routes with Claude Code of today."""
    routes_by_name = routed(spec)
    notes = dict(_NOTES)
    if "think" in routes_by_name:
        notes["default"] = "what has no thinking; Claude Code's main requests go to think"
    return [
        RouteMapping(route, model, notes.get(route, "")) for route, model in routes_by_name.items()
    ]


def _engine(spec: ModelRouterSpec) -> ClaudeCodeRouterEngine:
    engine = spec.engine and spec.engine.claude_code_router
    return engine or ClaudeCodeRouterEngine()

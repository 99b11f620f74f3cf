"""llama-swap as a ModelRouter's engine: the models are those of a peer, the gateway beside it.

It starts and stops no server of its own: loading, unloading and what fits is the operator's.
"""

from __future__ import annotations

from typing import Any

import yaml

from llama_halo.api.modelrouter import LlamaSwapEngine, ModelRouterSpec
from llama_halo.plan.engines import beside, gateway
from llama_halo.plan.engines.engine import CONFIG_FOLDER, PORT, Taken, routed
from llama_halo.plan.facts import Defaults, Identity

NAME = "llamaSwap"
DEFAULT_VERSION = "v250"
CONFIG_FILE = "config.yaml"
PEER = "local"
_KEY = "LLAMA_HALO_KEY_"


def refusal(spec: ModelRouterSpec) -> str | None:
    """Return what llama-swap cannot do of a spec."""
    return (
        beside.no_selector(spec, NAME)
        or beside.no_route(
            spec,
            NAME,
            ("longContext", "webSearch", "image"),
            "it chooses by the model's name, and not by what a request is for",
        )
        or _pattern(spec)
        or beside.named_keys(spec, NAME, most=None)
    )


def _pattern(spec: ModelRouterSpec) -> str | None:
    found = [alias for each in spec.models or () for alias in each.aliases or () if "*" in alias]
    if not found:
        return None
    return (
        f"engine {NAME} cannot serve the alias {found[0]}: it knows exact names only; list each"
        " name that clients ask for, or use engine gateway"
    )


def files(owner: Identity, spec: ModelRouterSpec) -> dict[str, str]:
    """Return its config.yaml, and the policy of the gateway beside it."""
    names = _names(spec)
    config: dict[str, Any] = {
        "logLevel": "warn",
        "logRequests": False,
        "captureBuffer": 0,  # else bodies are kept, and shown
        "includeAliasesInList": True,
        "peers": {
            PEER: {
                "proxy": beside.UPSTREAM,
                "models": names,
                # By default an answer that does not begin within a minute is a failure.
                "timeouts": {"responseHeader": 0},
            }
        },
    }
    selectors = {
        route: {"strategy": "pin", "targets": [model]}
        for route, model in routed(spec).items()
        if route not in names
    }
    if selectors:
        config["selectors"] = selectors
    keys = _key_names(spec)
    if keys:
        config["apiKeys"] = [f"${{env.{name}}}" for name in keys]
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return {CONFIG_FILE: text, **gateway.files_beside(owner, spec)}


def _names(spec: ModelRouterSpec) -> list[str]:
    models = spec.models or []
    names = [each.name for each in models]
    names += [alias for each in models for alias in each.aliases or ()]
    names += [each.model for each in models if each.model]
    return list(dict.fromkeys(names))


def _key_names(spec: ModelRouterSpec) -> list[str]:
    keys = (spec.auth and spec.auth.secret_ref.keys) or []
    return [f"{_KEY}{index}" for index in range(len(keys))]


def pod(
    owner: Identity, spec: ModelRouterSpec, defaults: Defaults, config_name: str
) -> dict[str, Any]:
    """Return llama-swap and the gateway beside it."""
    version = _engine(spec).version or DEFAULT_VERSION
    engine = beside.container(
        spec,
        name="llama-swap",
        image=beside.image(defaults.engine_images[NAME], version, spec),
        command=[
            *("/app/llama-swap", "-config", f"{CONFIG_FOLDER}/{CONFIG_FILE}"),
            *("-listen", f":{PORT}"),
        ],
        env=beside.key_variables(spec, _key_names(spec)),
        health="/health",
        memory=("64Mi", "512Mi"),
    )
    return beside.pod(engine, owner, spec, defaults, config_name)


def routes(spec: ModelRouterSpec) -> list[Taken]:
    """Return the routes as names that a client may ask for."""
    return [
        Taken(route, model, f"only for who asks for the name {route}")
        for route, model in routed(spec).items()
    ]


def _engine(spec: ModelRouterSpec) -> LlamaSwapEngine:
    return (spec.engine and spec.engine.llama_swap) or LlamaSwapEngine()

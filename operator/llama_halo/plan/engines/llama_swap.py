"""llama-swap as a ModelRouter's engine: its models are those of one peer, the gateway sidecar.

It starts and stops no servers: the operator loads, unloads and places the models.
"""

from __future__ import annotations

import json
from typing import Any

from llama_halo.api.modelrouter import LlamaSwapEngine, ModelRouterSpec
from llama_halo.plan.engines import gateway, sidecar
from llama_halo.plan.engines.engine import CONFIG_FOLDER, PORT, RouteMapping, route_models
from llama_halo.plan.facts import Defaults, Owner

NAME = "llamaSwap"
DEFAULT_VERSION = "v250"
CONFIG_FILE = "config.yaml"
PEER = "local"
_KEY = "LLAMA_HALO_KEY_"


def refusal(spec: ModelRouterSpec) -> str | None:
    """Return why llama-swap cannot serve a spec, None if it can."""
    return (
        sidecar.selector_refusal(spec, NAME)
        or sidecar.route_refusal(
            spec,
            NAME,
            ("longContext", "webSearch", "image"),
            "it chooses by the model's name, not by the content of a request",
        )
        or _pattern(spec)
        or sidecar.keys_refusal(spec, NAME, most=None)
    )


def _pattern(spec: ModelRouterSpec) -> str | None:
    patterns = [
        alias for model in spec.models or () for alias in model.aliases or () if "*" in alias
    ]
    if not patterns:
        return None
    return (
        f"engine {NAME} cannot serve the alias {patterns[0]}: it knows exact names only; list each"
        " name that clients ask for, or use engine gateway"
    )


def files(owner: Owner, spec: ModelRouterSpec) -> dict[str, str]:
    """Return llama-swap's config.yaml and the policy of the gateway sidecar."""
    names = _names(spec)
    config: dict[str, Any] = {
        "logLevel": "warn",
        "captureBuffer": 0,  # otherwise it stores requests and answers, and shows them
        "metricsMaxInMemory": 1,
        "apiKeys": [f"${{env.{name}}}" for name in _key_names(spec)],
        "models": {},
        # A peer's models have no aliases, and are listed with the peer's name as a prefix.
        "selectors": {
            name: {"strategy": "pin", "targets": [f"{PEER}/{model}"]}
            for name, model in names.items()
        },
        "peers": {
            PEER: {
                "proxy": sidecar.UPSTREAM,
                "apiKey": sidecar.NO_KEY,  # otherwise it forwards the client's key
                "models": sorted(set(names.values())),
                # By default a request fails if its answer does not begin within a minute.
                "timeouts": {"responseHeader": 0},
            }
        },
    }
    # JSON is YAML with every text in quotes. An empty key without quotes would be no key, and
    # turn authentication off.
    text = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
    return {CONFIG_FILE: text, **gateway.sidecar_files(owner, spec)}


def _names(spec: ModelRouterSpec) -> dict[str, str]:
    """Return every name that clients can request, with the router's model for it."""
    models = sorted(spec.models or (), key=lambda entry: entry.name)
    names = {model.name: model.name for model in models}
    for entry in models:
        for name in [*(entry.aliases or ()), *([entry.model] if entry.model else [])]:
            names.setdefault(name, entry.name)
    for route, model in route_models(spec).items():
        names.setdefault(route, model)
    return names


def _key_names(spec: ModelRouterSpec) -> list[str]:
    keys = (spec.auth and spec.auth.secret_ref.keys) or []
    return [f"{_KEY}{index}" for index in range(len(keys))]


def pod(
    owner: Owner, spec: ModelRouterSpec, defaults: Defaults, config_name: str
) -> dict[str, Any]:
    """Return the pod's containers and volumes: llama-swap and the gateway sidecar."""
    version = _engine(spec).version or DEFAULT_VERSION
    engine = sidecar.container(
        spec,
        name="llama-swap",
        image=sidecar.image(defaults.engine_images[NAME], version, spec),
        command=sidecar.guarded(
            [
                *("llama-swap", "-config", f"{CONFIG_FOLDER}/{CONFIG_FILE}"),
                *("-listen", f":{PORT}"),
            ],
            _key_names(spec),
        ),
        env=sidecar.key_variables(spec, _key_names(spec)),
        health="/health",
        memory=("64Mi", "512Mi"),
    )
    return sidecar.pod(engine, owner, spec, defaults, config_name)


def routes(spec: ModelRouterSpec) -> list[RouteMapping]:
    """Return the routes; a client takes one by requesting its name."""
    return [
        RouteMapping(route, model, f"only for requests for the name {route}")
        for route, model in route_models(spec).items()
    ]


def _engine(spec: ModelRouterSpec) -> LlamaSwapEngine:
    return (spec.engine and spec.engine.llama_swap) or LlamaSwapEngine()

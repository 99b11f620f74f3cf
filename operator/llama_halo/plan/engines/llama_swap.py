"""llama-swap as a ModelRouter's engine: the models are those of a peer, the gateway beside it.

It starts and stops no server of its own: loading, unloading and what fits is the operator's.
"""

from __future__ import annotations

import json
from typing import Any

from llama_halo.api.modelrouter import LlamaSwapEngine, ModelRouterSpec
from llama_halo.plan.engines import gateway, sidecar
from llama_halo.plan.engines.engine import CONFIG_FOLDER, PORT, RouteMapping, routed
from llama_halo.plan.facts import Defaults, Owner

NAME = "llamaSwap"
DEFAULT_VERSION = "v250"
CONFIG_FILE = "config.yaml"
PEER = "local"
_KEY = "LLAMA_HALO_KEY_"


def refusal(spec: ModelRouterSpec) -> str | None:
    """Return what llama-swap cannot do of a spec."""
    return (
        sidecar.no_selector(spec, NAME)
        or sidecar.no_route(
            spec,
            NAME,
            ("longContext", "webSearch", "image"),
            "it chooses by the model's name, and not by what a request is for",
        )
        or _pattern(spec)
        or sidecar.named_keys(spec, NAME, most=None)
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
    """Return its config.yaml, and the policy of the gateway beside it."""
    names = _names(spec)
    config: dict[str, Any] = {
        "logLevel": "warn",
        "captureBuffer": 0,  # else it keeps what was said, and shows it
        "metricsMaxInMemory": 1,
        "apiKeys": [f"${{env.{name}}}" for name in _key_names(spec)],
        "models": {},
        # A peer's models have no aliases, and are listed with the peer's name before theirs.
        "selectors": {
            name: {"strategy": "pin", "targets": [f"{PEER}/{model}"]}
            for name, model in names.items()
        },
        "peers": {
            PEER: {
                "proxy": sidecar.UPSTREAM,
                "apiKey": sidecar.NO_KEY,  # else the client's own goes on
                "models": sorted(set(names.values())),
                # By default an answer that does not begin within a minute is a failure.
                "timeouts": {"responseHeader": 0},
            }
        },
    }
    # JSON is YAML, with every text in quotes: a key that is empty and not in quotes is no key at
    # all, and opens the door.
    text = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
    return {CONFIG_FILE: text, **gateway.sidecar_files(owner, spec)}


def _names(spec: ModelRouterSpec) -> dict[str, str]:
    """Return every name that is answered, with the router's model behind it."""
    models = sorted(spec.models or (), key=lambda entry: entry.name)
    names = {model.name: model.name for model in models}
    for entry in models:
        for name in [*(entry.aliases or ()), *([entry.model] if entry.model else [])]:
            names.setdefault(name, entry.name)
    for route, model in routed(spec).items():
        names.setdefault(route, model)
    return names


def _key_names(spec: ModelRouterSpec) -> list[str]:
    keys = (spec.auth and spec.auth.secret_ref.keys) or []
    return [f"{_KEY}{index}" for index in range(len(keys))]


def pod(
    owner: Owner, spec: ModelRouterSpec, defaults: Defaults, config_name: str
) -> dict[str, Any]:
    """Return llama-swap and the gateway beside it."""
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
    """Return the routes as names that a client may ask for."""
    return [
        RouteMapping(route, model, f"only for who asks for the name {route}")
        for route, model in routed(spec).items()
    ]


def _engine(spec: ModelRouterSpec) -> LlamaSwapEngine:
    return (spec.engine and spec.engine.llama_swap) or LlamaSwapEngine()

"""The LiteLLM proxy, without a database, as a ModelRouter's engine.

It chooses by the model's name alone. It sends every request to the gateway sidecar over the
Anthropic API, which it passes through. Retries and cooldowns are off, because a model that is
loading has not failed.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from llama_halo.api.modelrouter import LiteLLMEngine, ModelRouterSpec
from llama_halo.plan.engines import gateway, sidecar
from llama_halo.plan.engines.engine import CONFIG_FOLDER, PORT, RouteMapping, route_models
from llama_halo.plan.facts import Defaults, Owner

NAME = "liteLLM"
DEFAULT_VERSION = "1.106.2"
CONFIG_FILE = "config.yaml"
_KEY = "LITELLM_MASTER_KEY"
_BACKDOORED = re.compile(r"(?<![\d.])1\.82\.[78](?!\d)")
_TIMEOUT_SECONDS = 3600
_HAIKU = "claude-*haiku*"


def refusal(spec: ModelRouterSpec) -> str | None:
    """Return why LiteLLM cannot serve a spec, None if it can."""
    return (
        _backdoor_refusal(_engine(spec).version or "", (spec.pod and spec.pod.image) or "")
        or sidecar.selector_refusal(spec, NAME)
        or sidecar.route_refusal(
            spec,
            NAME,
            ("longContext", "webSearch", "image"),
            "it chooses by the model's name, not by the content of a request",
        )
        or sidecar.keys_refusal(spec, NAME, most=1)
    )


def _backdoor_refusal(version: str, image: str) -> str | None:
    backdoored = next((text for text in (version, image) if _BACKDOORED.search(text)), None)
    if backdoored is None:
        return None
    return (
        f"engine {NAME} version {backdoored} is refused: that release was published with a back"
        f" door that steals credentials; use {DEFAULT_VERSION}, and change every secret that it saw"
    )


def files(owner: Owner, spec: ModelRouterSpec) -> dict[str, str]:
    """Return LiteLLM's config.yaml and the policy of the gateway sidecar."""
    config = {
        "model_list": [_entry(name, model) for name, model in _names(spec).items()],
        "litellm_settings": {
            "drop_params": True,
            "num_retries": 0,
            "request_timeout": _TIMEOUT_SECONDS,
            "telemetry": False,
            "turn_off_message_logging": True,
        },
        "router_settings": {
            "disable_cooldowns": True,
            "num_retries": 0,
            "timeout": _TIMEOUT_SECONDS,
        },
        "general_settings": {
            **({"master_key": f"os.environ/{_KEY}"} if spec.auth else {}),
            "background_health_checks": False,
            "disable_spend_logs": True,
        },
    }
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return {CONFIG_FILE: text, **gateway.sidecar_files(owner, spec)}


def _names(spec: ModelRouterSpec) -> dict[str, str]:
    """Return every name that clients can request, with the router's model for it.

    Names and aliases in the spec take precedence over the names that routes add.
    """
    models = sorted(spec.models or (), key=lambda entry: entry.name)
    names = {model.name: model.name for model in spec.models or ()}
    for entry in models:
        for alias in entry.aliases or ():
            names.setdefault(alias, entry.name)
        if entry.model:
            names.setdefault(entry.model, entry.name)
    routes = route_models(spec)
    for route, model in routes.items():
        names.setdefault(route, model)
    if "background" in routes:
        names.setdefault(_HAIKU, routes["background"])
    if "default" in routes:
        names.setdefault("*", routes["default"])
    return names


def _entry(name: str, model: str) -> dict[str, Any]:
    return {
        "model_name": name,
        "litellm_params": {
            "model": f"anthropic/{model}",
            "api_base": sidecar.UPSTREAM,
            "api_key": sidecar.NO_KEY,
            "timeout": _TIMEOUT_SECONDS,
            "stream_timeout": _TIMEOUT_SECONDS,
        },
    }


def pod(
    owner: Owner, spec: ModelRouterSpec, defaults: Defaults, config_name: str
) -> dict[str, Any]:
    """Return the pod's containers and volumes: LiteLLM and the gateway sidecar."""
    version = _engine(spec).version or DEFAULT_VERSION
    settings = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # otherwise it downloads prices at start
        "LITELLM_LOG": "ERROR",
        "NO_DOCS": "True",
        "DISABLE_ADMIN_UI": "True",
        **({} if spec.auth else {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}),
    }
    engine = sidecar.container(
        spec,
        name="litellm",
        image=sidecar.image(defaults.engine_images[NAME], version, spec),
        command=sidecar.guarded(
            [
                *("litellm", "--config", f"{CONFIG_FOLDER}/{CONFIG_FILE}"),
                *("--host", "0.0.0.0", "--port", str(PORT)),
            ],
            [_KEY] if spec.auth else [],
        ),
        env=[
            *({"name": name, "value": value} for name, value in settings.items()),
            *sidecar.key_variables(spec, [_KEY] if spec.auth else []),
        ],
        health="/health/liveliness",
        memory=("512Mi", "2Gi"),
    )
    return sidecar.pod(engine, owner, spec, defaults, config_name)


def routes(spec: ModelRouterSpec) -> list[RouteMapping]:
    """Return the routes, with notes on which names take them."""
    notes = {
        "default": "requests for any name that no model has",
        "background": "requests for claude-*haiku* and for the name background",
        **{route: f"only for requests for the name {route}" for route in ("think", "subagent")},
    }
    return [RouteMapping(route, model, notes[route]) for route, model in route_models(spec).items()]


def _engine(spec: ModelRouterSpec) -> LiteLLMEngine:
    return (spec.engine and spec.engine.lite_llm) or LiteLLMEngine()

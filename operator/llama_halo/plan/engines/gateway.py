"""The built-in gateway as a ModelRouter's engine."""

from __future__ import annotations

from typing import Any

from llama_halo.api.modelrouter import ModelRouterSpec, Provider
from llama_halo.gateway import config
from llama_halo.gateway.config import GatewayConfig, LongContext, RoutedName, Routes
from llama_halo.plan.facts import Defaults, Identity
from llama_halo.plan.quantity import canonical_quantity, seconds

CONFIG_FILE = "gateway.json"
CONFIG_FOLDER = "/etc/llama-halo"
KEYS_FOLDER = "/etc/llama-halo-keys"
PROVIDER_KEYS_FOLDER = "/etc/llama-halo-provider-keys"
PORT = 8080
_RESOURCES = {
    "requests": {"cpu": "100m", "memory": "128Mi"},
    "limits": {"memory": "1Gi"},
}


def render(owner: Identity, spec: ModelRouterSpec) -> dict[str, str]:
    """Return the gateway's configuration files: policy only, nothing that changes without it."""
    policy = GatewayConfig(
        router=owner.name,
        namespace=owner.namespace,
        models=tuple(
            RoutedName(
                name=model.name,
                llama_model=model.model_ref.name if model.model_ref else "",
                provider=model.provider or "",
                model=model.model or "",
                aliases=tuple(model.aliases or ()),
            )
            for model in spec.models or ()
        ),
        providers=tuple(map(_provider, spec.providers or ())),
        model_labels=dict(spec.model_selector.match_labels) if spec.model_selector else {},
        routes=_routes(spec),
        fallbacks={name: tuple(each) for name, each in (spec.fallbacks or {}).items()},
        **_hold(spec),
    )
    return {CONFIG_FILE: policy.to_json()}


def _provider(provider: Provider) -> config.Provider:
    limit = {"max_concurrent": provider.max_concurrent} if provider.max_concurrent else {}
    return config.Provider(
        name=provider.name,
        protocol=provider.protocol,
        base_url=provider.base_url,
        has_key=provider.api_key_secret_ref is not None,
        **limit,
    )


def _routes(spec: ModelRouterSpec) -> Routes:
    if spec.routes is None:
        return Routes()
    found = {name: each for name, each in vars(spec.routes).items() if name != "long_context"}
    long = spec.routes.long_context
    if long is None:
        return Routes(**found)
    threshold = {"threshold_tokens": long.threshold_tokens} if long.threshold_tokens else {}
    return Routes(**found, long_context=LongContext(model=long.model, **threshold))


def _hold(spec: ModelRouterSpec) -> dict[str, float]:
    """Return how long requests wait, where the spec says so."""
    hold = spec.hold
    found = {
        "hold_seconds": hold and hold.timeout,
        "ping_seconds": hold and hold.ping_interval,
    }
    return {name: seconds(each) for name, each in found.items() if each}


def container(owner: Identity, spec: ModelRouterSpec, defaults: Defaults) -> dict[str, Any]:
    """Return the gateway's container."""
    port: dict[str, Any] = {"name": "http", "containerPort": PORT, "protocol": "TCP"}
    if spec.host_port:
        port["hostPort"] = spec.host_port
    return {
        "name": "gateway",
        "image": (spec.pod and spec.pod.image) or defaults.gateway_image,
        "imagePullPolicy": "IfNotPresent",
        "args": [
            *("gateway", "--config", f"{CONFIG_FOLDER}/{CONFIG_FILE}", "--port", str(PORT)),
            *(("--keys", KEYS_FOLDER) if spec.auth else ()),
            *(("--provider-keys", PROVIDER_KEYS_FOLDER) if _provider_keys(spec) else ()),
        ],
        "env": [
            {
                "name": "POD_NAME",
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
            }
        ],
        "ports": [port],
        "readinessProbe": _probe("/readyz", period=2, failures=1),
        "livenessProbe": _probe("/healthz", period=10, failures=6),
        "resources": _resources(spec),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            _mount("config", CONFIG_FOLDER),
            *([_mount("keys", KEYS_FOLDER)] if spec.auth else []),
            *([_mount("provider-keys", PROVIDER_KEYS_FOLDER)] if _provider_keys(spec) else []),
        ],
    }


def volumes(spec: ModelRouterSpec, config_name: str) -> list[dict[str, Any]]:
    """Return the pod's volumes: the policy, and the keys where clients need one."""
    found: list[dict[str, Any]] = [{"name": "config", "configMap": {"name": config_name}}]
    if spec.auth:
        secret = spec.auth.secret_ref
        items = [{"key": key, "path": key} for key in secret.keys or ()]
        chosen = {"items": items} if items else {}
        found.append({"name": "keys", "secret": {"secretName": secret.name, **chosen}})
    keys = _provider_keys(spec)
    if keys:
        found.append({"name": "provider-keys", "projected": {"sources": keys}})
    return found


def _provider_keys(spec: ModelRouterSpec) -> list[dict[str, Any]]:
    """Return the sources of a folder with each provider's key in a file of its name. One that is
    not there (yet) is its provider's trouble alone, and keeps no router from starting."""
    return [
        {
            "secret": {
                "name": each.api_key_secret_ref.name,
                "items": [{"key": each.api_key_secret_ref.key, "path": each.name}],
                "optional": True,
            }
        }
        for each in spec.providers or ()
        if each.api_key_secret_ref
    ]


def _mount(name: str, folder: str) -> dict[str, Any]:
    return {"name": name, "mountPath": folder, "readOnly": True}


def _resources(spec: ModelRouterSpec) -> dict[str, Any]:
    extra = spec.pod.resources if spec.pod else None
    given = {
        "requests": (extra and extra.requests) or {},
        "limits": (extra and extra.limits) or {},
    }
    return {
        side: {**ours, **{key: canonical_quantity(q) for key, q in given[side].items()}}
        for side, ours in _RESOURCES.items()
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
    }

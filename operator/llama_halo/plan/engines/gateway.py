"""The built-in gateway as a ModelRouter's engine."""

from __future__ import annotations

from typing import Any

from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.gateway.config import GatewayConfig, LongContext, RoutedName, Routes
from llama_halo.plan.facts import Defaults, Identity
from llama_halo.plan.quantity import canonical_quantity, seconds

CONFIG_FILE = "gateway.json"
CONFIG_FOLDER = "/etc/llama-halo"
KEYS_FOLDER = "/etc/llama-halo-keys"
PORT = 8080
_RESOURCES = {
    "requests": {"cpu": "100m", "memory": "128Mi"},
    "limits": {"memory": "1Gi"},
}


def render(owner: Identity, spec: ModelRouterSpec) -> dict[str, str]:
    """Return the gateway's configuration files: policy only, nothing that changes without it."""
    config = GatewayConfig(
        router=owner.name,
        namespace=owner.namespace,
        models=tuple(
            RoutedName(
                name=model.name,
                llama_model=model.model_ref.name,
                aliases=tuple(model.aliases or ()),
            )
            for model in spec.models or ()
            if model.model_ref
        ),
        model_labels=dict(spec.model_selector.match_labels) if spec.model_selector else {},
        routes=_routes(spec),
        fallbacks={name: tuple(each) for name, each in (spec.fallbacks or {}).items()},
        **_hold(spec),
    )
    return {CONFIG_FILE: config.to_json()}


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
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            *([{"name": "keys", "mountPath": KEYS_FOLDER, "readOnly": True}] if spec.auth else []),
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
    return found


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

"""The built-in gateway as a ModelRouter's engine."""

from __future__ import annotations

from typing import Any

from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.gateway.config import GatewayConfig, RoutedName
from llama_halo.plan.facts import Defaults, Identity
from llama_halo.plan.quantity import canonical_quantity, seconds

CONFIG_FILE = "gateway.json"
CONFIG_FOLDER = "/etc/llama-halo"
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
        default_route=spec.routes.default if spec.routes else None,
        **_hold(spec),
        background_route=spec.routes.background if spec.routes else None,
    )
    return {CONFIG_FILE: config.to_json()}


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
        "args": ["gateway", "--config", f"{CONFIG_FOLDER}/{CONFIG_FILE}", "--port", str(PORT)],
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
        "volumeMounts": [{"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True}],
    }


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

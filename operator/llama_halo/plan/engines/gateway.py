"""The built-in gateway as a ModelRouter's engine."""

from __future__ import annotations

from typing import Any

from llama_halo.api.modelrouter import ModelRouterSpec, Provider
from llama_halo.contract.gateway_config import (
    GatewayConfig,
    LongContext,
    ProviderConfig,
    RoutedName,
    RoutesConfig,
)
from llama_halo.plan.engines.engine import CONFIG_FOLDER, PORT, RouteMapping, route_models
from llama_halo.plan.facts import Defaults, Owner
from llama_halo.plan.quantity import canonical_quantity, seconds

NAME = "gateway"
CONFIG_FILE = "gateway.json"
KEYS_FOLDER = "/etc/llama-halo-keys"
PROVIDER_KEYS_FOLDER = "/etc/llama-halo-provider-keys"
ADMIN_PORT, INNER_PORT = 8081, 8082
"""The sidecar's ports: probes and metrics for the cluster, and the API for the engine alone."""
_TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105
_RESOURCES = {
    "requests": {"cpu": "100m", "memory": "128Mi"},
    "limits": {"memory": "1Gi"},
}


def refusal(spec: ModelRouterSpec) -> str | None:
    """Return None: the gateway can serve every spec."""
    return None


def security() -> dict[str, Any]:
    """Return the security context of a container that needs no access to its node."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def token_volume() -> dict[str, Any]:
    """Return a volume with the ServiceAccount's token, to be mounted in one container only."""
    certificate = {"key": "ca.crt", "path": "ca.crt"}
    return {
        "name": "token",
        "projected": {
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [certificate]}},
            ]
        },
    }


def routes(spec: ModelRouterSpec) -> list[RouteMapping]:
    """Return every route unchanged."""
    return [RouteMapping(route, model) for route, model in route_models(spec).items()]


def files(owner: Owner, spec: ModelRouterSpec) -> dict[str, str]:
    """Return the gateway's configuration file: the spec's policy, without the state of models."""
    return {CONFIG_FILE: _policy(owner, spec, _routes(spec)).to_json()}


def sidecar_files(owner: Owner, spec: ModelRouterSpec) -> dict[str, str]:
    """Return the configuration file of a gateway sidecar: it has no routes, the engine chooses."""
    return {CONFIG_FILE: _policy(owner, spec, RoutesConfig()).to_json()}


def _policy(owner: Owner, spec: ModelRouterSpec, routes: RoutesConfig) -> GatewayConfig:
    return GatewayConfig(
        router=owner.name,
        namespace=owner.namespace,
        models=tuple(
            RoutedName(
                name=model.name,
                llama_model=model.model_ref.name if model.model_ref else "",
                provider=model.provider or "",
                model=model.model or "",
                aliases=tuple(model.aliases or ()),
                max_tokens=model.max_tokens,
            )
            for model in spec.models or ()
        ),
        providers=tuple(map(_provider, spec.providers or ())),
        model_labels=dict(spec.model_selector.match_labels) if spec.model_selector else {},
        routes=routes,
        fallbacks={name: tuple(names) for name, names in (spec.fallbacks or {}).items()},
        reads_pdfs=spec.documents is None or spec.documents.pdf != "Refuse",
        **_hold(spec),
    )


def _provider(provider: Provider) -> ProviderConfig:
    limit = {"max_concurrent": provider.max_concurrent} if provider.max_concurrent else {}
    return ProviderConfig(
        name=provider.name,
        protocol=provider.protocol,
        base_url=provider.base_url,
        has_key=provider.api_key_secret_ref is not None,
        **limit,
    )


def _routes(spec: ModelRouterSpec) -> RoutesConfig:
    if spec.routes is None:
        return RoutesConfig()
    models_by_route = {
        name: model for name, model in vars(spec.routes).items() if name != "long_context"
    }
    long = spec.routes.long_context
    if long is None:
        return RoutesConfig(**models_by_route)
    threshold = {"threshold_tokens": long.threshold_tokens} if long.threshold_tokens else {}
    return RoutesConfig(**models_by_route, long_context=LongContext(model=long.model, **threshold))


def _hold(spec: ModelRouterSpec) -> dict[str, float]:
    """Return the durations of spec.hold in seconds, without those that the spec leaves out."""
    hold = spec.hold
    durations = {
        "hold_seconds": hold and hold.timeout,
        "ping_seconds": hold and hold.ping_interval,
    }
    return {name: seconds(duration) for name, duration in durations.items() if duration}


def pod(
    owner: Owner, spec: ModelRouterSpec, defaults: Defaults, config_name: str
) -> dict[str, Any]:
    """Return the gateway's container and its volumes."""
    return {
        "containers": [_container(spec, defaults)],
        "volumes": volumes(spec, config_name, with_keys=True),
    }


def _container(spec: ModelRouterSpec, defaults: Defaults) -> dict[str, Any]:
    port: dict[str, Any] = {"name": "http", "containerPort": PORT, "protocol": "TCP"}
    if spec.host_port:
        port["hostPort"] = spec.host_port
    return {
        **_process(spec, (spec.pod and spec.pod.image) or defaults.gateway_image),
        "args": _arguments(spec, PORT, *(("--keys", KEYS_FOLDER) if spec.auth else ())),
        "ports": [port],
        "readinessProbe": probe("/readyz", port="http", period=2, failures=1),
        "livenessProbe": probe("/healthz", port="http", period=10, failures=6),
        "resources": resources(spec, _RESOURCES),
        "volumeMounts": [*_mounts(spec), *([_mount("keys", KEYS_FOLDER)] if spec.auth else [])],
    }


def gateway_sidecar(spec: ModelRouterSpec, defaults: Defaults) -> dict[str, Any]:
    """Return the gateway as a native sidecar: its API on loopback, its probes on the pod's IP."""
    started = probe("/healthz", port="admin", period=1, failures=60)
    return {
        **_process(spec, defaults.gateway_image),
        "restartPolicy": "Always",
        "args": _arguments(
            spec, INNER_PORT, "--host", "127.0.0.1", "--admin-port", str(ADMIN_PORT)
        ),
        "ports": [{"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"}],
        "startupProbe": started,
        "readinessProbe": probe("/readyz", port="admin", period=2, failures=1),
        "livenessProbe": probe("/healthz", port="admin", period=10, failures=6),
        "resources": {side: dict(amounts) for side, amounts in _RESOURCES.items()},
        "volumeMounts": [*_mounts(spec), _mount("token", _TOKEN_FOLDER)],
    }


def _process(spec: ModelRouterSpec, image: str) -> dict[str, Any]:
    """Return the fields that the gateway's container has both alone and as a sidecar."""
    return {
        "name": "gateway",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [
            {
                "name": "POD_NAME",
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
            }
        ],
        "securityContext": security(),
    }


def _arguments(spec: ModelRouterSpec, port: int, *more: str) -> list[str]:
    return [
        *("gateway", "--config", f"{CONFIG_FOLDER}/{CONFIG_FILE}", "--port", str(port)),
        *more,
        *(("--provider-keys", PROVIDER_KEYS_FOLDER) if _provider_keys(spec) else ()),
    ]


def _mounts(spec: ModelRouterSpec) -> list[dict[str, Any]]:
    keys = [_mount("provider-keys", PROVIDER_KEYS_FOLDER)] if _provider_keys(spec) else []
    return [_mount("config", CONFIG_FOLDER), *keys]


def volumes(spec: ModelRouterSpec, config_name: str, *, with_keys: bool) -> list[dict[str, Any]]:
    """Return the pod's volumes: the policy, and the keys of clients and providers, if any."""
    pod_volumes: list[dict[str, Any]] = [{"name": "config", "configMap": {"name": config_name}}]
    if spec.auth and with_keys:
        secret = spec.auth.secret_ref
        items = [{"key": key, "path": key} for key in secret.keys or ()]
        chosen = {"items": items} if items else {}
        pod_volumes.append({"name": "keys", "secret": {"secretName": secret.name, **chosen}})
    keys = _provider_keys(spec)
    if keys:
        pod_volumes.append({"name": "provider-keys", "projected": {"sources": keys}})
    return pod_volumes


def _provider_keys(spec: ModelRouterSpec) -> list[dict[str, Any]]:
    """Return the sources of a projected volume, with each provider's key in a file of its name.

    The keys are optional: a missing one affects its provider only, and the router still starts.
    """
    return [
        {
            "secret": {
                "name": provider.api_key_secret_ref.name,
                "items": [{"key": provider.api_key_secret_ref.key, "path": provider.name}],
                "optional": True,
            }
        }
        for provider in spec.providers or ()
        if provider.api_key_secret_ref
    ]


def _mount(name: str, folder: str) -> dict[str, Any]:
    return {"name": name, "mountPath": folder, "readOnly": True}


def resources(spec: ModelRouterSpec, ours: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Return a container's resources: `ours`, overridden by those of spec.pod.resources."""
    extra = spec.pod.resources if spec.pod else None
    overrides = {
        "requests": (extra and extra.requests) or {},
        "limits": (extra and extra.limits) or {},
    }
    return {
        side: {**default, **{key: canonical_quantity(q) for key, q in overrides[side].items()}}
        for side, default in ours.items()
    }


def probe(path: str, *, port: str, period: int, failures: int) -> dict[str, Any]:
    """Return an HTTP probe with a timeout of 2 s; `period` is in seconds."""
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
    }

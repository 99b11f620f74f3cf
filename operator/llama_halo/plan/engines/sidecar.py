"""The common parts of the engines other than the gateway: their container and the gateway sidecar.

Clients talk to the engine. Its only upstream is a gateway on loopback, which wakes models, holds
and limits requests, reaches providers, falls back, and corrects llama-server's answers. The gateway
is a native sidecar: it is ready before the engine starts and ends after it.
"""

from __future__ import annotations

from typing import Any

from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.contract.gateway_config import MIN_KEY_BYTES
from llama_halo.contract.model import DRAINED_PATH
from llama_halo.plan.engines import gateway
from llama_halo.plan.engines.engine import CONFIG_FOLDER, PORT, route_models
from llama_halo.plan.facts import Defaults, Owner

UPSTREAM = f"http://127.0.0.1:{gateway.INNER_PORT}"
NO_KEY = "llama-halo"
"""A placeholder: engines need a key for each upstream, and the gateway sidecar checks none."""
_TMP = "/tmp"  # noqa: S108  (a volume of the pod's own)
_CHECK = (
    f"""case "$key" in *['"\\\\$']*) bad=1;; *) bad=0;; esac;"""
    f' if [ $bad = 1 ] || [ "${{#key}}" -lt {MIN_KEY_BYTES} ]; then'
    " echo 'an entry of the Secret that spec.auth.secretRef names is no key: it needs at least"
    f" {MIN_KEY_BYTES} bytes, and no quote, backslash or dollar sign' >&2; exit 1; fi"
)


def selector_refusal(spec: ModelRouterSpec, engine: str) -> str | None:
    """Refuse spec.modelSelector for an engine that reads its models only at start."""
    if spec.model_selector is None:
        return None
    return (
        f"engine {engine} cannot take spec.modelSelector: it reads its models only at start; list"
        " them under spec.models, or use engine gateway"
    )


def route_refusal(
    spec: ModelRouterSpec, engine: str, names: tuple[str, ...], reason: str
) -> str | None:
    """Refuse the first of the routes in `names` that a spec has: the engine has no rule for it."""
    unsupported = next((name for name in route_models(spec) if name in names), None)
    if unsupported is None:
        return None
    return (
        f"engine {engine} cannot route {unsupported}: {reason}; delete"
        f" spec.routes.{unsupported}, or use engine gateway"
    )


def keys_refusal(spec: ModelRouterSpec, engine: str, *, most: int | None) -> str | None:
    """Refuse a spec that does not name its API keys, or names more than `most`.

    The engine gets each key as an environment variable, and the operator reads no Secret.
    """
    if spec.auth is None:
        return None
    keys = spec.auth.secret_ref.keys or []
    if keys and (most is None or len(keys) <= most):
        return None
    expected = "the entries" if most is None else "exactly one entry"
    actual = f"{len(keys)} given" if keys else "none given"
    return (
        f"engine {engine} takes its API keys by name: name {expected} of Secret"
        f" {spec.auth.secret_ref.name} in spec.auth.secretRef.keys ({actual})"
    )


def key_variables(spec: ModelRouterSpec, names: list[str]) -> list[dict[str, Any]]:
    """Return environment variables with the API keys, in the order of spec.auth.secretRef.keys."""
    secret = spec.auth.secret_ref if spec.auth else None
    entries = (secret.keys or []) if secret else []
    return [
        {
            "name": name,
            "valueFrom": {"secretKeyRef": {"name": secret.name, "key": entry}},
        }
        for name, entry in zip(names, entries, strict=True)
        if secret
    ]


def guarded(command: list[str], keys: list[str]) -> list[str]:
    """Return a command that checks the keys and starts the engine only if all are valid.

    With an empty key, Claude Code Router would use a well-known one and llama-swap would ask for
    none.
    """
    references = " ".join(f'"${name}"' for name in keys)
    check = f"for key in {references}; do {_CHECK}; done; " if keys else ""
    return ["sh", "-c", f'{check}exec "$@"', "sh", *command]


def image(template: str, version: str, spec: ModelRouterSpec) -> str:
    """Return the engine's image: the spec's own, or the operator's for the version."""
    own = spec.pod and spec.pod.image
    return own or template.replace("{version}", version)


def container(
    spec: ModelRouterSpec,
    *,
    name: str,
    image: str,
    command: list[str],
    env: list[dict[str, Any]],
    health: str,
    memory: tuple[str, str],
) -> dict[str, Any]:
    """Return an engine's container; its preStop hook waits until no request is open."""
    request, limit = memory
    port: dict[str, Any] = {"name": "http", "containerPort": PORT, "protocol": "TCP"}
    if spec.host_port:
        port["hostPort"] = spec.host_port
    probe = gateway.probe(health, port="http", period=2, failures=1)
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": [{"name": "HOME", "value": _TMP}, *env],
        "ports": [port],
        "startupProbe": {**probe, "periodSeconds": 1, "failureThreshold": 300},
        "readinessProbe": {**probe, "timeoutSeconds": 5, "failureThreshold": 3},
        # An engine that hangs would otherwise wait for its own requests to end.
        "livenessProbe": {**probe, "periodSeconds": 10, "timeoutSeconds": 10}
        | {"failureThreshold": 6, "terminationGracePeriodSeconds": 30},
        # Engines abort open requests when they receive SIGTERM.
        "lifecycle": {
            "preStop": {
                "httpGet": {"path": DRAINED_PATH, "port": gateway.ADMIN_PORT, "scheme": "HTTP"}
            }
        },
        "resources": gateway.resources(
            spec,
            {
                "requests": {"cpu": "100m", "memory": request},
                "limits": {"memory": limit},
            },
        ),
        "securityContext": gateway.security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": _TMP},
        ],
    }


def pod(
    engine: dict[str, Any],
    owner: Owner,
    spec: ModelRouterSpec,
    defaults: Defaults,
    config_name: str,
) -> dict[str, Any]:
    """Return the containers and volumes of a pod with an engine and the gateway sidecar.

    Only the gateway gets the ServiceAccount's token and the providers' keys.
    """
    sidecar = gateway.gateway_sidecar(spec, defaults)
    return {
        "initContainers": [sidecar],
        "containers": [engine],
        "volumes": [
            *gateway.volumes(spec, config_name, with_keys=False),
            {"name": "tmp", "emptyDir": {}},
            gateway.token_volume(),
        ],
        "automountServiceAccountToken": False,
    }

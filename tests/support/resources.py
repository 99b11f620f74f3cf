"""LlamaModels and ModelRouters for fake nodes, their children, and waits for their state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from hack.testbed.operator_process import OperatorProcess
from tests.support.api import Api, eventually, ready

Json = dict[str, Any]
StartOperator = Callable[..., OperatorProcess]


MISTAKE = {"memory": {"gpu": "24", "host": "1Gi"}}
"""Of a spec: a unit was forgotten, which the operator alone can tell."""


def model(namespace: str, name: str = "coder", **spec: Any) -> dict[str, Any]:
    """Return a LlamaModel that fits a fake node."""
    base = {
        "source": {"local": {"path": "x.gguf"}},
        "contextSize": 4096,
        "memory": {"gpu": "10Gi", "host": "1Gi"},
        # No server is behind these pods: whatever answers at their addresses is somebody else.
        "verify": {"toolCalling": "Off"},
    }
    return {
        "apiVersion": "llama-halo.dev/v1alpha1",
        "kind": "LlamaModel",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**base, **spec},
    }


def router(namespace: str, name: str = "main", **spec: Any) -> dict[str, Any]:
    """Return a ModelRouter of one model."""
    base = {"models": [{"name": "coder", "modelRef": {"name": "coder"}}]}
    return {
        "apiVersion": "llama-halo.dev/v1alpha1",
        "kind": "ModelRouter",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**base, **spec},
    }


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def wait_ready(
    api: Api, namespace: str, name: str, *, kind: str = "LlamaModel", seconds: float = 15
) -> Json:
    """Wait until a resource is Ready=True and return it."""

    return eventually(
        lambda: api.get(kind, namespace, name),
        until=lambda value: ready(value)[0] == "True",
        seconds=seconds,
        description=f"{kind} {name} ready",
    )


def wait_state(
    api: Api,
    namespace: str,
    name: str,
    reason: str,
    *,
    kind: str = "LlamaModel",
    seconds: float = 15,
) -> Json:
    """Wait until a resource shows a reason and return it."""

    return eventually(
        lambda: api.get(kind, namespace, name),
        until=lambda value: ready(value)[1] == reason,
        seconds=seconds,
        description=f"{kind} {name} {reason}",
    )


def deployments(api: Api, namespace: str, name: str = "coder") -> list[Json]:
    return api.list("Deployment", namespace, f"llama-halo.dev/model={name}")


def pods(api: Api, namespace: str, label: str = "llama-halo.dev/model") -> list[Json]:
    return api.list("Pod", namespace, label)


def uids(api: Api, namespace: str, label: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods(api, namespace, label)}

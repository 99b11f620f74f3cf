"""A LlamaModel and a ModelRouter that a real node without a GPU can run."""

from __future__ import annotations

from typing import Any

from hack.testbed import images, llama_server
from tests.support.kubectl import (
    Json,
)


def smollm2(name: str, **spec: Any) -> Json:
    """Return a LlamaModel of the small model on the CPU."""
    base = {
        "source": {"local": {"path": f"smollm2/{llama_server.MODEL_FILE}"}},
        "backend": "CPU",
        "contextSize": 2048,
        "threads": 1,
        "promptCacheMiB": 0,
        "memory": {"host": "1Gi"},
        "image": images.SERVER_IMAGE,
        "command": ["llama-server"],
        "pod": {"resources": {"requests": {"cpu": "100m"}}},
        # It would share the node's two cores with what is tested.
        "verify": {"toolCalling": "Off"},
    }
    return {
        "apiVersion": "llama-halo.dev/v1alpha1",
        "kind": "LlamaModel",
        "metadata": {"name": name},
        "spec": {**base, **spec},
    }


def router(**spec: Any) -> Json:
    """Return a ModelRouter of two models."""
    base = {
        "models": [
            {"name": "one", "modelRef": {"name": "one"}, "aliases": ["claude-*"]},
            {"name": "two", "modelRef": {"name": "two"}},
        ],
        "routes": {"default": "one"},
    }
    return {
        "apiVersion": "llama-halo.dev/v1alpha1",
        "kind": "ModelRouter",
        "metadata": {"name": "main"},
        "spec": {**base, **spec},
    }

"""Specs with one thing that the strictest restrictions forbid, and what the refusal says."""

from __future__ import annotations

from typing import Any

from llama_halo.plan.restrictions import Restrictions

Json = dict[str, Any]
STRICT = Restrictions(
    privileged=False,
    images=("ghcr.io/ggml-org/", "docker.io/kyuz0/"),
    store_paths=("/var/lib/llama-halo",),
    service_accounts=False,
    secret_prefix="llama-halo-",
    http_keys=False,
)
"""As deploy/operator/restrictions.yaml has them."""
MODEL: Json = {"source": {"local": {"path": "a.gguf"}}, "contextSize": 4096, "backend": "CPU"}
ROUTER: Json = {
    "models": [{"name": "coder", "modelRef": {"name": "coder"}}],
    "routes": {"default": "coder"},
}
URL = "http://models.example.com/a.gguf"
FOREIGN = {"name": "team-a-keys"}
OWN = {"name": "llama-halo-keys"}
TOKEN = {
    "huggingFace": {"repo": "a/b", "file": "c.gguf", "tokenSecretRef": {**FOREIGN, "key": "t"}}
}
HEADERS = {"http": {"url": URL.replace("http:", "https:"), "headersSecretRef": FOREIGN}}
BY_HTTP = {"http": {"url": URL, "headersSecretRef": OWN}}


def provider(url: str, secret: Json) -> Json:
    """Return a router's providers: one, with a key."""
    key = {"apiKeySecretRef": {**secret, "key": "k"}}
    return {"providers": [{"name": "p", "protocol": "OpenAI", "baseURL": url, **key}]}


FORBIDDEN: dict[str, tuple[str, Json, str]] = {
    "a privileged pod by default": ("LlamaModel", {"backend": "Vulkan"}, "no privileged pods"),
    "a privileged pod by name": (
        "LlamaModel",
        {"backend": "ROCm", "devices": {"privileged": {}}},
        "no privileged pods",
    ),
    "an image": (
        "LlamaModel",
        {"image": "evil/shell:1", "command": ["sh"]},
        "only images that begin with ghcr.io/ggml-org/, docker.io/kyuz0/",
    ),
    "a directory": (
        "LlamaModel",
        {"store": {"hostPath": {"path": "/etc"}}},
        "only /var/lib/llama-halo and directories below",
    ),
    "a directory with a name alike": (
        "LlamaModel",
        {"store": {"hostPath": {"path": "/var/lib/llama-halo-2"}}},
        "only /var/lib/llama-halo and directories below",
    ),
    "an account": (
        "LlamaModel",
        {"pod": {"serviceAccountName": "editor"}},
        "no ServiceAccounts",
    ),
    "a Secret in env": (
        "LlamaModel",
        {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {**FOREIGN, "key": "k"}}}]},
        "only Secrets whose names begin with llama-halo-",
    ),
    "a Secret with a token": (
        "LlamaModel",
        {"source": TOKEN},
        "only Secrets whose names begin with llama-halo-",
    ),
    "a Secret with headers": (
        "LlamaModel",
        {"source": HEADERS},
        "only Secrets whose names begin with llama-halo-",
    ),
    "a Secret of a projector": (
        "LlamaModel",
        {"projector": {"source": HEADERS}},
        "only Secrets whose names begin with llama-halo-",
    ),
    "a Secret of a draft": (
        "LlamaModel",
        {"draft": {"model": {"source": TOKEN}}},
        "only Secrets whose names begin with llama-halo-",
    ),
    "a Secret of an adapter": (
        "LlamaModel",
        {"adapters": [{"name": "sql", "source": TOKEN}]},
        "only Secrets whose names begin with llama-halo-",
    ),
    "a header over http": ("LlamaModel", {"source": BY_HTTP}, "no key over http"),
    "a router's image": (
        "ModelRouter",
        {"pod": {"image": "evil/gateway:1"}},
        "only images that begin with",
    ),
    "a router's account": (
        "ModelRouter",
        {"pod": {"serviceAccountName": "editor"}},
        "no ServiceAccounts",
    ),
    "a router's keys": (
        "ModelRouter",
        {"auth": {"secretRef": FOREIGN}},
        "only Secrets whose names begin with llama-halo-",
    ),
    "a provider's key": (
        "ModelRouter",
        provider("https://api.example.com/v1", FOREIGN),
        "only Secrets whose names begin with llama-halo-",
    ),
    "a provider's key over http": (
        "ModelRouter",
        provider("http://api.example.com/v1", OWN),
        "no key over http",
    ),
}
ALLOWED: dict[str, tuple[str, Json]] = {
    "a model on the CPU": ("LlamaModel", {}),
    "a device plugin": (
        "LlamaModel",
        {"backend": "Vulkan", "devices": {"resource": {"name": "amd.com/gpu"}}},
    ),
    "a named image and directory": (
        "LlamaModel",
        {
            "image": "ghcr.io/ggml-org/llama.cpp:server",
            "command": ["/app/llama-server"],
            "store": {"hostPath": {"path": "/var/lib/llama-halo/models"}},
        },
    ),
    "Secrets for it": (
        "LlamaModel",
        {"source": {"http": {"url": URL.replace("http:", "https:"), "headersSecretRef": OWN}}},
    ),
    "a URL over http without a key": ("LlamaModel", {"source": {"http": {"url": URL}}}),
    "a router with keys for it": (
        "ModelRouter",
        {"auth": {"secretRef": OWN}, **provider("https://api.example.com/v1", OWN)},
    ),
    "a provider over http without a key": (
        "ModelRouter",
        {"providers": [{"name": "p", "protocol": "Ollama", "baseURL": "http://box:11434"}]},
    ),
}


def spec_of(kind: str, changes: Json) -> Json:
    """Return a whole spec with the changes."""
    return {**(MODEL if kind == "LlamaModel" else ROUTER), **changes}

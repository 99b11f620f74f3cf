"""What stands for services elsewhere: a router of its own before a real model. It speaks the three
protocols, wants a key, and knows its model by whatever name it is asked for."""

from __future__ import annotations

from typing import Any

from tests.support.kubectl import Kubectl
from tests.support.manifests import router, smollm2

Json = dict[str, Any]
KEY = "the-key-of-the-service"
NAME = "elsewhere"
PODS = f"llama-halo.dev/router={NAME}"
URL = f"http://{NAME}-router:8080"
URLS = {"OpenAI": f"{URL}/v1", "Anthropic": URL, "Ollama": URL}


def secret(name: str, **entries: str) -> Json:
    """Return a Secret."""
    metadata = {"name": name}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": entries}


def applied(kube: Kubectl) -> None:
    """Apply the service and wait until it answers."""
    expected = [{"name": NAME, "modelRef": {"name": NAME}, "aliases": ["*"]}]
    auth = {"secretRef": {"name": NAME, "keys": ["customer"]}}
    kube.apply(secret(NAME, customer=KEY))
    brief = ["--grammar", 'root ::= "Yes."']  # so small a model would not end by itself
    kube.apply(smollm2(NAME, contextSize=8192, memory={"host": "2Gi"}, extraArgs=brief))
    manifest = router(models=expected, routes={"default": NAME}, auth=auth)
    kube.apply({**manifest, "metadata": {"name": NAME}})
    kube.wait_ready(f"llamamodel/{NAME}", f"modelrouter/{NAME}")


def with_stand_ins(kube: Kubectl, resource: Json) -> Json:
    """Return a ModelRouter whose providers are this service, and put its key into their Secrets."""
    providers = [
        {**provider, "baseURL": URLS[provider["protocol"]]}
        for provider in resource["spec"]["providers"]
    ]
    for provider in providers:
        if live := provider.get("apiKeySecretRef"):
            kube.apply(secret(live["name"], **{live["key"]: KEY}))
    return {**resource, "spec": {**resource["spec"], "providers": providers}}

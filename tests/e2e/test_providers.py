"""Models elsewhere, on a real node: a service of each protocol, its key, and its outages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import provider
from tests.support.agents import claude
from tests.support.api import eventually
from tests.support.kubectl import Kubectl
from tests.support.manifests import router, smollm2

Json = dict[str, Any]
PROTOCOLS = tuple(provider.URLS)
CHAT: Json = {"max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}
APIS: dict[str, Json] = {
    "/v1/messages": CHAT,
    "/v1/chat/completions": CHAT,
    "/v1/responses": {"input": "hi", "max_output_tokens": 8},
    "/api/chat": {"messages": CHAT["messages"], "options": {"num_predict": 8}},
}


def provider_entry(protocol: str, name: str) -> Json:
    """Return the service by one of its protocols; the Secret has the provider's name."""
    return {
        "name": name,
        "protocol": protocol,
        "baseURL": provider.URLS[protocol],
        "apiKeySecretRef": {"name": name, "key": "key"},
    }


@pytest.fixture(scope="module", autouse=True)
def providers_applied(kube: Kubectl) -> Iterator[None]:
    """A router with a model of the cluster, and a provider of each protocol; one without a key."""
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")
    provider.applied(kube)
    for protocol in PROTOCOLS:
        kube.apply(provider.secret(protocol.lower(), key=provider.KEY))
    kube("delete", "secret", "keyless", "--ignore-not-found")
    kube.apply(smollm2("one"))
    models = [
        {"name": entry, "provider": entry.lower(), "model": f"x-{entry}"} for entry in PROTOCOLS
    ]
    models += [
        {"name": "one", "modelRef": {"name": "one"}},
        {"name": "covered", "provider": "anthropic", "model": "x"},
        {"name": "keyless", "provider": "keyless", "model": "x"},
    ]
    providers = [provider_entry(entry, entry.lower()) for entry in PROTOCOLS]
    providers.append(provider_entry("OpenAI", "keyless"))
    routes = {"default": "Anthropic", "background": "one"}
    fallbacks = {"covered": ["one"]}
    kube.apply(router(models=models, providers=providers, routes=routes, fallbacks=fallbacks))
    kube.wait_ready("llamamodel/one", "modelrouter/main")
    yield
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")


@pytest.fixture(scope="module")
def url(kube: Kubectl, providers_applied: None) -> Iterator[str]:
    with kube.forwarded("service/main-router") as value:
        yield value


def asked_of(kube: Kubectl) -> list[str]:
    """Return the names that the service was asked for, in order."""
    logs = kube("logs", "-l", provider.PODS, "-c", "gateway", "--tail=-1")
    lines = [json.loads(line) for line in logs.splitlines() if line.startswith("{")]
    return [
        line["requested_model"] for line in lines if line["message"] == "request" and line["model"]
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
def test_a_model_elsewhere_answers_a_client_of_every_api(
    kube: Kubectl, url: str, protocol: str, streams: bool
) -> None:
    before = len(asked_of(kube))
    for path, body in APIS.items():
        asked = {**body, "model": protocol, "stream": streams}
        answer = httpx.post(f"{url}{path}", json=asked, timeout=60)
        assert answer.status_code == 200, (path, answer.text)
        assert answer.headers["x-model"] == protocol
        assert streams != answer.headers["content-type"].startswith("application/json")
    expected = [f"x-{protocol}"] * len(APIS)
    eventually(
        lambda: asked_of(kube)[before:] == expected, seconds=10, description="its log tells of them"
    )


def test_claude_code_works_with_a_model_elsewhere(kube: Kubectl, url: str, tmp_path: Path) -> None:
    before = len(asked_of(kube))
    claude(url, "say hi", "--tools", "Read", home=tmp_path, ANTHROPIC_MODEL="claude-opus-5")
    eventually(lambda: set(asked_of(kube)[before:]) == {"x-Anthropic"}, seconds=10)


def test_a_key_that_is_missing_is_one_providers_trouble_until_it_comes(
    kube: Kubectl, url: str
) -> None:
    body = {**CHAT, "model": "keyless"}
    refused = httpx.post(f"{url}/v1/messages", json=body, timeout=60)
    assert refused.status_code == 502
    assert "provider keyless" in refused.text
    pods = kube.pod_uids("llama-halo.dev/router=main")
    kube.apply(provider.secret("keyless", key=provider.KEY))
    eventually(
        lambda: httpx.post(f"{url}/v1/messages", json=body, timeout=60).status_code,
        until=lambda status: status == 200,
        seconds=150,
        description="the kubelet brings the key",
    )
    assert kube.pod_uids("llama-halo.dev/router=main") == pods


def test_when_the_service_is_gone_the_fallback_answers(kube: Kubectl, url: str) -> None:
    kube("delete", "modelrouter", provider.NAME, "--wait=true")
    # A pod on its way out still answers who has a connection to it.
    kube("wait", "--for=delete", "pods", "-l", provider.PODS, "--timeout=90s")
    covered = httpx.post(f"{url}/v1/messages", json={**CHAT, "model": "covered"}, timeout=60)
    assert (covered.status_code, covered.headers["x-model"]) == (200, "one")
    bare = httpx.post(f"{url}/v1/messages", json={**CHAT, "model": "Anthropic"}, timeout=60)
    assert bare.status_code == 503
    assert "provider anthropic cannot be reached" in bare.text
    provider.applied(kube)

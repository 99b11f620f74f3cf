"""Providers, as the files of several systems name them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from llama_halo.importers.result import ImportResult, Json, Note, SettingOutcome
from llama_halo.importers.secrets import without_secrets

_HERE = (
    "localhost",
    "127.0.0.1",
    "0.0.0.0",
    "::1",
    "host.docker.internal",
    "host.containers.internal",
)
_ENDINGS = ("/chat/completions", "/messages", "/completions", "/responses")


def here(address: str) -> int | None:
    """Return the port of an address on this machine, None for any other address or none."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return None
    if parts.hostname not in _HERE:
        return None
    return port or (443 if parts.scheme == "https" else 80)


def base_url(address: str, protocol: str) -> str:
    """Return a provider's baseURL for the address in another system's file."""
    text = address.partition("?")[0].rstrip("/")
    for ending in _ENDINGS:
        text = text.removesuffix(ending)
    text = text.rstrip("/")
    return text if protocol == "OpenAI" else text.removesuffix("/v1")


def provider_at(result: ImportResult, name: str, address: str, *, protocol: str, key: bool) -> str:
    """Add a provider, unless the same one exists, and return its name."""
    stem = re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip("-.") or "provider"
    url = base_url(without_secrets(address), protocol)
    label, number = stem, 2
    while True:
        provider: Json = {"name": label, "protocol": protocol, "baseURL": url}
        if key:
            provider["apiKeySecretRef"] = {"name": label, "key": "key"}
        existing = result.providers.get(label)
        if existing is None:
            break
        if existing == provider:
            return label
        label, number = f"{stem}-{number}", number + 1
    result.providers[label] = provider
    _ask(result, label, address, url, key=key)
    return label


def _ask(result: ImportResult, label: str, address: str, url: str, *, key: bool) -> None:
    def ask(text: str) -> None:
        result.notes.append(Note(f"provider {label}", SettingOutcome.TODO, text))

    if key:
        ask(f"kubectl create secret generic {label} --from-literal=key=… (its API key)")
    if without_secrets(address) != address:
        ask("its address had a secret in it: put that into a Secret, apiKeySecretRef names it")
    if here(url) is not None:
        ask(f"{url} is this machine, which in a pod is the pod: give an address that pods reach")
    if "googleapis.com" in url and "/openai" not in url:
        ask("it speaks Google's own protocol: give its address for OpenAI's, which ends in /openai")
    if ".azure.com" in url:
        ask("it wants api-version in each request, which is not sent: check whether it answers")

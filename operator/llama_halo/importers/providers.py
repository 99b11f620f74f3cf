"""Services elsewhere, as the files of several systems name them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from llama_halo.importers.found import Found, Note, Verdict

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
    """Return the port of an address on this machine, None for one elsewhere."""
    parts = urlsplit(address)
    if parts.hostname not in _HERE:
        return None
    return parts.port or (443 if parts.scheme == "https" else 80)


def base_url(address: str, protocol: str) -> str:
    """Return what a provider's baseURL is for the address that another system has."""
    text = address.partition("?")[0].rstrip("/")
    for ending in _ENDINGS:
        text = text.removesuffix(ending)
    text = text.rstrip("/")
    return text if protocol == "OpenAI" else text.removesuffix("/v1")


def provider_at(found: Found, name: str, address: str, *, protocol: str, key: bool) -> str:
    """Add a provider and return what it is called here."""
    label = re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip("-.") or "provider"
    provider = {"name": label, "protocol": protocol, "baseURL": base_url(address, protocol)}
    if key:
        found.notes.append(
            Note(
                f"provider {label}",
                Verdict.TODO,
                f"kubectl create secret generic {label} --from-literal=key=…",
            )
        )
        found.providers[label] = {**provider, "apiKeySecretRef": {"name": label, "key": "key"}}
    else:
        found.providers[label] = provider
    return label

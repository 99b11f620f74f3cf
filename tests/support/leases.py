"""Leases of models on demand, as a gateway writes and reads them."""

from __future__ import annotations

from tests.support.api import Api

PHASE = "llama-halo.dev/phase"


def say(api: Api, namespace: str, text: str, name: str = "coder") -> str:
    """Write a gateway's entry and return the phase of the reply, as a gateway does."""
    patch = {"metadata": {"annotations": {"gateway.llama-halo.dev/test": text}}}
    reply = api.patch("Lease", namespace, f"llama-halo-{name}", patch)
    return str(reply["metadata"]["annotations"].get(PHASE, ""))


def phase(api: Api, namespace: str, name: str = "coder") -> str:
    """Return the phase that the operator wrote on a model's Lease, empty without one."""
    lease = api.get("Lease", namespace, f"llama-halo-{name}") or {"metadata": {}}
    return str(lease["metadata"].get("annotations", {}).get(PHASE, ""))

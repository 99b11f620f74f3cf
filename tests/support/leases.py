"""Leases of models on demand, as a gateway writes and reads them."""

from __future__ import annotations

from tests.support.api import Api, eventually

PHASE = "llama-halo.dev/phase"


def say(api: Api, namespace: str, text: str, name: str = "coder") -> str:
    """Write a gateway's entry and return the phase of the reply, as a gateway does."""
    patch = {"metadata": {"annotations": {"gateway.llama-halo.dev/test": text}}}
    reply = api.patch("Lease", namespace, f"llama-halo-{name}", patch)
    return str(reply["metadata"]["annotations"].get(PHASE, ""))


def say_and_be_heard(api: Api, namespace: str, text: str, name: str = "coder") -> None:
    """Write a gateway's entry, and wait until the operator has seen it.

    The entry comes with a wrong label, which the operator corrects when it sees the Lease. Leases
    and models are two watches: without waiting, an edit of the model may overtake the entry.
    """
    labels = {"app.kubernetes.io/instance": "another"}
    annotations = {"gateway.llama-halo.dev/test": text}
    patch = {"metadata": {"annotations": annotations, "labels": labels}}
    api.patch("Lease", namespace, f"llama-halo-{name}", patch)

    def is_corrected() -> bool:
        lease = api.get("Lease", namespace, f"llama-halo-{name}") or {"metadata": {}}
        return lease["metadata"].get("labels", {}) | labels != lease["metadata"].get("labels", {})

    eventually(is_corrected, description="the operator corrects the Lease's label")


def phase(api: Api, namespace: str, name: str = "coder") -> str:
    """Return the phase that the operator wrote on a model's Lease, empty without one."""
    lease = api.get("Lease", namespace, f"llama-halo-{name}") or {"metadata": {}}
    return str(lease["metadata"].get("annotations", {}).get(PHASE, ""))

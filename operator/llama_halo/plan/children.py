"""Names, labels and metadata of an owner's children."""

from __future__ import annotations

from typing import Any

from llama_halo.api import llamamodel, modelrouter
from llama_halo.contract.labels import API_VERSION, MANAGED_BY, MODEL, PART_OF, ROUTER
from llama_halo.plan.facts import Owner
from llama_halo.plan.hashing import content_hash

_OWNER_LABEL = {llamamodel.KIND: MODEL, modelrouter.KIND: ROUTER}
_NAME = {llamamodel.KIND: "llama-server", modelrouter.KIND: "model-router"}


def common_labels(owner: Owner) -> dict[str, str]:
    """Return the labels that every child carries; the cache finds the owner by them."""
    return {
        "app.kubernetes.io/name": _NAME[owner.kind],
        "app.kubernetes.io/instance": owner.name,
        "app.kubernetes.io/part-of": PART_OF,
        MANAGED_BY: PART_OF,
        _OWNER_LABEL[owner.kind]: owner.name,
    }


def selector_labels(owner: Owner) -> dict[str, str]:
    """Return the labels by which a Service selects the pods; they never change."""
    return {_OWNER_LABEL[owner.kind]: owner.name}


def child_metadata(owner: Owner, name: str) -> dict[str, Any]:
    """Return a child's metadata: name, labels, and the owner as controller."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": common_labels(owner),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": owner.kind,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
            }
        ],
    }


def deployment_name(model: str, node: str) -> str:
    """Return the name of a model's Deployment on a node."""
    return f"{model}-{content_hash(node, 5)}"


def router_name(router: str) -> str:
    """Return the name that a router's children begin with."""
    return f"{router}-router"

"""Names, labels and annotations of everything the operator makes."""

from __future__ import annotations

from typing import Any

from llama_halo.api import API_VERSION, GROUP, llamamodel, modelrouter
from llama_halo.plan.facts import Owner
from llama_halo.plan.hashing import content_hash

MANAGED_BY = "app.kubernetes.io/managed-by"
PART_OF = "llama-halo"
MODEL = f"{GROUP}/model"
ROUTER = f"{GROUP}/router"
DEPLOYMENT = f"{GROUP}/deployment"
FILES_OF = f"{GROUP}/files-of"
"""On the pods of a model's Jobs: with the model's own label its Service would select them."""
ROLE = f"{GROUP}/role"
WORK = f"{GROUP}/work"
REQUESTED_AT = f"{GROUP}/requested-at"
FLUX_REQUESTED_AT = "reconcile.fluxcd.io/requestedAt"
"""Flux's annotation for looking again; its value is a time or any other word."""
SOURCE = f"{GROUP}/source"
APPLIED = f"{GROUP}/applied"
CONFIG_HASH = f"{GROUP}/config-hash"
GPU_MIB = f"{GROUP}/gpu-mib"
HOST_MIB = f"{GROUP}/host-mib"
NODE = f"{GROUP}/node"
PHASE = f"{GROUP}/phase"
GATEWAY_PREFIX = f"gateway.{GROUP}/"
"""Of the annotations by which gateways say what they have in flight."""
GPU_MEMORY = f"{GROUP}/gpu-memory"
STRIX_HALO = f"{GROUP}/strix-halo"
GATEWAY_CLUSTER_ROLE = "llama-halo-gateway"

_OWNER_LABEL = {llamamodel.KIND: MODEL, modelrouter.KIND: ROUTER}
_NAME = {llamamodel.KIND: "llama-server", modelrouter.KIND: "model-router"}


def common(owner: Owner) -> dict[str, str]:
    """Return the labels that every child carries; the store finds the owner by them."""
    return {
        "app.kubernetes.io/name": _NAME[owner.kind],
        "app.kubernetes.io/instance": owner.name,
        "app.kubernetes.io/part-of": PART_OF,
        MANAGED_BY: PART_OF,
        _OWNER_LABEL[owner.kind]: owner.name,
    }


def selector(owner: Owner) -> dict[str, str]:
    """Return the labels by which a Service selects the pods; they never change."""
    return {_OWNER_LABEL[owner.kind]: owner.name}


def metadata(owner: Owner, name: str) -> dict[str, Any]:
    """Return a child's metadata: name, labels, and the owner as controller."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": common(owner),
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


def lease_name(model: str) -> str:
    """Return the name of the Lease by which a model is wanted."""
    return f"llama-halo-{model}"


def router_name(router: str) -> str:
    """Return the name that a router's children begin with."""
    return f"{router}-router"

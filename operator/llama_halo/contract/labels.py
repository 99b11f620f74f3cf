"""Names that several processes write or read on objects: API group, labels, annotations.

Those of a model's Lease are in `lease`.
"""

GROUP = "llama-halo.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
LLAMAMODELS, MODELROUTERS = "llamamodels", "modelrouters"
"""Plural names, for URLs."""

MANAGED_BY = "app.kubernetes.io/managed-by"
PART_OF = "llama-halo"
MODEL = f"{GROUP}/model"
ROUTER = f"{GROUP}/router"
DEPLOYMENT = f"{GROUP}/deployment"
FILES_OF = f"{GROUP}/files-of"
"""On the pods of a model's Jobs; with the model's own label, its Service would select them."""
ROLE = f"{GROUP}/role"
WORK = f"{GROUP}/work"
REQUESTED_AT = f"{GROUP}/requested-at"
FLUX_REQUESTED_AT = "reconcile.fluxcd.io/requestedAt"
"""Flux's annotation that requests a reconcile; its value is a time or any other string."""
SOURCE = f"{GROUP}/source"
APPLIED = f"{GROUP}/applied"
CONFIG_HASH = f"{GROUP}/config-hash"
GPU_MIB = f"{GROUP}/gpu-mib"
HOST_MIB = f"{GROUP}/host-mib"
NODE = f"{GROUP}/node"

GPU_MEMORY = f"{GROUP}/gpu-memory"
"""On a node: its budget of GPU memory, a quantity; set by the node agent or a person."""
STRIX_HALO = f"{GROUP}/strix-halo"
"""On a node: `true` on a Strix Halo machine; set by the node agent or a person."""
MACHINE = f"{GROUP}/machine"
"""On a node: the node agent's description of the machine, JSON."""

GATEWAY_CLUSTER_ROLE = "llama-halo-gateway"

"""The constraints of a LlamaModel on the nodes that it may run on."""

from __future__ import annotations

from llama_halo.api.llamamodel import Backend, LlamaModelSpec
from llama_halo.plan import server
from llama_halo.plan.facts import NodeConstraints


def node_constraints(spec: LlamaModelSpec) -> NodeConstraints:
    """Return the constraints on the nodes that the model may run on."""
    affinity = spec.pod.affinity if spec.pod else None
    return NodeConstraints(
        needs_gpu=server.backend_of(spec) is not Backend.CPU,
        node_selector=tuple(sorted(((spec.pod and spec.pod.node_selector) or {}).items())),
        tolerations=tuple((spec.pod and spec.pod.tolerations) or ()),
        node_affinity=affinity.node_affinity if affinity else None,
    )

"""The nodes that a model may run on and those that it prefers, and the affinity of its pods."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from llama_halo.api.affinity import Affinity, NodeAffinity, NodeRequirement, NodeTerm
from llama_halo.contract import labels
from llama_halo.plan.facts import NodeConstraints, NodeFacts, Taint

Json = dict[str, Any]
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"

# Labels that identify a Strix Halo node if spec.pod.nodeSelector is empty; any one suffices. Most
# of these machines have PCI class 0380, not 0300.
GPU_NODE_LABELS = (
    (labels.STRIX_HALO, "true"),
    ("feature.node.kubernetes.io/pci-0380_1002.present", "true"),
    ("feature.node.kubernetes.io/pci-0300_1002.present", "true"),
    ("amd.com/gpu.device-id", "1586"),
)


def matches(node_constraints: NodeConstraints, node: NodeFacts) -> bool:
    """Tell whether a node meets a model's constraints, regardless of memory."""
    if node_constraints.node_selector:
        chosen = all(node.labels.get(key) == value for key, value in node_constraints.node_selector)
    else:
        chosen = not node_constraints.needs_gpu or any(
            node.labels.get(key) == value for key, value in GPU_NODE_LABELS
        )
    return (
        chosen
        and meets_affinity(node_constraints.node_affinity, node)
        and all(_tolerated(node_constraints, taint) for taint in node.taints)
    )


def may_stay(node_constraints: NodeConstraints, node: NodeFacts) -> bool:
    """Tell whether a node's taints let a running pod stay.

    Only NoExecute ends it, as in Kubernetes. Labels and other taints count for new pods: when
    node-feature-discovery or a CNI agent restarts, a node lacks its labels or has a taint for
    seconds.
    """
    return all(
        _tolerated(node_constraints, taint) for taint in node.taints if taint.effect == "NoExecute"
    )


def constraints_digest(node_constraints: NodeConstraints) -> str:
    """Return a digest of a model's constraints, for the annotation of its Deployments."""
    affinity = node_constraints.node_affinity
    parts = (
        node_constraints.needs_gpu,
        node_constraints.node_selector,
        [toleration.model_dump_json() for toleration in node_constraints.tolerations],
        affinity.model_dump_json() if affinity else "",
    )
    return sha256(json.dumps(parts).encode()).hexdigest()[:10]


def meets_affinity(affinity: NodeAffinity | None, node: NodeFacts) -> bool:
    """Tell whether a node meets one of the required terms, as the scheduler reads them."""
    required = affinity.required if affinity else None
    return required is None or any(_meets(term, node) for term in required.node_selector_terms)


def preference(affinity: NodeAffinity, node: NodeFacts) -> int:
    """Return the sum of the weights of the preferred terms that a node meets."""
    preferred = affinity.preferred or ()
    return sum(term.weight for term in preferred if _meets(term.preference, node))


def pod_affinity(affinity: Affinity | None, node: str) -> Json:
    """Return a pod's affinity: that of the spec, restricted to the node that placement chose.

    A node must meet only one of the terms, so each of them names the node. The scheduler checks all
    of it again.
    """
    rules: Json = (
        affinity.model_dump(mode="json", by_alias=True, exclude_none=True) if affinity else {}
    )
    nodes: Json = rules.get("nodeAffinity", {})
    terms: Sequence[Json] = nodes.get(_REQUIRED, {}).get("nodeSelectorTerms") or ({},)
    pinned = [
        {**term, "matchFields": [_name_requirement(node), *term.get("matchFields", ())]}
        for term in terms
        # An empty term matches no node; with the node added, it would match that node.
        if term or len(terms) == 1
    ]
    return {**rules, "nodeAffinity": {**nodes, _REQUIRED: {"nodeSelectorTerms": pinned}}}


def candidates_affinity(node_constraints: NodeConstraints) -> Json:
    """Return the affinity of a pod that may run on every node on which the model may run; empty
    where the node selector says it all."""
    affinity = node_constraints.node_affinity
    required = affinity.required if affinity else None
    terms: list[Json] = (
        [
            term.model_dump(mode="json", by_alias=True, exclude_none=True)
            for term in required.node_selector_terms
        ]
        if required
        else [{}]
    )
    if node_constraints.needs_gpu and not node_constraints.node_selector:
        any_label = [
            {"key": key, "operator": "In", "values": [value]} for key, value in GPU_NODE_LABELS
        ]
        terms = [
            {**term, "matchExpressions": [*term.get("matchExpressions", ()), expression]}
            for term in terms
            for expression in any_label
        ]
    return {"nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": terms}}} if terms != [{}] else {}


def _name_requirement(node: str) -> Json:
    return {"key": "metadata.name", "operator": "In", "values": [node]}


def placed_on(pod_spec: Mapping[str, Any]) -> str:
    """Return the node that `pod_affinity` wrote into a pod's spec, empty when there is none."""
    rules = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    for term in (rules.get(_REQUIRED) or {}).get("nodeSelectorTerms", ()):
        for field in term.get("matchFields", ()):
            if field.get("operator") == "In" and len(field.get("values", ())) == 1:
                return str(field["values"][0])
    return ""


def _meets(term: NodeTerm, node: NodeFacts) -> bool:
    expressions, fields = term.match_expressions or (), term.match_fields or ()
    return bool(expressions or fields) and (
        all(_has(requirement, node) for requirement in expressions)
        and all((node.name in field.values) is (field.operator == "In") for field in fields)
    )


def _has(requirement: NodeRequirement, node: NodeFacts) -> bool:
    label, values = node.labels.get(requirement.key), requirement.values or ()
    match requirement.operator:
        case "In":
            return label in values
        case "NotIn":
            return label not in values
        case "Exists":
            return label is not None
        case "DoesNotExist":
            return label is None
    if len(values) != 1 or not _is_number(label) or not _is_number(values[0]):
        return False
    difference = int(str(label)) - int(values[0])
    return difference > 0 if requirement.operator == "Gt" else difference < 0


def _is_number(text: str | None) -> bool:
    return text is not None and re.fullmatch(r"[-+]?[0-9]{1,18}", text) is not None


def _tolerated(node_constraints: NodeConstraints, taint: Taint) -> bool:
    if taint.effect == "PreferNoSchedule":
        return True
    return any(
        (not toleration.effect or toleration.effect == taint.effect)
        and (
            (
                toleration.operator == "Exists"
                and (toleration.key is None or toleration.key == taint.key)
            )
            or (
                toleration.operator in (None, "Equal")
                and toleration.key == taint.key
                and (toleration.value or "") == taint.value
            )
        )
        for toleration in node_constraints.tolerations
    )

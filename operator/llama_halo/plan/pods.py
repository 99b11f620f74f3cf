"""What a person adds to pods, in the API server's own spelling; shared by both kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_halo.api.pod import PodOptions

_PLAIN = ("priority_class_name", "runtime_class_name", "service_account_name")


def pod_additions(options: PodOptions | None) -> dict[str, Any]:
    """Return the pod spec fields of the options; absent and empty ones are left out."""
    if options is None:
        return {}
    dumped = options.model_dump(by_alias=True, exclude_none=True)
    fields = ("nodeSelector", "tolerations", "affinity", "imagePullSecrets")
    names = [*fields, *(_alias(options, name) for name in _PLAIN)]
    return {name: dumped[name] for name in names if dumped.get(name)}


def pinned(node: str) -> dict[str, Any]:
    """Return the affinity to exactly one node, which the scheduler still has to agree to."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}
        }
    }


def pinned_to(pod_spec: Mapping[str, Any]) -> str:
    """Return the node that `pinned` names in a pod's spec, nothing when there is none."""
    rules = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = rules.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms", ()):
        for field in term.get("matchFields", ()):
            if field.get("key") == "metadata.name" and len(field.get("values", ())) == 1:
                return str(field["values"][0])
    return ""


def extra_labels(options: PodOptions | None) -> dict[str, str]:
    """Return the labels that a person adds to the pods."""
    return dict(options.labels or {}) if options else {}


def extra_annotations(options: PodOptions | None) -> dict[str, str]:
    """Return the annotations that a person adds to the pods."""
    return dict(options.annotations or {}) if options else {}


def _alias(options: PodOptions, name: str) -> str:
    return type(options).model_fields[name].alias or name

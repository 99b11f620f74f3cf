"""Converts spec.pod into fields, labels and annotations of pods, for both kinds."""

from __future__ import annotations

from typing import Any

from llama_halo.api.pod import PodOptions

_PLAIN = ("priority_class_name", "runtime_class_name", "service_account_name")


def pod_additions(options: PodOptions | None) -> dict[str, Any]:
    """Return the pod spec fields of the options; absent and empty ones are left out."""
    if options is None:
        return {}
    dumped = options.model_dump(mode="json", by_alias=True, exclude_none=True)
    fields = ("nodeSelector", "tolerations", "affinity", "imagePullSecrets")
    names = [*fields, *(_alias(options, name) for name in _PLAIN)]
    return {name: dumped[name] for name in names if dumped.get(name)}


def extra_labels(options: PodOptions | None) -> dict[str, str]:
    """Return the labels that a person adds to the pods."""
    return dict(options.labels or {}) if options else {}


def extra_annotations(options: PodOptions | None) -> dict[str, str]:
    """Return the annotations that a person adds to the pods."""
    return dict(options.annotations or {}) if options else {}


def _alias(options: PodOptions, name: str) -> str:
    return type(options).model_fields[name].alias or name

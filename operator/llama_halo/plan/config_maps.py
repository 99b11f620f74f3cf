"""Immutable ConfigMaps; their names contain a hash of their content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_halo.plan import children
from llama_halo.plan.facts import Owner


def config_map(owner: Owner, name: str, files: Mapping[str, str]) -> dict[str, Any]:
    """Return an immutable ConfigMap; the caller puts the hash into the name."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": children.child_metadata(owner, name),
        "immutable": True,
        "data": dict(files),
    }

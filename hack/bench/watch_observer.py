"""What the benchmark's own watches see: nothing of it is the operator's word."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class WatchObserver:
    """What the benchmark's own watches see."""

    deployments: dict[str, int] = field(default_factory=dict)
    """Generation by namespace/name, of the models' Deployments."""
    ready: set[str] = field(default_factory=set)
    changed_at: dict[str, float] = field(default_factory=dict)
    """When each model's Deployment last changed its generation, by namespace/name of the model."""
    event_at: dict[tuple[str, str], float] = field(default_factory=dict)
    """When an event of any kind last came, by kind and namespace/name."""

    def deployment(self, kind: str, obj: dict[str, Any]) -> None:
        metadata = obj["metadata"]
        name = f"{metadata['namespace']}/{metadata['name']}"
        if not metadata["name"].startswith("model-"):
            return
        self.event_at["Deployment", name] = time.monotonic()
        if kind == "DELETED":
            self.deployments.pop(name, None)
        elif self.deployments.get(name) != metadata["generation"]:
            self.deployments[name] = metadata["generation"]
            self.changed_at[name.rpartition("-")[0]] = time.monotonic()

    def model(self, kind: str, obj: dict[str, Any]) -> None:
        name = f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"
        self.event_at["LlamaModel", name] = time.monotonic()
        conditions = obj.get("status", {}).get("conditions", ())
        serving = any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in conditions
        )
        if serving and kind != "DELETED":
            self.ready.add(name)
        else:
            self.ready.discard(name)

"""Nodes and what models ask of them, for tests of the placement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llama_halo.contract.lease import Phase
from llama_halo.plan.facts import ModelUsage, NodeFacts, Presence, ResourceDemand

HALO = {"llama-halo.dev/strix-halo": "true"}
IDLE = ModelUsage(phase=Phase.LOADED, idle_seconds=100, resident_seconds=100)
BUSY = ModelUsage(phase=Phase.LOADED, busy=True, resident_seconds=100)


def node(name: str, gib: int = 120, **more: object) -> NodeFacts:
    """Return a Strix Halo node, 8 GiB of whose memory no GPU takes."""
    facts = NodeFacts(
        name=name, allocatable_mib=gib * 1024, gpu_budget_mib=(gib - 8) * 1024, labels=HALO
    )
    return replace(facts, **more)  # type: ignore[arg-type]


def presence(
    current: Mapping[str, Sequence[str]],
    running: Mapping[str, frozenset[str]] | None = None,
    **more: Mapping[str, Any],
) -> dict[str, Presence]:
    """Return where models are, from one mapping by model for each field."""
    fields = {"current": current, "running": running or {}, **more}
    models = {model for by_model in fields.values() for model in by_model}
    return {
        model: Presence(
            **{name: by_model[model] for name, by_model in fields.items() if model in by_model}
        )
        for model in models
    }


def wants(model: str, gib: int, replicas: int = 1, **more: object) -> ResourceDemand:
    """Return what a model asks for, on the GPU."""
    demand = ResourceDemand(
        model=model, replicas=replicas, gpu_mib=gib * 1024, host_mib=1024, needs_gpu=True
    )
    return replace(demand, **more)  # type: ignore[arg-type]

"""The placement key: gathers all demands, decides, and wakes the models whose place changed."""

from __future__ import annotations

import time

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.cluster.resources import LLAMAMODEL
from llama_halo.cluster.store import Object, key_of
from llama_halo.plan.facts import Demand
from llama_halo.plan.llamamodel import admissible, demand
from llama_halo.plan.outcome import Invalid
from llama_halo.plan.placement import place
from llama_halo.reconcile.context import PLACEMENT, Context
from llama_halo.reconcile.gather import (
    current_nodes,
    held,
    identity,
    node_facts,
    patience_ends,
    running_nodes,
)
from llama_halo.reconcile.validate import validate, version_of

INTERVAL_SECONDS = 0.5


def wake_placement(context: Context) -> None:
    """Ask for a decision: at once, or half a second after the last one."""
    due = context.placed_at + INTERVAL_SECONDS - time.monotonic()
    context.queue.add(PLACEMENT, after_seconds=max(due, 0.0))


def place_all(context: Context) -> float | None:
    """Decide where every model runs; a model whose assignment changed is reconciled.

    Returns after how many seconds to decide again although nothing may happen: when a node that
    is not ready will have been so for too long.
    """
    context.placed_at = time.monotonic()
    store = context.store
    wanted = {
        key_of(cr): found
        for cr in _by_age(store.all(LLAMAMODEL.kind))
        if (found := demand_of(context, cr))
    }
    decided = place(
        list(wanted.values()),
        node_facts(store, gpu_reserve_mib=context.settings.gpu_reserve_mib),
        current={found.model: current_nodes(store, key) for key, found in wanted.items()},
        running={found.model: running_nodes(store, key) for key, found in wanted.items()},
        held=held(store),
    )
    for key, found in wanted.items():
        assignment = decided[found.model]
        if context.assignments.get(key) != assignment:
            context.assignments[key] = assignment
            context.queue.add(key)
    for key in context.assignments.keys() - wanted.keys():
        del context.assignments[key]
    return patience_ends(store)


def demand_of(context: Context, cr: Object) -> Demand | None:
    """Return what a model asks of the nodes, None when it may not ask; once a generation."""
    if "deletionTimestamp" in cr["metadata"]:
        return None
    key, version = key_of(cr), version_of(cr)
    cached = context.demands.get(key)
    if cached is None or cached[0] != version:
        spec = validate(LlamaModelSpec, cr, context.specs)
        asks = None if isinstance(spec, Invalid) or not admissible(spec) else spec
        cached = (version, demand(identity(cr), asks) if asks else None)
        context.demands[key] = cached
    return cached[1]


def _by_age(crs: list[Object]) -> list[Object]:
    def age(cr: Object) -> tuple[str, str, str]:
        metadata = cr["metadata"]
        return metadata["creationTimestamp"], metadata["namespace"], metadata["name"]

    return sorted(crs, key=age)

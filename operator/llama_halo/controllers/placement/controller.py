"""Runs placement: gathers all demands, decides, and enqueues models whose assignment changed."""

from __future__ import annotations

import time

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract.lease import lease_name
from llama_halo.controllers.facts import owner_of
from llama_halo.controllers.file_facts import build_file_facts
from llama_halo.controllers.state import PLACEMENT, OperatorState
from llama_halo.controllers.validate import validate
from llama_halo.kube.cache import Key, Object, key_of
from llama_halo.kube.resources import LLAMAMODEL
from llama_halo.plan.facts import (
    FETCH,
    FileFacts,
    MemoryReservation,
    NodeFacts,
    Presence,
    ResourceDemand,
    Sizing,
)
from llama_halo.plan.llamamodel import demand
from llama_halo.plan.outcome import Invalid
from llama_halo.plan.placement import place
from llama_halo.plan.sizing import sizing_of

INTERVAL_SECONDS = 0.5
SHARE_OF_TIME = 0.1
"""The most CPU time that decisions may take: with thousands of models, one blocks for long."""
MAX_INTERVAL_SECONDS = 5.0


def note_lease(state: OperatorState, key: Key, lease: Object | None) -> bool:
    """Record a Lease; tell whether placement has to run again."""
    model = _model_of(key)
    return (
        model is not None
        and state.placement.lease_activity.note(model, lease)
        and _is_on_demand(state, model)
    )


def _is_on_demand(state: OperatorState, model: Key) -> bool:
    """Tell whether a model is on demand: a model that only rolls when idle has a Lease, too.

    A model without a known demand counts as on demand.
    """
    model_demand = state.placement.demands.get(model)
    return model_demand is None or model_demand.on_demand is not None


def _model_of(lease: Key) -> Key | None:
    """Return the key of the model to which a Lease belongs, None for other Leases."""
    name = lease.name.removeprefix(lease_name(""))
    if name == lease.name:
        return None
    return Key(LLAMAMODEL.kind, lease.namespace, name)


def refresh_demand(state: OperatorState, key: Key) -> None:
    """Update a model's demand and enqueue the model, after a change outside the cache."""
    if update_demand(state, key, state.cache.get(key)):
        request_placement(state)
    state.queue.add(key)


def update_demand(state: OperatorState, key: Key, cr: Object | None) -> bool:
    """Compute a model's sizing and demand; tell whether the demand changed."""
    placement, before, after = state.placement, state.placement.demands.get(key), None
    spec = validate(LlamaModelSpec, cr, state.specs, state.settings.restrictions) if cr else None
    is_deleted = cr is None or "deletionTimestamp" in cr["metadata"]
    if cr is None or spec is None or isinstance(spec, Invalid):
        placement.sizings.pop(key, None)
    else:
        files = build_file_facts(state, cr)
        placement.sizings[key] = sizing = sizing_of(spec, files)
        after = None if is_deleted else _demand(state, cr, spec, files, sizing)
    if is_deleted:
        placement.demands.pop(key, None)
    else:
        placement.demands[key] = after
    return before != after


def request_placement(state: OperatorState) -> None:
    """Enqueue placement: at once, or at `not_before` if that is later."""
    due = state.placement.not_before - time.monotonic()
    state.queue.add(PLACEMENT, after_seconds=max(due, 0.0))


def run_placement(state: OperatorState) -> float | None:
    """Decide where every model runs; enqueue the models whose assignment changed, and unloads.

    Returns the seconds until the decision may change by time alone: a node has been NotReady for
    too long, or a model has been idle for long enough. None if there is no such time.
    """
    started, worked = time.monotonic(), time.thread_time()
    state.placement.not_before = started + INTERVAL_SECONDS
    cache, reservations = state.cache, state.placement.reservations
    demands = {
        key_of(cr): model_demand
        for cr in _by_age(cache.all(LLAMAMODEL.kind))
        if (model_demand := state.placement.demands.get(key_of(cr)))
    }
    nodes = state.placement.nodes.facts()
    held = reservations.held()
    decided = place(
        list(demands.values()),
        nodes,
        presence={
            model_demand.model: _presence(state, key) for key, model_demand in demands.items()
        },
        held=held,
        usage={
            model_demand.model: state.placement.lease_activity.usage(key)
            for key, model_demand in demands.items()
            if model_demand.on_demand
        },
    )
    for key, model_demand in demands.items():
        assignment = decided.assignments[model_demand.model]
        if model_demand.model in decided.unload:
            state.placement.unload_queue.add(key)
        if state.placement.assignments.get(key) != assignment:
            state.placement.assignments[key] = assignment
            state.queue.add(key)
    for key in state.placement.assignments.keys() - demands.keys():
        del state.placement.assignments[key]
    _publish(state, nodes, held)
    pause = (time.thread_time() - worked) / SHARE_OF_TIME
    pause = min(max(pause, INTERVAL_SECONDS), MAX_INTERVAL_SECONDS)
    state.placement.not_before = started + pause
    times = (
        state.placement.nodes.next_grace_end_seconds(),
        state.placement.refusals.next_end_seconds(),
        decided.recheck_seconds,
    )
    return min((seconds for seconds in times if seconds is not None), default=None)


def _presence(state: OperatorState, key: Key) -> Presence:
    reservations, refusals = state.placement.reservations, state.placement.refusals
    refused = reservations.refused_nodes(key)
    refusals.note(key, refused)
    return Presence(
        current=reservations.current_nodes(key),
        running=reservations.running_nodes(key),
        refused=refused,
        avoided=refusals.of_late(key),
        chosen_by=reservations.chosen_by(key),
    )


def _demand(
    state: OperatorState,
    cr: Object,
    spec: LlamaModelSpec,
    files: FileFacts,
    sizing: Sizing | Invalid | None,
) -> ResourceDemand | None:
    """Return a model's demand, None when it must not get a node (yet)."""
    key = key_of(cr)
    if files.chat_template.problem and not _has_begun(state, key, files):
        return None
    return demand(owner_of(cr), spec, files, sizing, scope=state.settings.placement_scope)


def _has_begun(state: OperatorState, key: Key, files: FileFacts) -> bool:
    """Tell whether a model runs or a Job fetches its files.

    A model for which neither is true waits for its chat template first.
    """
    return state.placement.reservations.is_to_run(key) or any(
        job.work == FETCH for job in files.jobs
    )


def _publish(state: OperatorState, nodes: list[NodeFacts], held: list[MemoryReservation]) -> None:
    sums = {node.name: 0 for node in nodes}
    for reservation in held:
        if reservation.node in sums:
            sums[reservation.node] += reservation.gpu_mib
    state.metrics.set_node_memory(
        {node.name: (node.gpu_budget_mib, sums[node.name]) for node in nodes}
    )


def _by_age(crs: list[Object]) -> list[Object]:
    def age(cr: Object) -> tuple[str, str, str]:
        metadata = cr["metadata"]
        return metadata["creationTimestamp"], metadata["namespace"], metadata["name"]

    return sorted(crs, key=age)

"""One table of what each change of the cache triggers.

The cache's listener only adds to `OperatorState.changes`; `handle` runs the table's rows for one
change. Some rows keep an index that placement reads, so they run for our own writes, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from llama_halo.contract.labels import FILES_OF
from llama_halo.controllers.placement import controller as placement
from llama_halo.controllers.pollers import downloads, pod_creation
from llama_halo.controllers.state import OperatorState
from llama_halo.kube.cache import Key, Object, key_of, owner_key
from llama_halo.kube.changes import Change
from llama_halo.kube.resources import JOB, LEASE, LLAMAMODEL, MODELROUTER, NODE, POD

log = logging.getLogger(__name__)

_DEPLOYMENT = "Deployment"


@dataclass(frozen=True)
class Trigger:
    """One row: what to do when an object of these kinds changed."""

    kinds: frozenset[str] | None
    """None: any kind."""
    apply: Callable[[OperatorState, Change, Object | None], None]
    on_own_writes: bool
    """Also run for changes that are replies to our own writes."""


def _row(
    *kinds: str,
    apply: Callable[[OperatorState, Change, Object | None], None],
    on_own_writes: bool = False,
) -> Trigger:
    return Trigger(frozenset(kinds) if kinds else None, apply, on_own_writes)


def _enqueue_owners(state: OperatorState, change: Change, _: Object | None) -> None:
    for owner in change.owners:
        state.queue.add(owner)


def _enqueue_self(state: OperatorState, change: Change, _: Object | None) -> None:
    state.queue.add(change.key)


def _enqueue_routers(state: OperatorState, change: Change, _: Object | None) -> None:
    enqueue_routers(state, change.key)


def _update_demand(state: OperatorState, change: Change, cr: Object | None) -> None:
    if placement.update_demand(state, change.key, cr):
        placement.request_placement(state)


def _update_owner_demand(state: OperatorState, change: Change, obj: Object | None) -> None:
    """Update the owner's demand: a Job or its pod may have a result. A deletion changes none."""
    if obj is None or (obj["kind"] == POD.kind and not _is_of_files(obj)):
        return
    changed = [placement.update_demand(state, key, state.cache.get(key)) for key in change.owners]
    if any(changed):
        placement.request_placement(state)


def _update_node(state: OperatorState, change: Change, node: Object | None) -> None:
    placement.request_placement(state)
    state.placement.nodes.note(change.key, node)


def _update_lease_activity(state: OperatorState, change: Change, lease: Object | None) -> None:
    if placement.note_lease(state, change.key, lease):
        placement.request_placement(state)


def _update_reservation(state: OperatorState, change: Change, obj: Object | None) -> None:
    is_counted = change.key.kind == POD.kind or _is_own_child(state, obj)
    if state.placement.reservations.note(change.key, obj if is_counted else None):
        placement.request_placement(state)


def _update_rollout_turn(state: OperatorState, change: Change, deployment: Object | None) -> None:
    own = deployment if _is_own_child(state, deployment) else None
    for model in state.placement.rollout_turns.note(change.key, own):
        state.queue.add(model)


def _queue_creation_poll(state: OperatorState, _: Change, obj: Object | None) -> None:
    if obj is not None:
        pod_creation.enqueue_creation_poll(state, obj)


def _queue_download_poll(state: OperatorState, _: Change, pod: Object | None) -> None:
    if pod is not None:
        downloads.enqueue_download_poll(state, pod)


def _is_own_child(state: OperatorState, deployment: Object | None) -> bool:
    """Tell whether a Deployment is controlled by a LlamaModel that exists, by its uid.

    Labels and names are not enough: whoever may create Deployments in a namespace may write them.
    """
    owner = owner_key(deployment) if deployment else None
    cr = state.cache.get(owner) if owner else None
    if deployment is None or cr is None:
        return False
    return any(
        reference.get("controller") and reference.get("uid") == cr["metadata"]["uid"]
        for reference in deployment["metadata"].get("ownerReferences") or ()
    )


TRIGGERS = (
    # Keep what placement reads up to date.
    _row(LLAMAMODEL.kind, apply=_update_demand, on_own_writes=True),
    _row(JOB.kind, POD.kind, apply=_update_owner_demand, on_own_writes=True),
    _row(NODE.kind, apply=_update_node, on_own_writes=True),
    _row(LEASE.kind, apply=_update_lease_activity, on_own_writes=True),
    _row(POD.kind, _DEPLOYMENT, apply=_update_reservation, on_own_writes=True),
    _row(_DEPLOYMENT, apply=_update_rollout_turn, on_own_writes=True),
    # Enqueue the keys to reconcile.
    _row(LLAMAMODEL.kind, MODELROUTER.kind, apply=_enqueue_self),
    _row(apply=_enqueue_owners),
    _row(LLAMAMODEL.kind, apply=_enqueue_routers),
    # Enqueue the objects to poll.
    _row(POD.kind, JOB.kind, apply=_queue_creation_poll),
    _row(POD.kind, apply=_queue_download_poll),
)


def listen(state: OperatorState) -> None:
    """Add every change of the cache to the feed."""

    def add(key: Key, owners: frozenset[Key], is_own_write: bool) -> None:
        state.changes.add(Change(key, owners, is_own_write))

    state.cache.listen(add)


def handle(state: OperatorState, change: Change) -> None:
    """Run every row of the table that matches a change, with the object's current version.

    A row that fails does not keep the others from running. A resource that placement cannot read is
    therefore still enqueued, and its reconcile fails with backoff and a log line.
    """
    obj = state.cache.get(change.key)
    for trigger in TRIGGERS:
        if change.is_own_write and not trigger.on_own_writes:
            continue
        if trigger.kinds is None or change.key.kind in trigger.kinds:
            try:
                trigger.apply(state, change, obj)
            except Exception:
                row = trigger.apply.__name__.strip("_")
                log.exception("trigger failed", extra={"key": str(change.key), "trigger": row})
                state.metrics.record_rejection(change.key.kind)


def enqueue_after_write(state: OperatorState, cr: Object) -> None:
    """Enqueue a resource that we wrote, and its routers.

    The cache already holds the reply to our write, so its watch event changes nothing.
    """
    state.queue.add(key_of(cr))
    enqueue_routers(state, key_of(cr))


def enqueue_routers(state: OperatorState, key: Key) -> None:
    """Enqueue the routers of a LlamaModel's namespace: their status shows its state."""
    if key.kind == LLAMAMODEL.kind:
        for router in state.cache.in_namespace(MODELROUTER.kind, key.namespace):
            state.queue.add(key_of(router))


def changed_beyond_status(old: Object, new: Object) -> bool:
    """Tell whether an object differs in more than its status."""
    fields = ("generation", "labels", "annotations", "deletionTimestamp")
    return any(old["metadata"].get(field) != new["metadata"].get(field) for field in fields)


def _is_of_files(pod: Object) -> bool:
    return FILES_OF in (pod["metadata"].get("labels") or {})

"""Pods whose creation hangs, and Jobs that get none: why is only in their Events, so those are
read, and only then.

Polled on the pollers' queue, which has its own workers and a short timeout: what cannot be reached
must never slow a reconcile.
"""

from __future__ import annotations

from collections.abc import Sequence

from llama_halo.controllers.state import OperatorState
from llama_halo.kube.cache import Key, Object, key_of, owner_key
from llama_halo.kube.resources import EVENT, JOB, POD
from llama_halo.status.jobs import has_no_pod
from llama_halo.status.pods import in_creation

FIRST_POLL_SECONDS = 3
POLL_SECONDS = 30


def watch_creation(state: OperatorState, obj: Object) -> None:
    """Have a look at the Events of a pod or Job in a while, should it still hang then."""
    if _hangs(state, obj):
        state.pollers.queue.add(key_of(obj), after_seconds=FIRST_POLL_SECONDS)


async def poll(state: OperatorState, key: Key) -> float | None:
    """Read the Events of what hangs; its owner is reconciled when they say something new."""
    obj = state.cache.get(key)
    if obj is None or not _hangs(state, obj):
        state.pollers.creation_warnings.pop(key, None)
        return None
    uid = obj["metadata"]["uid"]
    events, _ = await state.cluster.list(
        EVENT, namespace=key.namespace, fields=f"regarding.uid={uid}"
    )
    warning = newest_warning(events)
    if state.pollers.creation_warnings.get(key, "") != warning:
        state.pollers.creation_warnings[key] = warning
        owner = owner_key(obj)
        if owner:
            state.queue.add(owner)
    return POLL_SECONDS


def _hangs(state: OperatorState, obj: Object) -> bool:
    if obj["kind"] == POD.kind:
        return in_creation(obj)
    return obj["kind"] == JOB.kind and has_no_pod(obj)


def newest_warning(events: Sequence[Object]) -> str:
    """Return what the newest Event says if it warns; a newer step, like Pulling, got past it."""

    def at(event: Object) -> str:
        series = event.get("series") or {}
        times = (
            series.get("lastObservedTime"),
            event.get("deprecatedLastTimestamp"),
            event.get("eventTime"),
        )
        return str(next((time for time in times if time), ""))

    of_kubelet = [event for event in events if event.get("reason") != "FailedScheduling"]
    newest = max(of_kubelet, key=at, default=None)
    if newest is None or newest.get("type") != "Warning":
        return ""
    return f"{newest.get('reason')}: {newest.get('note', '')}"[:500]

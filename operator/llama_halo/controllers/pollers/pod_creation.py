"""Reads the Events of pods stuck in creation and of Jobs without a pod: no status has the cause.

The polls run on the pollers' queue, which has its own workers and a short timeout, so that a
request without an answer never slows a reconcile.
"""

from __future__ import annotations

from collections.abc import Sequence

from llama_halo.controllers.state import OperatorState
from llama_halo.kube.cache import Key, Object, key_of, owner_key
from llama_halo.kube.resources import EVENT, JOB, POD
from llama_halo.status.jobs import has_no_pod
from llama_halo.status.pods import is_in_creation

FIRST_POLL_SECONDS = 3
POLL_SECONDS = 30


def enqueue_creation_poll(state: OperatorState, obj: Object) -> None:
    """Queue a poll of a pod in creation, or of a Job without a pod."""
    if _is_stuck(state, obj):
        state.pollers.queue.add(key_of(obj), after_seconds=FIRST_POLL_SECONDS)


async def poll(state: OperatorState, key: Key) -> float | None:
    """Read the Events of a stuck pod or Job; enqueue its owner when the newest warning changed."""
    obj = state.cache.get(key)
    if obj is None or not _is_stuck(state, obj):
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


def _is_stuck(state: OperatorState, obj: Object) -> bool:
    if obj["kind"] == POD.kind:
        return is_in_creation(obj)
    return obj["kind"] == JOB.kind and has_no_pod(obj)


def newest_warning(events: Sequence[Object]) -> str:
    """Return reason and note of the newest Event if it is a warning, else an empty text.

    A newer Event of another type, such as Pulling, means that the pod got past the warning. The
    scheduler's Events do not count.
    """

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

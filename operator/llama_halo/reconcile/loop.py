"""The front door: one key in, a cluster that is as the resource says out.

Data flows one way: CR -> validated spec -> facts -> plan (pure) -> apply and prune -> status
(pure) -> the one write to the CR. Called by the queue's workers, which catch what goes wrong.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from llama_halo.api.reasons import ConditionType
from llama_halo.cluster.apply import apply_status
from llama_halo.cluster.events import report_transition
from llama_halo.cluster.resources import LLAMAMODEL, MODELROUTER
from llama_halo.cluster.store import Key, Object, key_of
from llama_halo.errors import ClusterError, NotFound
from llama_halo.reconcile import models, routers
from llama_halo.reconcile.act import act, again_after
from llama_halo.reconcile.context import PLACEMENT, Context
from llama_halo.reconcile.placing import place_all
from llama_halo.reconcile.sync import is_news, wake
from llama_halo.status.conditions import condition, is_next_step

log = logging.getLogger(__name__)

GONE_SECONDS = 30
STEP_SECONDS = 1.0
_KINDS = {LLAMAMODEL.kind: models, MODELROUTER.kind: routers}


async def reconcile(context: Context, key: Key) -> float | None:
    """Work on one key; return after how many seconds to look again, None for only when woken."""
    if key == PLACEMENT:
        return place_all(context)
    cr = context.store.get(key)
    if cr is None or "deletionTimestamp" in cr["metadata"]:
        _forget(context, key)
        return None
    started = time.monotonic()
    kind = _KINDS[key.kind]
    outcome = kind.consider(context, cr)
    if outcome is None:
        return None  # placement has yet to decide, and wakes the key when it has
    try:
        applied, outcome = await act(context, cr, outcome)
        if applied.changed and key not in context.unreported:
            # Its status is told when the other keys that wait have had their turn: by then the
            # children say more, and of a thousand new models each has its children first.
            context.unreported.add(key)
            wake(context, cr)
            _log(cr, "Applied", applied.changed, started)
            return None
        context.unreported.discard(key)
        status = kind.derive(context, cr, outcome, applied, _now())
        pause = _pause_before_step(context, cr, status)
        reply = None if pause > 0 else await _tell(context, cr, status)
    except ClusterError as error:
        if "NamespaceTerminating" in error.causes or isinstance(error, NotFound):
            return GONE_SECONDS  # most likely it goes away, and is forgotten by then
        raise
    # Events of our own writes are no news to the store, whatever else they carry.
    if applied.changed or (reply and is_news(cr, reply)):
        wake(context, reply or cr)
    elif reply:
        routers.wake_routers(context, key)
    ready = condition(status, ConditionType.READY)
    context.metrics.reconciled(key, ready, time.monotonic() - started)
    _log(cr, ready["reason"], applied.changed + (["status"] if reply else []), started)
    return pause if pause > 0 else again_after(outcome, ready["reason"])


async def _tell(context: Context, cr: Object, status: Object) -> Object | None:
    """Post the Event of a transition, then write the status; return the reply if it differed."""
    await report_transition(context.cluster, cr, status, instance=context.settings.identity)
    reply = await apply_status(context.cluster, context.store, cr, status)
    if reply:
        context.told_at[key_of(cr)] = time.monotonic()
    return reply


def _pause_before_step(context: Context, cr: Object, status: Object) -> float:
    """Return for how many seconds to keep a status back.

    A start or roll goes through its steps faster than anybody reads: they are told at most once a
    second, which is half of all status writes when many models roll. All else is told at once.
    """
    if not is_next_step(cr.get("status") or {}, status):
        return 0.0
    return context.told_at.get(key_of(cr), 0.0) + STEP_SECONDS - time.monotonic()


def _forget(context: Context, key: Key) -> None:
    context.queue.forget(key)
    context.assignments.pop(key, None)
    context.metrics.forget(key)
    context.specs.pop(key, None)
    context.demands.pop(key, None)
    context.unreported.discard(key)
    context.told_at.pop(key, None)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _log(cr: Object, reason: str, changed: list[str], started: float) -> None:
    metadata = cr["metadata"]
    fields = {
        "kind": cr["kind"],
        "namespace": metadata["namespace"],
        "resource": metadata["name"],
        "generation": metadata.get("generation"),
        "outcome": reason,
        "changed": changed,
        "duration_ms": round((time.monotonic() - started) * 1000, 1),
    }
    log.log(logging.INFO if changed else logging.DEBUG, "reconciled", extra=fields)

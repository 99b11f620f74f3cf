"""Reconciles one key.

Data flows one way: CR -> validated spec -> facts -> plan -> apply and prune -> status -> the one
write to the CR. The queue's workers call `reconcile` and catch its exceptions.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from llama_halo.contract.reasons import ConditionType
from llama_halo.controllers import model, router
from llama_halo.controllers.apply_plan import apply_plan, requeue_after
from llama_halo.controllers.placement.controller import run_placement
from llama_halo.controllers.state import PLACEMENT, OperatorState
from llama_halo.controllers.triggers import (
    changed_beyond_status,
    enqueue_after_write,
    enqueue_routers,
)
from llama_halo.controllers.verification import enqueue_verification
from llama_halo.controllers.write_status import write_status
from llama_halo.errors import ClusterError, NotFound
from llama_halo.kube.cache import Key, Object
from llama_halo.kube.resources import BY_KIND, LLAMAMODEL, MODELROUTER
from llama_halo.status.conditions import condition

log = logging.getLogger(__name__)

GONE_SECONDS = 30
_KINDS = {LLAMAMODEL.kind: model, MODELROUTER.kind: router}


async def reconcile(state: OperatorState, key: Key) -> float | None:
    """Reconcile one key; return the seconds until the next run, None to wait for a change."""
    if key == PLACEMENT:
        return _run_placement(state)
    cr = state.cache.get(key)
    if cr is None or "deletionTimestamp" in cr["metadata"]:
        state.forget(key)
        return None
    started = time.monotonic()
    kind = _KINDS[key.kind]
    outcome = kind.build_plan(state, cr)
    if outcome is None:
        return None  # a poller or placement enqueues the key once it has what is missing
    try:
        applied, outcome = await apply_plan(state, cr, outcome)
        if applied.changed and key not in state.reporting.unreported:
            # Write the status after the keys that are already queued. By then the children report
            # more, and each of a thousand new models gets its children before the first status.
            state.reporting.unreported.add(key)
            enqueue_after_write(state, cr)
            _log(cr, "Applied", applied.changed, started)
            return None
        state.reporting.unreported.discard(key)
        status = kind.build_status(state, cr, outcome, applied, _now())
        reply, kept_back_seconds = await write_status(state, cr, status)
    except ClusterError as error:
        if await _is_gone(state, key, error):
            return GONE_SECONDS  # the watch has yet to report it
        raise
    if applied.changed or (reply and changed_beyond_status(cr, reply)):
        enqueue_after_write(state, reply or cr)
    elif reply:
        enqueue_routers(state, key)
    if kind is model:
        enqueue_verification(state, cr, status)
    ready = condition(status, ConditionType.READY)
    state.metrics.record_reconcile(key, ready, time.monotonic() - started)
    _log(cr, ready["reason"], applied.changed + (["status"] if reply else []), started)
    return kept_back_seconds or requeue_after(outcome, ready["reason"])


async def _is_gone(state: OperatorState, key: Key, error: ClusterError) -> bool:
    """Tell whether a write failed because the resource or its namespace is being deleted.

    A 404 may also mean that the API server does not serve a kind, so the resource is looked up.
    """
    if "NamespaceTerminating" in error.causes:
        return True
    if not isinstance(error, NotFound):
        return False
    resource, name = BY_KIND[key.kind], f"metadata.name={key.name}"
    live, _ = await state.cluster.list(resource, namespace=key.namespace, fields=name)
    return all("deletionTimestamp" in obj["metadata"] for obj in live)


def _run_placement(state: OperatorState) -> float | None:
    """Run placement; record since when it fails, until it succeeds."""
    if state.placement_fails_since is None:
        state.placement_fails_since = time.monotonic()
    delay = run_placement(state)
    state.placement_fails_since = None
    return delay


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

"""Unloads a model on demand, in steps that a gateway can stop at any moment.

1. Its Lease says `Unloading`, if nobody wrote there since it was judged idle: gateways that want
   the model from now on hold their requests.
2. Its server is asked for its slots: clients may have come past the gateways.
3. The Lease says `Idle`, if still nobody wrote there; then the plan has no pod for it.
"""

from __future__ import annotations

import logging
from typing import Any

from llama_halo.cluster.apply import MANAGER, with_applied_hash
from llama_halo.cluster.resources import LEASE
from llama_halo.cluster.store import Key, Object
from llama_halo.errors import Conflict
from llama_halo.plan import labels
from llama_halo.plan.facts import Phase
from llama_halo.plan.llamamodel import lease as lease_object
from llama_halo.plan.server import PORT
from llama_halo.reconcile.context import Context
from llama_halo.reconcile.gather import identity

log = logging.getLogger(__name__)

NO_SUCH_PAGE = (404, 501)
"""Answers of a server that was started without its list of slots."""


async def unload(context: Context, key: Key) -> float | None:
    """Take one model through the steps, from wherever it is."""
    phase = context.activity.phase(key)
    if phase is Phase.LOADED:
        if context.activity.usage(key).busy or not await _write(context, key, Phase.UNLOADING):
            return None  # somebody wants it: that is the news which placement is woken by
        phase = Phase.UNLOADING
    if phase is not Phase.UNLOADING:
        return None
    works = context.activity.usage(key).busy or await _works(context, key)
    # Asked again: a gateway's word that came meanwhile is known to the store, and no conflict.
    if works or context.activity.usage(key).busy or not await _write(context, key, Phase.IDLE):
        log.info("stays loaded: it is wanted", extra={"key": str(key)})
        await _write(context, key, Phase.LOADED, whatever=True)
    else:
        context.metrics.unloaded(key)
    return None


async def _write(context: Context, key: Key, phase: Phase, *, whatever: bool = False) -> bool:
    """Write a phase; tell whether that was possible: not when somebody wrote since we looked."""
    cr, live = context.store.get(key), context.store.get(lease_key(key))
    if cr is None or live is None:
        return False
    body = with_applied_hash(lease_object(identity(cr), phase))
    if not whatever:
        version = live["metadata"]["resourceVersion"]
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": version}}
    try:
        reply = await context.cluster.apply(LEASE, body, manager=MANAGER)
    except Conflict:
        return False
    context.store.observe(reply)
    return True


async def _works(context: Context, key: Key) -> bool:
    """Tell whether one of a model's servers works for somebody; one that does not say so does."""
    for pod in context.store.children(key, "Pod"):
        if not answers(pod):
            continue
        answer = await context.pods.get(pod["status"].get("podIP", ""), PORT, "/slots")
        if answer is not None and answer.status in NO_SUCH_PAGE:
            continue
        if answer is None:
            log.warning(
                "the server does not say whether it works, and counts as busy: may the operator"
                " reach it (NetworkPolicy)?",
                extra={"key": str(key), "pod": pod["metadata"]["name"]},
            )
        if answer is None or answer.status != 200 or is_processing(answer.body):
            context.activity.seen_busy(key)
            return True
    return False


def lease_key(model: Key) -> Key:
    """Return the key of a model's Lease."""
    return Key(LEASE.kind, model.namespace, labels.lease_name(model.name))


def answers(pod: Object) -> bool:
    """Tell whether a pod is one of a model's servers, and ready."""
    metadata, status = pod["metadata"], pod.get("status", {})
    ready = any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in status.get("conditions", ())
    )
    ours = labels.MODEL in (metadata.get("labels") or {})
    return ours and ready and "deletionTimestamp" not in metadata


def is_processing(slots: Any) -> bool:
    """Tell whether a list of slots has one at work; what is no list may have."""
    if not isinstance(slots, list):
        return True
    return any(isinstance(each, dict) and each.get("is_processing") for each in slots)

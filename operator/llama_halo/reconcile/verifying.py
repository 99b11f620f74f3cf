"""Tries whether a model that serves calls tools, while nobody uses it: once a configuration.

Work for a queue of its own: an answer takes seconds, and no reconcile waits for it.
"""

from __future__ import annotations

import logging

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.api.reasons import ConditionType, Reason
from llama_halo.cluster.store import Key, Object, key_of
from llama_halo.plan import labels
from llama_halo.plan.outcome import Invalid
from llama_halo.plan.server import PORT
from llama_halo.reconcile.context import Context
from llama_halo.reconcile.unloading import answers, is_processing
from llama_halo.reconcile.validate import validate
from llama_halo.status.conditions import condition
from llama_halo.status.verification import (
    PATH,
    Verification,
    is_wanted,
    judge,
    question,
    remembered,
)

log = logging.getLogger(__name__)

FIRST_LOOK_SECONDS = 1
BUSY_SECONDS = 30
AGAIN_SECONDS = 60
ANSWER_SECONDS = 120.0
MOST_TRIES = 3
"""Of a server that does not answer; the next roll, or start of the operator, begins anew."""


def watch_serving(context: Context, cr: Object, status: Object) -> None:
    """Try a model in a moment, if it serves and was not tried as it is."""
    if _is_due(context, cr, status):
        context.verifications.add(key_of(cr), after_seconds=FIRST_LOOK_SECONDS)


async def verify(context: Context, key: Key) -> float | None:
    """Try one model if nobody uses it; return after how many seconds to look again."""
    cr = context.store.get(key)
    if cr is None or not _is_due(context, cr, cr.get("status") or {}):
        return None
    config_hash = cr["status"]["configHash"]
    address = _address(context, key, config_hash)
    if not address:
        return None
    if context.activity.usage(key).busy:
        return BUSY_SECONDS
    slots = await context.pods.get(address, PORT, "/slots")
    if slots is not None and slots.status == 200 and is_processing(slots.body):
        return BUSY_SECONDS
    found = await _try(context, address, config_hash) if slots else None
    if found is None or found.reason == "NoAnswer":
        _, tried = context.tries.get(key, ("", 0))
        context.tries[key] = (config_hash, tried + 1)
        return AGAIN_SECONDS
    context.verified[key] = found
    context.queue.add(key)
    log.info(
        "tried whether the model calls tools",
        extra={"key": str(key), "tools": found.status, "reason": found.reason},
    )
    return None


async def _try(context: Context, address: str, config_hash: str) -> Verification | None:
    """Ask one server; None when it does not answer."""
    props = await context.pods.get(address, PORT, "/props")
    if props is None:
        return None
    answer = await context.pods.post(address, PORT, PATH, question(), seconds=ANSWER_SECONDS)
    known = props.body if isinstance(props.body, dict) else {}
    return judge(config_hash, known, answer.status, answer.body) if answer else None


def _is_due(context: Context, cr: Object, status: Object) -> bool:
    """Tell whether a model serves, is to be tried, and was not as it is now."""
    if condition(status, ConditionType.READY).get("reason") != Reason.SERVING:
        return False
    spec = validate(LlamaModelSpec, cr, context.specs)
    if isinstance(spec, Invalid) or not is_wanted(spec):
        return False
    key = key_of(cr)
    config_hash = status.get("configHash", "")
    known = [context.verified.get(key), remembered(status)]
    tried_hash, tried = context.tries.get(key, ("", 0))
    if tried_hash != config_hash:
        context.tries.pop(key, None)
    elif tried >= MOST_TRIES:
        return False
    return bool(config_hash) and not any(each and each.config_hash == config_hash for each in known)


def _address(context: Context, key: Key, config_hash: str) -> str:
    """Return where one of a model's current pods listens; nothing when none is ready."""
    for pod in context.store.children(key, "Pod"):
        annotations = pod["metadata"].get("annotations") or {}
        if answers(pod) and annotations.get(labels.CONFIG_HASH) == config_hash:
            return str(pod["status"].get("podIP", ""))
    return ""

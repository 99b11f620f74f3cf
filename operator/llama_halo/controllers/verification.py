"""Checks once per configuration whether a serving model calls tools, while nobody uses it.

The checks have a queue of their own: an answer takes seconds, and must not delay a reconcile.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract import labels
from llama_halo.contract.lease import Phase
from llama_halo.contract.reasons import ConditionType, Reason
from llama_halo.controllers.model_servers import is_busy, is_server
from llama_halo.controllers.state import Attempts, OperatorState
from llama_halo.controllers.validate import validate
from llama_halo.kube.cache import Key, Object, key_of
from llama_halo.plan.outcome import Invalid
from llama_halo.plan.server import PORT
from llama_halo.status.conditions import condition
from llama_halo.status.verification import (
    NO_ANSWER,
    PATH,
    Verification,
    evaluate,
    from_status,
    is_enabled,
    tool_call_request,
)

log = logging.getLogger(__name__)

FIRST_POLL_SECONDS = 1
BUSY_PAUSE_SECONDS, MAX_BUSY_PAUSE_SECONDS = 30, 600
"""The first and the longest pause; it doubles while a server does not report whether it is busy."""
RETRY_SECONDS = 60
ANSWER_SECONDS = 120.0
MAX_TRIES = 3
"""For one pod that answers the check with an error, or not at all."""


def enqueue_verification(state: OperatorState, cr: Object, status: Object) -> None:
    """Queue a check of a model that serves, unless its configuration has a result."""
    if _is_due(state, cr, status):
        state.verification.queue.add(key_of(cr), after_seconds=FIRST_POLL_SECONDS)


async def verify(state: OperatorState, key: Key) -> float | None:
    """Check one model if nobody uses it; return the seconds until the next attempt, or None."""
    cr = state.cache.get(key)
    if cr is None or not _is_due(state, cr, cr.get("status") or {}):
        state.verification.attempts.pop(key, None)
        return None
    config_hash = cr["status"]["configHash"]
    pod = _server(state, key, config_hash)
    if pod is None:
        return None  # the next pod that becomes ready triggers a reconcile, which queues a check
    attempts = state.verification.attempts.get(key, Attempts())
    if attempts.pod != pod["metadata"]["uid"]:
        attempts = Attempts(pod["metadata"]["uid"])
    pause = await _pause(state, key, pod, attempts)
    if pause:
        return pause
    verification = await _ask(state, _address(pod), config_hash)
    if verification.reason == NO_ANSWER:
        log.warning(
            "the check of tool calling got no answer",
            extra={"key": str(key), "pod": pod["metadata"]["name"], "reason": verification.message},
        )
        if attempts.failed + 1 < MAX_TRIES:
            state.verification.attempts[key] = replace(
                attempts.later(RETRY_SECONDS), failed=attempts.failed + 1
            )
            return RETRY_SECONDS
    state.verification.attempts.pop(key, None)
    state.verification.results[key] = verification
    state.queue.add(key)
    log.info(
        "tool calling checked",
        extra={"key": str(key), "tools": verification.status, "reason": verification.reason},
    )
    return None


async def _pause(state: OperatorState, key: Key, pod: Object, attempts: Attempts) -> float:
    """Return the seconds to wait because somebody uses the model or may use it, 0 to check now."""
    left = attempts.not_before - time.monotonic()
    if left > 0:
        return left
    usage = state.placement.lease_activity.usage(key)
    if usage.busy or usage.phase is Phase.UNLOADING:
        silent = 0
    else:
        slots = await state.pods.get(_address(pod), PORT, "/slots")
        if not is_busy(slots):
            return 0
        silent = 0 if slots else attempts.silent + 1
    pause = min(BUSY_PAUSE_SECONDS * 2.0**silent, MAX_BUSY_PAUSE_SECONDS)
    state.verification.attempts[key] = attempts.later(pause, silent=silent)
    return pause


async def _ask(state: OperatorState, address: str, config_hash: str) -> Verification:
    props = await state.pods.get(address, PORT, "/props")
    answer = props and await state.pods.post(
        address, PORT, PATH, tool_call_request(), seconds=ANSWER_SECONDS
    )
    if props is None or answer is None:
        message = f"the server did not answer the check within {ANSWER_SECONDS:.0f} s"
        return Verification(config_hash, "Unknown", NO_ANSWER, message)
    properties = props.body if isinstance(props.body, dict) else {}
    return evaluate(config_hash, properties, answer.status, answer.body)


def _is_due(state: OperatorState, cr: Object, status: Object) -> bool:
    """Tell whether a model serves, has the check enabled, and lacks a result for its
    configuration."""
    if condition(status, ConditionType.READY).get("reason") != Reason.SERVING:
        return False
    spec = validate(LlamaModelSpec, cr, state.specs, state.settings.restrictions)
    if isinstance(spec, Invalid) or not is_enabled(spec):
        return False
    config_hash = status.get("configHash", "")
    results = (state.verification.results.get(key_of(cr)), from_status(status))
    return bool(config_hash) and not any(
        result and result.config_hash == config_hash for result in results
    )


def _server(state: OperatorState, key: Key, config_hash: str) -> Object | None:
    """Return a ready pod of this configuration, None if there is none."""
    for pod in state.cache.children(key, "Pod"):
        annotations = pod["metadata"].get("annotations") or {}
        if is_server(pod) and annotations.get(labels.CONFIG_HASH) == config_hash:
            return pod
    return None


def _address(pod: Object) -> str:
    return str(pod["status"].get("podIP", ""))

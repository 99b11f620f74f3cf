"""Unloads a model on demand, in steps that a gateway can stop at any moment.

1. The unloader writes `Unloading` to the Lease, if nobody wrote there since the model was found
   idle. Gateways hold new requests from then on.
2. It asks the model's servers for their slots, because clients may bypass the gateways.
3. It writes `Idle`, if still nobody wrote to the Lease. The next plan has no pod for the model.
"""

from __future__ import annotations

import logging

from llama_halo.contract.lease import Phase, lease_name
from llama_halo.controllers.facts import owner_of
from llama_halo.controllers.model_servers import is_busy, is_server
from llama_halo.controllers.state import OperatorState
from llama_halo.errors import Conflict
from llama_halo.kube.apply import MANAGER, with_applied_hash
from llama_halo.kube.cache import Key
from llama_halo.kube.resources import LEASE
from llama_halo.plan.llamamodel import lease as lease_object
from llama_halo.plan.server import PORT

log = logging.getLogger(__name__)


async def unload(state: OperatorState, key: Key) -> float | None:
    """Take one model through the steps, from its current phase."""
    phase = state.placement.lease_activity.phase(key)
    if phase is Phase.LOADED:
        if state.placement.lease_activity.usage(key).busy or not await _write(
            state, key, Phase.UNLOADING
        ):
            return None  # somebody wants the model: the change of its Lease triggers placement
        phase = Phase.UNLOADING
    if phase is not Phase.UNLOADING:
        return None
    busy = state.placement.lease_activity.usage(key).busy or await _has_busy_server(state, key)
    # Check again: an entry that came meanwhile is in the cache already, so it causes no conflict.
    if (
        busy
        or state.placement.lease_activity.usage(key).busy
        or not await _write(state, key, Phase.IDLE)
    ):
        log.info("unload cancelled: the model is in use", extra={"key": str(key)})
        await _write(state, key, Phase.LOADED, whatever=True)
    else:
        state.metrics.record_unload(key)
    return None


async def _write(state: OperatorState, key: Key, phase: Phase, *, whatever: bool = False) -> bool:
    """Write a phase to the Lease; return False if somebody wrote there since the cached version.

    `whatever` writes regardless of the version. Also returns False without a model or a Lease.
    """
    cr, live = state.cache.get(key), state.cache.get(lease_key(key))
    if cr is None or live is None:
        return False
    body = with_applied_hash(lease_object(owner_of(cr), phase))
    if not whatever:
        version = live["metadata"]["resourceVersion"]
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": version}}
    try:
        reply = await state.cluster.apply(LEASE, body, manager=MANAGER)
    except Conflict:
        return False
    state.cache.observe(reply, is_own_write=True)
    return True


async def _has_busy_server(state: OperatorState, key: Key) -> bool:
    """Tell whether one of a model's servers is busy; record that as activity of its Lease."""
    for pod in state.cache.children(key, "Pod"):
        if not is_server(pod):
            continue
        answer = await state.pods.get(pod["status"].get("podIP", ""), PORT, "/slots")
        if answer is None:
            log.warning(
                "no answer to GET /slots: the server counts as busy and stays loaded; check that a"
                " NetworkPolicy lets the operator reach it",
                extra={"key": str(key), "pod": pod["metadata"]["name"]},
            )
        if is_busy(answer):
            state.placement.lease_activity.record_busy(key)
            return True
    return False


def lease_key(model: Key) -> Key:
    """Return the key of a model's Lease."""
    return Key(LEASE.kind, model.namespace, lease_name(model.name))

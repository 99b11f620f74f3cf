"""Polls PersistentVolumeClaims with model files: on which nodes their volumes can be used.

The claims belong to users and lack our label, so each is read by name, every minute while a model
uses it.
"""

from __future__ import annotations

import logging
from typing import Any

from llama_halo.controllers.file_facts import claim_key
from llama_halo.controllers.placement.controller import refresh_demand
from llama_halo.controllers.state import OperatorState
from llama_halo.errors import ClusterError
from llama_halo.kube.cache import Key, Object, key_of
from llama_halo.kube.resources import CLAIM, LLAMAMODEL, NODE, POD, VOLUME
from llama_halo.plan.facts import ClaimFacts

log = logging.getLogger(__name__)

POLL_SECONDS = 60
SELECTED_NODE = "volume.kubernetes.io/selected-node"
ONCE, ONCE_POD = "ReadWriteOnce", "ReadWriteOncePod"


async def poll(state: OperatorState, key: Key) -> float | None:
    """Read one claim; refresh the demand of the models that use it when its facts changed."""
    users = [
        key_of(cr)
        for cr in state.cache.in_namespace(LLAMAMODEL.kind, key.namespace)
        if claim_key(cr) == key
    ]
    if not users:
        state.pollers.claims.pop(key, None)
        return None
    facts = await _facts(state, key)
    if state.pollers.claims.get(key) != facts:
        state.pollers.claims[key] = facts
        for user in users:
            refresh_demand(state, user)
    return POLL_SECONDS


async def _facts(state: OperatorState, key: Key) -> ClaimFacts:
    try:
        claim = await state.cluster.get(CLAIM, key.namespace, key.name)
        by_volume = await _by_volume(state, claim)
    except ClusterError as error:
        # The scheduler reports the problem on the Job's pod.
        log.warning("claim not read", extra={"key": str(key), "reason": str(error)})
        return ClaimFacts()
    modes = set(claim["spec"].get("accessModes", ()))
    if ONCE_POD in modes:
        return ClaimFacts(once_pod=True)
    nodes = by_volume
    if nodes is None and modes <= {ONCE}:
        nodes = _by_use(state, key, claim)
    return ClaimFacts(nodes=nodes)


async def _by_volume(state: OperatorState, claim: Object) -> frozenset[str] | None:
    """Return the nodes that the volume's node affinity allows, None without such a restriction."""
    name = claim["spec"].get("volumeName")
    if not name:
        return None
    volume = await state.cluster.get(VOLUME, None, name)
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    if not required:
        return None
    return frozenset(
        node["metadata"]["name"]
        for node in state.cache.all(NODE.kind)
        if any(_matches(node, term) for term in required.get("nodeSelectorTerms", ()))
    )


def _by_use(state: OperatorState, key: Key, claim: Object) -> frozenset[str] | None:
    """Return the node to which a ReadWriteOnce volume is tied, None when it is not.

    Until the claim is bound, that is the node selected for provisioning; then the node of a pod
    that uses the claim. The annotation stays for ever, also when a volume can be attached
    anywhere, and when its node is gone.
    """
    selected = (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE)
    if selected and not claim["spec"].get("volumeName"):
        exists = state.cache.get(Key(NODE.kind, "", selected)) is not None
        return frozenset({selected}) if exists else None
    for pod in state.cache.in_namespace(POD.kind, key.namespace):
        ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        node = pod.get("spec", {}).get("nodeName")
        if node and not ended and key.name in _claims_of(pod):
            return frozenset({node})
    return None


def _claims_of(pod: Object) -> set[Any]:
    volumes = pod.get("spec", {}).get("volumes", ())
    return {(volume.get("persistentVolumeClaim") or {}).get("claimName") for volume in volumes}


def _matches(node: Object, term: Object) -> bool:
    node_labels, name = node["metadata"].get("labels") or {}, node["metadata"]["name"]
    return all(
        _meets(node_labels.get(expression["key"]), expression)
        for expression in term.get("matchExpressions", ())
    ) and all(_meets(name, expression) for expression in term.get("matchFields", ()))


def _meets(value: str | None, expression: Object) -> bool:
    """Tell whether a label meets one requirement; an unknown operator counts as met."""
    values = expression.get("values") or ()
    is_met: bool = {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }.get(expression["operator"], True)
    return is_met

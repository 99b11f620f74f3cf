"""Builds the facts for plans from the cache and the controllers' state, without requests."""

from __future__ import annotations

import time
from collections.abc import Iterable, Set
from datetime import datetime
from itertools import chain

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract import labels
from llama_halo.controllers.file_facts import build_file_facts
from llama_halo.controllers.placement.nodes import NOT_READY_GRACE_SECONDS
from llama_halo.controllers.state import OperatorState
from llama_halo.kube.cache import Object, key_of
from llama_halo.plan import chat_template
from llama_halo.plan.facts import (
    DeploymentFacts,
    ModelFacts,
    Owner,
    RouterFacts,
)
from llama_halo.plan.model_files import inspects_on_nodes
from llama_halo.plan.node_constraints import node_constraints
from llama_halo.plan.node_selection import matches
from llama_halo.status.modelrouter import ServedModel


def owner_of(cr: Object) -> Owner:
    """Return a resource's identity, as the owner of its children."""
    metadata = cr["metadata"]
    return Owner(
        kind=cr["kind"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
    )


def build_model_facts(state: OperatorState, cr: Object, spec: LlamaModelSpec) -> ModelFacts:
    """Gather the inputs of a LlamaModel's plan."""
    key = key_of(cr)
    annotations = cr["metadata"].get("annotations") or {}
    running_on, live = (
        state.placement.reservations.running_nodes(key),
        state.cache.children(key, "Deployment"),
    )
    deployments = tuple(_deployment(deployment, running_on) for deployment in live)
    nodes = [deployment.node for deployment in deployments]
    return ModelFacts(
        owner=owner_of(cr),
        defaults=state.settings.defaults(),
        assignment=state.placement.assignments.get(key),
        deployments=deployments,
        rolling_elsewhere=state.placement.rollout_turns.nodes_taken(key, nodes, state.cache),
        files=build_file_facts(state, cr),
        sizing=state.placement.sizings.get(key),
        requested_at=annotations.get(labels.FLUX_REQUESTED_AT, ""),
        phase=state.placement.lease_activity.phase(key),
        usage=state.placement.lease_activity.usage(key),
        awaited_seconds=time.monotonic() - state.placement.awaiting_idle.get(key, time.monotonic()),
        candidates=_candidates(state, spec) if inspects_on_nodes(spec) else (),
        referenced_configs=_mounted(
            chat_template.VOLUME,
            state.cache.children(key, "Pod"),
            [deployment["spec"]["template"] for deployment in live],
        ),
    )


def _candidates(state: OperatorState, spec: LlamaModelSpec) -> tuple[str, ...]:
    """Return the nodes that may run a model, regardless of free memory."""
    return tuple(
        node.name
        for node in state.placement.nodes.facts()
        if node.accepts_new_pods and matches(node_constraints(spec), node)
    )


def build_router_facts(
    state: OperatorState, cr: Object, models: Iterable[ServedModel]
) -> RouterFacts:
    """Gather the inputs of a ModelRouter's plan."""
    return RouterFacts(
        owner=owner_of(cr),
        defaults=state.settings.defaults(),
        models=frozenset(model.llama_model for model in models if not model.provider),
        referenced_configs=_mounted("config", state.cache.children(key_of(cr), "Pod")),
    )


def _mounted(volume: str, *pods: Iterable[Object]) -> frozenset[str]:
    """Return the names of the ConfigMaps that pods or pod templates have as the named volume."""
    return frozenset(
        volume_spec["configMap"]["name"]
        for pod in chain(*pods)
        for volume_spec in pod.get("spec", {}).get("volumes", ())
        if volume_spec.get("name") == volume and "configMap" in volume_spec
    )


def _deployment(deployment: Object, running_on: Set[str]) -> DeploymentFacts:
    metadata, spec = deployment["metadata"], deployment["spec"]
    status = deployment.get("status", {})
    replicas = spec.get("replicas", 0)
    annotations = spec["template"]["metadata"].get("annotations") or {}
    node = (metadata.get("annotations") or {}).get(labels.NODE, "")
    return DeploymentFacts(
        name=metadata["name"],
        node=node,
        config_hash=annotations.get(labels.CONFIG_HASH, ""),
        settled=status.get("observedGeneration", 0) >= metadata.get("generation", 0)
        and status.get("updatedReplicas", 0) == replicas
        and status.get("availableReplicas", 0) == replicas,
        runs=bool(replicas),
        answers=node in running_on and answers(status),
    )


def answers(status: Object) -> bool:
    """Tell whether a rolled-out Deployment is available, or was until less than a minute ago.

    A busy server may miss a probe and still answer its requests.
    """
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    available = conditions.get("Available")
    if (
        conditions.get("Progressing", {}).get("reason") != "NewReplicaSetAvailable"
        or available is None
    ):
        return False
    since = time.time() - datetime.fromisoformat(available["lastTransitionTime"]).timestamp()
    return available["status"] == "True" or since < NOT_READY_GRACE_SECONDS

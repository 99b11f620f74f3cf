"""LlamaModel -> one Deployment for each node it is placed on, and one Service for them all."""

from __future__ import annotations

from typing import Any

from llama_halo.api.llamamodel import Backend, LlamaModelSpec, Memory
from llama_halo.api.reasons import Reason
from llama_halo.plan import labels, server
from llama_halo.plan.facts import Demand, Identity, ModelFacts
from llama_halo.plan.hashing import content_hash
from llama_halo.plan.outcome import Invalid, Object, Outcome, Plan, Ref, Wait
from llama_halo.plan.pods import extra_annotations, extra_labels, pod_additions
from llama_halo.plan.quantity import mebibytes
from llama_halo.plan.supported import unsupported_in_model

LEAST_MIB = 16


def plan_llamamodel(spec: LlamaModelSpec, facts: ModelFacts) -> Outcome:
    """Decide what should exist for a LlamaModel."""
    if spec.suspend:
        return Wait(Reason.SUSPENDED, "suspended: no child is touched until spec.suspend is false")
    refusal = unsupported_in_model(spec) or _incomplete(spec)
    if refusal:
        return refusal
    assignment = facts.assignment
    if assignment is None:
        return Wait(Reason.SCHEDULING, "waiting for the placement's decision")
    waiting = assignment.reason and Wait(assignment.reason, assignment.message)
    if waiting and not assignment.nodes:
        return waiting
    return _plan(spec, facts, _target_nodes(spec, facts), waiting or None)


def demand(owner: Identity, spec: LlamaModelSpec) -> Demand:
    """Return what the model asks of the nodes."""
    pod = spec.pod
    return Demand(
        model=f"{owner.namespace}/{owner.name}",
        replicas=1 if spec.replicas is None else spec.replicas,
        gpu_mib=server.gpu_mib(spec),
        host_mib=server.host_mib(spec),
        needs_gpu=server.backend_of(spec) is not Backend.CPU,
        node_selector=tuple(sorted(((pod and pod.node_selector) or {}).items())),
        tolerations=tuple((pod and pod.tolerations) or ()),
    )


def admissible(spec: LlamaModelSpec) -> bool:
    """Tell whether the model may ask for a place: complete, supported, not suspended."""
    return not spec.suspend and not unsupported_in_model(spec) and not _incomplete(spec)


def _incomplete(spec: LlamaModelSpec) -> Invalid | None:
    cpu = server.backend_of(spec) is Backend.CPU
    missing = [
        text
        for absent, text in (
            (spec.context_size is None, "contextSize (tokens, for example 32768)"),
            (
                not cpu and (spec.memory is None or spec.memory.gpu is None),
                "memory.gpu (weights + KV cache + about 1Gi, for example 24Gi)",
            ),
            (
                spec.memory is None or spec.memory.host is None,
                "memory.host (weights + KV cache + 3Gi, for example 8Gi)"
                if cpu
                else "memory.host (for example 3Gi)",
            ),
        )
        if absent
    ]
    if not missing:
        return _too_little(spec)
    return Invalid(
        Reason.INVALID_SPEC,
        f"the estimate of memory is not supported yet: set spec.{' and spec.'.join(missing)}",
    )


def _too_little(spec: LlamaModelSpec) -> Invalid | None:
    """Refuse an amount that no server can start with: a unit was forgotten."""
    memory = spec.memory or Memory()
    for field, seen in (("memory.host", memory.host), ("memory.gpu", memory.gpu)):
        if seen is not None and mebibytes(seen) < LEAST_MIB:
            return Invalid(
                Reason.INVALID_SPEC,
                f"spec.{field}: {seen} is less than {LEAST_MIB}Mi: give a unit, for example 24Gi",
            )
    return None


def _target_nodes(spec: LlamaModelSpec, facts: ModelFacts) -> tuple[tuple[str, int], ...]:
    """Return (node, pods) pairs; a model at 0 replicas keeps its empty Deployments, and so its
    place."""
    assert facts.assignment is not None  # noqa: S101  (the caller waits without one)
    if facts.assignment.demand.replicas == 0:
        return tuple((each.node, 0) for each in facts.deployments)
    return tuple((node, 1) for node in facts.assignment.nodes)


def _plan(
    spec: LlamaModelSpec,
    facts: ModelFacts,
    targets: tuple[tuple[str, int], ...],
    waiting: Wait | None,
) -> Plan:
    owner = facts.owner
    pod_spec = _pod_spec(owner, spec, facts)
    config_hash = content_hash([pod_spec, extra_labels(spec.pod), extra_annotations(spec.pod)])
    live = {each.node: each for each in facts.deployments}
    # Replicas roll one after another: while one is on its way, the others keep their version.
    rolling = any(
        each.config_hash == config_hash and not each.settled
        for node, pods in targets
        if pods and (each := live.get(node))
    )
    objects: list[Object] = [_service(owner)]
    keep: set[Ref] = set()
    for node, pods in sorted(targets):
        current = live.get(node)
        if pods and current and current.config_hash != config_hash:
            if rolling:
                keep.add(Ref("Deployment", current.name))
                continue
            rolling = True
        objects.append(
            _deployment(
                owner,
                spec,
                node=node,
                pods=pods,
                pod_spec=pod_spec,
                config_hash=config_hash,
                patience=facts.defaults.startup_seconds,
            )
        )
    return Plan(
        objects=tuple(objects),
        keep=frozenset(keep),
        config_hash=config_hash,
        replicas=sum(pods for _, pods in targets),
        waiting=waiting,
    )


def _service(owner: Identity) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": labels.metadata(owner, owner.name),
        "spec": {
            "type": "ClusterIP",
            "selector": labels.selector(owner),
            "ports": [
                {"name": "http", "port": server.PORT, "targetPort": "http", "protocol": "TCP"}
            ],
        },
    }


def _pod_spec(owner: Identity, spec: LlamaModelSpec, facts: ModelFacts) -> dict[str, Any]:
    """Return all of the pod that does not depend on the node."""
    pod: dict[str, Any] = {
        "containers": [server.container(owner.name, spec, facts.defaults)],
        "volumes": server.volumes(spec, facts.defaults),
        "securityContext": server.pod_security(spec),
        "terminationGracePeriodSeconds": 60,
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
    }
    claims = server.resource_claims(spec)
    if claims:
        pod["resourceClaims"] = claims
    return pod | pod_additions(spec.pod)


def _deployment(
    owner: Identity,
    spec: LlamaModelSpec,
    *,
    node: str,
    pods: int,
    pod_spec: dict[str, Any],
    config_hash: str,
    patience: int,
) -> dict[str, Any]:
    name = labels.deployment_name(owner.name, node)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            **labels.metadata(owner, name),
            "annotations": {labels.NODE: node},
        },
        "spec": {
            "replicas": pods,
            # Two copies of one model never fit in unified memory together.
            "strategy": {"type": "Recreate"},
            "progressDeadlineSeconds": patience + 300,
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": {labels.DEPLOYMENT: name}},
            "template": {
                "metadata": {
                    "labels": {
                        **extra_labels(spec.pod),
                        **labels.common(owner),
                        labels.DEPLOYMENT: name,
                    },
                    "annotations": {
                        **extra_annotations(spec.pod),
                        labels.CONFIG_HASH: config_hash,
                        labels.GPU_MIB: str(server.gpu_mib(spec)),
                        labels.HOST_MIB: str(server.host_mib(spec)),
                    },
                },
                "spec": {**pod_spec, "affinity": _pinned(node)},
            },
        },
    }


def _pinned(node: str) -> dict[str, Any]:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}
        }
    }

"""LlamaModel -> one Deployment for each node it is placed on, and one Service for them all."""

from __future__ import annotations

from typing import Any

from llama_halo.api.affinity import Affinity
from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract import labels
from llama_halo.contract.lease import PHASE_ANNOTATION, Phase, lease_name
from llama_halo.contract.reasons import Reason
from llama_halo.plan import chat_template, children, server
from llama_halo.plan.facts import (
    Assignment,
    FileFacts,
    ModelFacts,
    OnDemandPolicy,
    Owner,
    PlacementScope,
    ResourceDemand,
    Sizing,
)
from llama_halo.plan.files import Files, plan_files
from llama_halo.plan.hashing import content_hash
from llama_halo.plan.model_files import (
    claim_has_files,
    claim_refusal,
    fetchable_to,
    fetching_on,
    stored_on,
)
from llama_halo.plan.modes import mode_refusal
from llama_halo.plan.node_constraints import node_constraints
from llama_halo.plan.node_selection import constraints_digest, pod_affinity
from llama_halo.plan.outcome import Invalid, Object, Outcome, Plan, Ref, Wait
from llama_halo.plan.pods import extra_annotations, extra_labels, pod_additions
from llama_halo.plan.quantity import seconds
from llama_halo.plan.sizing import memory_refusal
from llama_halo.plan.updates import decide_update, rolls_when_idle, timeout

_PLACING = (Reason.SCHEDULING, Reason.WAITING_FOR_MEMORY, Reason.WAITING_FOR_NODE)
"""Reasons of a wait during which a known change stays pending."""
DEFAULT_IDLE_TIMEOUT, DEFAULT_MIN_RESIDENT = "15m", "1m"


def plan_llamamodel(spec: LlamaModelSpec, facts: ModelFacts) -> Outcome:
    """Decide what should exist for a LlamaModel."""
    refusal = _refusal(spec, facts.files)
    if refusal:
        return refusal
    files = plan_files(spec, facts)
    sizing = _sizing(spec, facts, files)
    untold = chat_template.without_template(spec, facts.files)
    if untold and not isinstance(sizing, Invalid):
        return _keep_running(spec, facts, files, untold)
    if not isinstance(sizing, Sizing):
        return _keep_running(spec, facts, files, sizing)
    waiting, decided = _without_place(facts.assignment), facts.assignment
    if waiting and waiting.reason is Reason.DOWNLOADING and files.fetch_problem:
        waiting = files.fetch_problem
    if waiting and not (decided and (decided.nodes or decided.idle)):
        return _keep_running(spec, facts, files, waiting)
    return _plan(spec, facts, files, sizing, waiting)


def _refusal(spec: LlamaModelSpec, files: FileFacts) -> Wait | Invalid | None:
    if spec.suspend:
        return Wait(
            Reason.SUSPENDED, "suspended: the operator changes nothing until spec.suspend is false"
        )
    return (
        mode_refusal(spec)
        or chat_template.template_refusal(spec)
        or memory_refusal(spec)
        or claim_refusal(spec, files)
    )


def _sizing(spec: LlamaModelSpec, facts: ModelFacts, files: Files) -> Sizing | Wait | Invalid:
    """Return the model's sizing, or why its files are not known or not in place."""
    if files.problem or facts.sizing is None:
        return files.problem or Wait(Reason.INSPECTING, "the model's files are being inspected")
    if isinstance(facts.sizing, Sizing) and not claim_has_files(spec, facts.files):
        fetched = Wait(Reason.DOWNLOADING, "the model's files are being downloaded to the claim")
        return files.fetch_problem or fetched
    return facts.sizing


def _without_place(assignment: Assignment | None) -> Wait | Invalid | None:
    if assignment is None:
        return Wait(Reason.SCHEDULING, "waiting for the placement to choose a node")
    return Wait(assignment.reason, assignment.message) if assignment.reason else None


def demand(
    owner: Owner,
    spec: LlamaModelSpec,
    files: FileFacts,
    sizing: Sizing | Invalid | None,
    *,
    scope: PlacementScope = PlacementScope.NAMESPACE,
) -> ResourceDemand | None:
    """Return the model's demand, None if it is suspended or refused, or its files are not known.

    `scope` is where its group and priority apply.
    """
    if _refusal(spec, files) or not claim_has_files(spec, files):
        return None
    if not isinstance(sizing, Sizing):
        return None
    return ResourceDemand(
        model=f"{owner.namespace}/{owner.name}",
        tenant=owner.namespace if scope is PlacementScope.NAMESPACE else "",
        replicas=1 if spec.replicas is None else spec.replicas,
        gpu_mib=sizing.gpu_mib,
        host_mib=sizing.host_mib,
        **vars(node_constraints(spec)),
        stored_on=stored_on(spec, files),
        fetching_on=fetching_on(spec, files),
        fetchable_to=fetchable_to(spec, files),
        on_demand=_on_demand(spec),
    )


def _on_demand(spec: LlamaModelSpec) -> OnDemandPolicy | None:
    on_demand = spec.activation.on_demand if spec.activation else None
    if on_demand is None:
        return None
    return OnDemandPolicy(
        idle_timeout_seconds=seconds(on_demand.idle_timeout or DEFAULT_IDLE_TIMEOUT),
        min_resident_seconds=seconds(on_demand.min_resident or DEFAULT_MIN_RESIDENT),
        priority=on_demand.priority or 0,
        preload=on_demand.preload or False,
        group=on_demand.group or "",
    )


def _affinity(spec: LlamaModelSpec) -> Affinity | None:
    return spec.pod.affinity if spec.pod else None


def _keep_running(
    spec: LlamaModelSpec, facts: ModelFacts, files: Files, outcome: Wait | Invalid
) -> Plan:
    """Return a plan that keeps the running Deployments while the new version cannot run yet."""
    running = {Ref("Deployment", deployment.name) for deployment in facts.deployments}
    # A stopped or idle model does not run, even while its new version is not known.
    rests = spec.replicas == 0 or (facts.assignment is not None and facts.assignment.idle)
    return Plan(
        unrecorded=not facts.files.recorded,
        objects=(*_standing(spec, facts, facts.phase), *files.objects),
        keep=files.keep | _mounted(facts) | (frozenset() if rests else running),
        replicas=1 if spec.replicas is None else spec.replicas,
        waiting=None if spec.replicas == 0 else outcome,
        is_rolled=outcome.reason not in _PLACING,
    )


def _mounted(facts: ModelFacts) -> frozenset[Ref]:
    """Return the copies of chat templates that pods of any version mount."""
    return frozenset(Ref("ConfigMap", name) for name in facts.referenced_configs)


def _target_nodes(spec: LlamaModelSpec, facts: ModelFacts) -> tuple[tuple[str, int], ...]:
    """Return (node, pods) pairs; a stopped or idle model keeps its Deployments, at 0 replicas."""
    assert facts.assignment is not None  # noqa: S101  (the caller waits for one)
    if facts.assignment.demand.replicas == 0 or facts.assignment.idle:
        return tuple((deployment.node, 0) for deployment in facts.deployments)
    return tuple((node, 1) for node in facts.assignment.nodes)


def _plan(
    spec: LlamaModelSpec,
    facts: ModelFacts,
    files: Files,
    sizing: Sizing,
    waiting: Wait | Invalid | None,
) -> Plan:
    owner, targets = facts.owner, _target_nodes(spec, facts)
    stopped = spec.replicas == 0
    idle = facts.assignment is not None and facts.assignment.idle
    pod_spec = _pod_spec(owner, spec, facts, files, sizing)
    config_hash = content_hash([pod_spec, extra_labels(spec.pod), extra_annotations(spec.pod)])
    live = {deployment.node: deployment for deployment in facts.deployments}
    update = decide_update(spec, facts, targets, config_hash)
    # The unloader owns the phase until it finishes or gives up.
    unloading = facts.phase is Phase.UNLOADING and not (idle or stopped)
    phase = Phase.IDLE if idle or stopped else Phase.LOADED
    phase = Phase.UNLOADING if unloading else phase
    copies = chat_template.template_config_maps(owner, spec, facts.files)
    objects: list[Object] = [*_standing(spec, facts, phase), *copies, *files.objects]
    # The running version stays on a node to which files are still being fetched.
    fetch_to = facts.assignment.fetch_to if facts.assignment else ()
    keep = {Ref("Deployment", live[node].name) for node in fetch_to if node in live}
    keep |= files.keep | _mounted(facts)
    keep |= {Ref("Deployment", live[node].name) for node in update.keeps}
    objects += [
        _deployment(
            owner,
            spec,
            node=node,
            pods=pods,
            pod_spec=pod_spec,
            config_hash=config_hash,
            sizing=sizing,
            patience=facts.defaults.startup_seconds + 300,
        )
        for node, pods in sorted(targets)
        if node not in update.keeps | update.later
    ]
    return Plan(
        objects=tuple(objects),
        keep=frozenset(keep),
        config_hash=config_hash,
        replicas=sum(pods for _, pods in targets),
        waiting=waiting,
        idle=idle and not stopped,
        rolls=update.rolls,
        awaits_turn=update.awaits_turn,
        idle_deadline=timeout(spec) if update.awaits_idle else None,
        is_rolled=update.is_done,
        unrecorded=not facts.files.recorded,
    )


def _standing(spec: LlamaModelSpec, facts: ModelFacts, phase: Phase) -> list[Object]:
    """Return the objects that exist whether the model runs or not: its Service and its Lease."""
    objects: list[Object] = [_service(facts.owner)]
    if _on_demand(spec):
        return [*objects, lease(facts.owner, phase)]
    if rolls_when_idle(spec):
        objects.append(lease(facts.owner, Phase.IDLE if spec.replicas == 0 else Phase.LOADED))
    return objects


def lease(owner: Owner, phase: Phase) -> dict[str, Any]:
    """Return the Lease of a model that is on demand or rolls when idle.

    Gateways write there that they have requests for the model.
    """
    metadata = children.child_metadata(owner, lease_name(owner.name))
    if phase:
        metadata["annotations"] = {PHASE_ANNOTATION: str(phase)}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}


def _service(owner: Owner) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": children.child_metadata(owner, owner.name),
        "spec": {
            "type": "ClusterIP",
            "selector": children.selector_labels(owner),
            "ports": [
                {"name": "http", "port": server.PORT, "targetPort": "http", "protocol": "TCP"}
            ],
        },
    }


def _pod_spec(
    owner: Owner, spec: LlamaModelSpec, facts: ModelFacts, files: Files, sizing: Sizing
) -> dict[str, Any]:
    """Return the part of the pod's spec that does not depend on the node."""
    pod: dict[str, Any] = {
        "containers": [
            server.container(owner.name, spec, facts.defaults, paths=files.paths, sizing=sizing)
        ],
        "volumes": [
            *server.volumes(spec, facts.defaults),
            *chat_template.volumes(owner, spec, facts.files),
        ],
        "securityContext": server.pod_security(spec),
        "terminationGracePeriodSeconds": 60,
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
    }
    claims = server.resource_claims(spec)
    if claims:
        pod["resourceClaims"] = claims
    return pod | pod_additions(spec.pod)


def _deployment(  # noqa: PLR0913  (all that a Deployment depends on, by name)
    owner: Owner,
    spec: LlamaModelSpec,
    *,
    node: str,
    pods: int,
    pod_spec: dict[str, Any],
    config_hash: str,
    sizing: Sizing,
    patience: int,
) -> dict[str, Any]:
    name = children.deployment_name(owner.name, node)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            **children.child_metadata(owner, name),
            "annotations": {
                labels.NODE: node,
                labels.NODE_CONSTRAINTS: constraints_digest(node_constraints(spec)),
            },
        },
        "spec": {
            "replicas": pods,
            # Two copies of one model do not fit into unified memory at the same time.
            "strategy": {"type": "Recreate"},
            "progressDeadlineSeconds": patience,
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": {labels.DEPLOYMENT: name}},
            "template": {
                "metadata": {
                    "labels": {
                        **extra_labels(spec.pod),
                        **children.common_labels(owner),
                        labels.DEPLOYMENT: name,
                    },
                    "annotations": {
                        **extra_annotations(spec.pod),
                        labels.CONFIG_HASH: config_hash,
                        labels.GPU_MIB: str(sizing.gpu_mib),
                        labels.HOST_MIB: str(sizing.host_mib),
                    },
                },
                "spec": {**pod_spec, "affinity": pod_affinity(_affinity(spec), node)},
            },
        },
    }

"""The status of a LlamaModel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.api.reasons import STALLED_REASONS, Reason
from llama_halo.plan import labels, server
from llama_halo.plan.facts import Identity
from llama_halo.plan.outcome import Invalid, Outcome, Plan, Wait
from llama_halo.plan.quantity import human_gib
from llama_halo.status.conditions import Verdict, conditions, not_ready_since
from llama_halo.status.pods import (
    PodState,
    failing_long,
    has_ended,
    not_created,
    pod_state,
    rejected,
)

# What a person wants to hear of first, when replicas differ.
_WORST_FIRST = (
    *(Reason.BAD_FLAG, Reason.NOT_A_GGUF, Reason.UNSUPPORTED_MODEL, Reason.OUT_OF_MEMORY),
    *(Reason.DEVICE_UNAVAILABLE, Reason.SOURCE_NOT_FOUND, Reason.IMAGE_PULL_FAILED),
    *(Reason.CANNOT_START, Reason.CRASH_LOOPING, Reason.SCHEDULING, Reason.PULLING_IMAGE),
    *(Reason.LOADING, Reason.ROLLING, Reason.SERVING),
)


@dataclass(frozen=True)
class Children:
    """What is there of a model: its pods and Deployments, and what Events say of hanging pods."""

    pods: Sequence[Mapping[str, Any]] = ()
    deployments: Sequence[Mapping[str, Any]] = ()
    findings: Mapping[str, str] = field(default_factory=dict)
    """By the pod's name."""


def llamamodel_status(  # noqa: PLR0913  (everything a status is made of, by name)
    owner: Identity,
    *,
    spec: LlamaModelSpec | None,
    outcome: Outcome,
    conflict: str | None,
    children: Children,
    previous: Mapping[str, Any],
    requested_at: str | None,
    now: str,
) -> dict[str, Any]:
    """Return the whole status; fields that say nothing are left out.

    `conflict` names a child that somebody else owns; `requested_at` is Flux's reconcile request.
    """
    states = [
        pod_state(pod, children.findings.get(pod["metadata"]["name"], ""))
        for pod in children.pods
        if not has_ended(pod)
    ]
    live = sorted((each for each in states if not each.terminating), key=lambda each: each.name)
    seen = _Seen(live, len(states) > len(live), children, not_ready_since(previous), now)
    verdict = _verdict(outcome, conflict, seen)
    ready = sum(each.ready for each in live)
    nodes = sorted({each.node for each in live if each.node})
    status: dict[str, Any] = {
        "observedGeneration": owner.generation,
        "conditions": conditions(verdict, generation=owner.generation, previous=previous, now=now),
        "replicas": len(live),
        "readyReplicas": ready,
        "selector": f"{labels.MODEL}={owner.name}",
        "endpoint": f"http://{owner.name}.{owner.namespace}.svc:{server.PORT}",
    }
    if live:
        status["placements"] = _placements(live)
    if nodes:
        status["nodeSummary"] = ",".join(nodes)
    if isinstance(outcome, Plan):
        status["configHash"] = outcome.config_hash
    elif previous.get("configHash"):
        status["configHash"] = previous["configHash"]
    if spec is not None:
        status |= _of_spec(spec)
    if requested_at:
        status["lastHandledReconcileAt"] = requested_at
    return status


@dataclass(frozen=True)
class _Seen:
    """The pods as they are judged."""

    pods: Sequence[PodState]
    terminating: bool
    children: Children
    not_ready_since: str
    now: str


def _verdict(outcome: Outcome, conflict: str | None, seen: _Seen) -> Verdict:
    answering = [each for each in seen.pods if each.ready]
    reason, message, stalled = _judge(outcome, conflict, seen)
    return Verdict(
        reason=reason,
        message=message,
        stalled=stalled,
        available=bool(answering),
        available_message=f"{len(answering)} pods answer" if answering else "no pod answers",
    )


def _judge(outcome: Outcome, conflict: str | None, seen: _Seen) -> tuple[Reason, str, bool]:
    match outcome:
        case Invalid(reason, message):
            return reason, message, reason in STALLED_REASONS
        case Wait(reason, message):
            return reason, message, False
        case Plan() if conflict:
            return Reason.NAME_CONFLICT, conflict, True
        case Plan(replicas=0):
            if seen.pods or seen.terminating:
                return Reason.ROLLING, "replicas is 0: the last pod is ending", False
            return Reason.STOPPED, "replicas is 0: nothing runs and no memory is held", False
        case Plan():
            return _judge_pods(outcome, seen)


def _judge_pods(plan: Plan, seen: _Seen) -> tuple[Reason, str, bool]:
    current = [each for each in seen.pods if each.config_hash == plan.config_hash]
    serving = [each for each in current if each.ready]
    if plan.waiting:
        return plan.waiting.reason, plan.waiting.message, False
    if len(serving) == plan.replicas and len(seen.pods) == plan.replicas:
        nodes = ", ".join(sorted(each.node for each in serving))
        served = f"{plan.replicas} of {plan.replicas} replicas serve on {nodes}"
        return Reason.SERVING, served, False
    failing = min(
        (each for each in current if not each.ready),
        key=lambda each: _WORST_FIRST.index(each.reason),
        default=None,
    )
    if failing:
        return failing.reason, failing.message, failing.stalled(seen.not_ready_since, seen.now)
    if seen.pods or seen.terminating:
        return (
            Reason.ROLLING,
            (
                f"{len(serving)} of {plan.replicas} replicas serve the new configuration;"
                " the old pod ends first"
            ),
            False,
        )
    return _judge_absence(seen, plan.config_hash)


def _judge_absence(seen: _Seen, config_hash: str) -> tuple[Reason, str, bool]:
    """Tell why there is no pod at all."""
    refusals = [found for each in seen.children.deployments if (found := not_created(each))]
    refusal = refusals[0] if refusals else rejected(seen.children.pods, config_hash)
    if refusal is None:
        return Reason.SCHEDULING, "the pods are being created", False
    reason, message, since = refusal
    return reason, message, failing_long(max(since, seen.not_ready_since), seen.now)


def _placements(pods: Sequence[PodState]) -> list[dict[str, Any]]:
    by_node = {each.node: each for each in pods if each.node}
    return [{"node": node, "reason": str(each.reason)} for node, each in sorted(by_node.items())]


def _of_spec(spec: LlamaModelSpec) -> dict[str, Any]:
    """Return what the spec alone tells: the model's file, its context, its memory."""
    model: dict[str, Any] = {}
    if spec.source.local:
        model["summary"] = PurePosixPath(spec.source.local.path).name.removesuffix(".gguf")
    if spec.context_size:
        model["contextSize"] = spec.context_size
    found: dict[str, Any] = {"model": model} if model else {}
    gpu, host = server.gpu_mib(spec), server.host_mib(spec)
    if gpu or host:
        found["memory"] = {
            "gpuMiB": gpu,
            "hostMiB": host,
            "totalMiB": gpu + host,
            "method": "Override",
            "summary": human_gib(gpu + host),
        }
    return found

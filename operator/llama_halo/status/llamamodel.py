"""The status of a LlamaModel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract import labels
from llama_halo.contract.reasons import FAILED_REASONS, STALLED_REASONS, Reason
from llama_halo.plan import server
from llama_halo.plan.facts import FileFacts, Owner, Sizing
from llama_halo.plan.outcome import Invalid, Outcome, Plan, Wait
from llama_halo.plan.quantity import counted, of_total
from llama_halo.status.conditions import Detail, Verdict, conditions, failure_of, not_ready_since
from llama_halo.status.files import (
    download_status,
    files_verified,
    memory_reserved,
    model_status,
    progress,
)
from llama_halo.status.pods import (
    PodState,
    creation_refusal,
    has_ended,
    has_failed_long,
    pod_state,
    rejected,
)
from llama_halo.status.verification import (
    NOT_YET,
    Verification,
    is_enabled,
    verification_status,
)

# If replicas differ, the status reports the reason that comes first here.
_WORST_FIRST = (
    *(Reason.BAD_FLAG, Reason.NOT_A_GGUF, Reason.UNSUPPORTED_MODEL, Reason.OUT_OF_MEMORY),
    *(Reason.DEVICE_UNAVAILABLE, Reason.SOURCE_NOT_FOUND, Reason.IMAGE_PULL_FAILED),
    *(Reason.CANNOT_START, Reason.CRASH_LOOPING, Reason.SCHEDULING, Reason.PULLING_IMAGE),
    *(Reason.LOADING, Reason.ROLLING, Reason.SERVING),
)


@dataclass(frozen=True)
class Children:
    """A model's pods and Deployments, the warnings of stuck pods, and its downloads."""

    pods: Sequence[Mapping[str, Any]] = ()
    deployments: Sequence[Mapping[str, Any]] = ()
    creation_warnings: Mapping[str, str] = field(default_factory=dict)
    """By the pod's name."""
    downloads: Sequence[Mapping[str, int]] = ()
    """The progress of the running downloads."""


def llamamodel_status(  # noqa: PLR0913  (everything a status is made of, by name)
    owner: Owner,
    *,
    spec: LlamaModelSpec | None,
    outcome: Outcome,
    conflict: str | None,
    children: Children,
    files: FileFacts,
    sizing: Sizing | Invalid | None,
    verifications: Sequence[Verification],
    previous: Mapping[str, Any],
    requested_at: str | None,
    now: str,
) -> dict[str, Any]:
    """Return the whole status; empty fields are left out.

    `conflict` names a child that somebody else owns; `requested_at` is Flux's reconcile request.
    """
    states = [
        pod_state(
            pod,
            children.creation_warnings.get(pod["metadata"]["name"], ""),
            diagnosis=failure_of(previous),
        )
        for pod in children.pods
        if not has_ended(pod)
    ]
    live = sorted(
        (state for state in states if not state.terminating), key=lambda state: state.name
    )
    observed = _Observed(live, len(states) > len(live), children, not_ready_since(previous), now)
    verdict = _verdict(outcome, conflict, observed)
    planned = outcome.config_hash if isinstance(outcome, Plan) else ""
    config_hash = planned or previous.get("configHash", "")
    # While the earlier version serves, its result still applies.
    serving = [config_hash, *(state.config_hash for state in live if state.ready)]
    tried = next(
        (
            verification
            for shown in serving
            for verification in verifications
            if verification.config_hash == shown
        ),
        None,
    )
    ready = sum(state.ready for state in live)
    nodes = sorted({state.node for state in live if state.node})
    status: dict[str, Any] = {
        "observedGeneration": owner.generation,
        "conditions": conditions(
            verdict,
            generation=owner.generation,
            previous=previous,
            now=now,
            details=_details(spec, files, states, tried) if spec else (),
        ),
        "replicas": len(live),
        "readyReplicas": ready,
        "selector": f"{labels.MODEL}={owner.name}",
        "endpoint": f"http://{owner.name}.{owner.namespace}.svc:{server.PORT}",
    }
    if live:
        status["placements"] = _placements(live)
    if nodes:
        status["nodeSummary"] = ",".join(nodes)
    if config_hash:
        status["configHash"] = config_hash
    if tried and spec is not None and is_enabled(spec):
        status |= verification_status(tried)
    if spec is not None:
        sizes = sizing if isinstance(sizing, Sizing) else None
        status |= model_status(spec, files, sizes, in_use_on=_earlier_on(states, outcome))
    else:
        # The spec is invalid, but the files are still on the nodes.
        kept = ("files", "inspected")
        status |= {name: previous[name] for name in kept if previous.get(name)}
    if children.downloads:
        status["download"] = download_status(children.downloads)
    if requested_at:
        status["lastHandledReconcileAt"] = requested_at
    return status


def _details(
    spec: LlamaModelSpec,
    files: FileFacts,
    pods: Sequence[PodState],
    tried: Verification | None,
) -> list[Detail]:
    details = [files_verified(spec, files), memory_reserved(pods)]
    return [*details, tried.detail if tried else NOT_YET] if is_enabled(spec) else details


def _earlier_on(pods: Sequence[PodState], outcome: Outcome) -> frozenset[str]:
    """Return the nodes where an earlier version runs, which may use other files."""
    planned = outcome.config_hash if isinstance(outcome, Plan) else ""
    return frozenset(pod.node for pod in pods if pod.node and pod.config_hash != planned)


@dataclass(frozen=True)
class _Observed:
    """The children and times that a verdict is based on; `pods` are not terminating."""

    pods: Sequence[PodState]
    terminating: bool
    children: Children
    not_ready_since: str
    now: str


def _verdict(outcome: Outcome, conflict: str | None, observed: _Observed) -> Verdict:
    answering = [pod for pod in observed.pods if pod.ready]
    reason, message, stalled = _judge(outcome, conflict, observed)
    return Verdict(
        reason=reason,
        message=message,
        stalled=stalled,
        available=bool(answering),
        available_message=counted(len(answering), "pod", "answer")
        if answering
        else "no pod answers",
    )


def _judge(outcome: Outcome, conflict: str | None, observed: _Observed) -> tuple[Reason, str, bool]:
    match outcome:
        case Invalid(reason, message):
            return reason, message, reason in STALLED_REASONS
        case Wait(reason, message):
            return reason, message, _lasts(reason, observed)
        case Plan() if conflict:
            return Reason.NAME_CONFLICT, conflict, True
        case Plan():
            return _judge_rest(outcome, observed) or _judge_pods(outcome, observed)


def _judge_rest(plan: Plan, observed: _Observed) -> tuple[Reason, str, bool] | None:
    """Return the verdict on a model that should not run, None for one that should."""
    some = bool(observed.pods or observed.terminating)
    if plan.replicas == 0 and plan.idle:
        if some:
            return Reason.DRAINING, "idle: the last pod is terminating", False
        message = "idle: no memory is held; the next request loads the model"
        return Reason.IDLE, message, False
    if plan.replicas == 0:
        if some:
            return Reason.ROLLING, "replicas is 0: the last pod is terminating", False
        return Reason.STOPPED, "replicas is 0: nothing runs and no memory is held", False
    return None


def _judge_pods(plan: Plan, observed: _Observed) -> tuple[Reason, str, bool]:
    current = [pod for pod in observed.pods if pod.config_hash == plan.config_hash]
    serving = [pod for pod in current if pod.ready]
    if plan.waiting:
        reason, message = plan.waiting.reason, plan.waiting.message
        if reason is Reason.DOWNLOADING and observed.children.downloads:
            message = f"{message}: {progress(download_status(observed.children.downloads))}"
        stalled = isinstance(plan.waiting, Invalid) and reason in STALLED_REASONS
        return reason, message, stalled or _lasts(reason, observed)
    moves = bool(plan.idle_deadline)
    if len(serving) == plan.replicas and len(observed.pods) == plan.replicas and not moves:
        nodes = ", ".join(sorted(pod.node for pod in serving))
        served = of_total(plan.replicas, plan.replicas, "replica", "serve")
        return Reason.SERVING, f"{served} on {nodes}", False
    failing = min(
        (pod for pod in current if not pod.ready),
        key=lambda pod: _WORST_FIRST.index(pod.reason),
        default=None,
    )
    if failing:
        return (
            failing.reason,
            failing.message,
            failing.stalled(observed.not_ready_since, observed.now),
        )
    if awaited := _awaited(plan):
        return Reason.ROLLING, f"{awaited}; the earlier version serves until then", False
    if observed.pods or observed.terminating:
        served = of_total(len(serving), plan.replicas, "replica", "serve")
        message = f"{served} the new configuration; the old pod ends first"
        return Reason.ROLLING, message, False
    return _judge_absence(observed, plan.config_hash)


def _awaited(plan: Plan) -> str:
    """Return what a rollout waits for, empty if it does not wait."""
    if plan.awaits_turn:
        where = ", ".join(sorted(plan.awaits_turn))
        return f"waits for its rollout turn: another model is rolling out on {where}"
    if plan.idle_deadline:
        return f"rolls when its requests are done, after {plan.idle_deadline} at the latest"
    return ""


def _lasts(reason: Reason, observed: _Observed) -> bool:
    """Tell whether a failure has lasted for so long that it needs a person."""
    return reason in FAILED_REASONS and has_failed_long(observed.not_ready_since, observed.now)


def _judge_absence(observed: _Observed, config_hash: str) -> tuple[Reason, str, bool]:
    """Return why the model has no pod."""
    refusals = [
        creation_failure
        for deployment in observed.children.deployments
        if (creation_failure := creation_refusal(deployment))
    ]
    refusal = refusals[0] if refusals else rejected(observed.children.pods, config_hash)
    if refusal is None:
        return Reason.SCHEDULING, "the pods are being created", False
    reason, message, since = refusal
    return reason, message, has_failed_long(max(since, observed.not_ready_since), observed.now)


def _placements(pods: Sequence[PodState]) -> list[dict[str, Any]]:
    by_node = {pod.node: pod for pod in pods if pod.node}
    return [
        {"node": node, "reason": str(pod.reason)}
        | ({"address": pod.address} if pod.address else {})
        for node, pod in sorted(by_node.items())
    ]

"""The status of a ModelRouter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.contract.reasons import FAILED_REASONS, STALLED_REASONS, ConditionType, Reason
from llama_halo.plan.engines import gateway
from llama_halo.plan.engines.choice import engine_of
from llama_halo.plan.facts import Owner
from llama_halo.plan.modelrouter import url
from llama_halo.plan.outcome import Invalid, Outcome, Plan, Wait
from llama_halo.plan.quantity import counted, of_total
from llama_halo.status.conditions import Verdict, condition, conditions, not_ready_since
from llama_halo.status.pods import creation_refusal, has_ended, has_failed_long, pod_state

MAX_LISTED_MODELS = 1024
OPEN = "open to everyone who reaches it (no auth)"


@dataclass(frozen=True)
class ServedModel:
    """One model as its router sees it; `status` is None when there is no such LlamaModel."""

    name: str
    llama_model: str
    status: Mapping[str, Any] | None
    provider: str = ""
    """The provider that serves it, empty for the cluster. Nothing checks a provider's state."""

    @property
    def available(self) -> bool:
        if self.provider:
            return True
        available = condition(self.status or {}, ConditionType.AVAILABLE)
        return available.get("status") == "True"


def modelrouter_status(  # noqa: PLR0913  (everything a status is made of, by name)
    owner: Owner,
    *,
    spec: ModelRouterSpec | None,
    outcome: Outcome,
    conflict: str | None,
    deployment: Mapping[str, Any] | None,
    pods: Sequence[Mapping[str, Any]],
    models: Sequence[ServedModel],
    previous: Mapping[str, Any],
    requested_at: str | None,
    cluster_domain: str,
    now: str,
) -> dict[str, Any]:
    """Return the whole status; empty fields are left out."""
    answering = _number(deployment, "availableReplicas")
    address = url(owner, spec, cluster_domain) if spec else previous.get("url", "")
    reason, message, stalled = _judge(outcome, conflict, deployment, pods)
    stalled = stalled or _stalled(pods, reason, previous, now)
    if reason is Reason.SERVING:
        message = _serving_message(address, models, spec)
    verdict = Verdict(
        reason=reason,
        message=message,
        stalled=stalled,
        available=answering > 0,
        available_message=counted(answering, "pod", "answer"),
    )
    status: dict[str, Any] = {
        "observedGeneration": owner.generation,
        "conditions": conditions(verdict, generation=owner.generation, previous=previous, now=now),
        "modelSummary": f"{sum(model.available for model in models)}/{len(models)}",
    }
    status |= _engine(spec, outcome, previous)
    if address:
        status["url"] = address
    if isinstance(outcome, Plan):
        status["configHash"] = outcome.config_hash
    elif previous.get("configHash"):
        status["configHash"] = previous["configHash"]
    if models:
        status["models"] = [_model(model) for model in models[:MAX_LISTED_MODELS]]
    if requested_at:
        status["lastHandledReconcileAt"] = requested_at
    return status


def _judge(
    outcome: Outcome,
    conflict: str | None,
    deployment: Mapping[str, Any] | None,
    pods: Sequence[Mapping[str, Any]],
) -> tuple[Reason, str, bool]:
    match outcome:
        case Invalid(reason, message):
            return reason, message, reason in STALLED_REASONS
        case Wait(reason, message):
            return reason, message, False
        case Plan() if conflict:
            return Reason.NAME_CONFLICT, conflict, True
        case Plan(replicas=0):
            return Reason.STOPPED, "replicas is 0: no router runs", False
        case Plan():
            return _judge_rollout(outcome, deployment, pods)


def _judge_rollout(
    plan: Plan, deployment: Mapping[str, Any] | None, pods: Sequence[Mapping[str, Any]]
) -> tuple[Reason, str, bool]:
    if _rolled_out(plan, deployment):
        return Reason.SERVING, "", False
    states = [pod_state(pod) for pod in pods if not has_ended(pod)]
    current = [state for state in states if state.config_hash == plan.config_hash]
    failing = next((state for state in current if not state.ready and not state.terminating), None)
    if failing and failing.reason is Reason.LOADING:
        return Reason.STARTING, f"pod {failing.name} starts", False
    if failing:
        return failing.reason, failing.message, False
    if any(state.ready for state in states):
        return Reason.ROLLING, "the new pod replaces the old one when it answers", False
    refusal = creation_refusal(deployment) if deployment else None
    if refusal:
        return refusal[0], refusal[1], False
    return Reason.STARTING, "the router's pod is being created", False


def _stalled(
    pods: Sequence[Mapping[str, Any]], reason: Reason, previous: Mapping[str, Any], now: str
) -> bool:
    """Tell whether the reported failure needs a person."""
    since = not_ready_since(previous)
    states = [pod_state(pod) for pod in pods if not has_ended(pod)]
    if any(state.reason is reason and state.stalled(since, now) for state in states):
        return True
    return reason in FAILED_REASONS and has_failed_long(since, now)


def _rolled_out(plan: Plan, deployment: Mapping[str, Any] | None) -> bool:
    if deployment is None:
        return False
    observed_generation = deployment.get("status", {}).get("observedGeneration", 0)
    return (
        observed_generation >= deployment["metadata"].get("generation", 0)
        and _number(deployment, "updatedReplicas") == plan.replicas
        and _number(deployment, "availableReplicas") == plan.replicas
        and _number(deployment, "replicas") == plan.replicas
    )


def _serving_message(
    address: str, models: Sequence[ServedModel], spec: ModelRouterSpec | None
) -> str:
    available = sum(model.available for model in models)
    auth = spec.auth if spec else None
    who = f"for keys of Secret {auth.secret_ref.name}" if auth else OPEN
    text = f"{of_total(available, len(models), 'model', 'answer')} at {address}, {who}"
    missing = sorted(
        model.llama_model for model in models if model.status is None and not model.provider
    )
    if missing:
        text += f"; missing from this namespace: LlamaModel {', LlamaModel '.join(missing)}"
    return text


def _engine(
    spec: ModelRouterSpec | None, outcome: Outcome, previous: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the engine, and the routes as an engine other than the gateway serves them.

    Without a plan, the fields of the previous status stay.
    """
    if spec is None or (not isinstance(outcome, Plan) and previous.get("engine")):
        return {name: previous[name] for name in ("engine", "routes") if name in previous}
    engine = engine_of(spec)
    routes = engine.routes(spec) if isinstance(outcome, Plan) and engine is not gateway else []
    mappings = [
        {"name": route.route, "model": route.model, **({"note": route.note} if route.note else {})}
        for route in routes
    ]
    return {"engine": engine.NAME, **({"routes": mappings} if mappings else {})}


def _model(model: ServedModel) -> dict[str, Any]:
    served: dict[str, Any] = {"name": model.name, "available": model.available}
    if model.status and model.status.get("endpoint"):
        served["endpoint"] = model.status["endpoint"]
    return served


def _number(deployment: Mapping[str, Any] | None, name: str) -> int:
    return int((deployment or {}).get("status", {}).get(name, 0))

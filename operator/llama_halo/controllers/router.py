"""Builds the plan and the status of a ModelRouter."""

from __future__ import annotations

from typing import Any

from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.controllers.facts import build_router_facts, owner_of
from llama_halo.controllers.model import requested_at
from llama_halo.controllers.state import OperatorState
from llama_halo.controllers.validate import validate
from llama_halo.kube.apply import Applied
from llama_halo.kube.cache import Key, Object, key_of
from llama_halo.kube.resources import LLAMAMODEL
from llama_halo.plan import children
from llama_halo.plan.modelrouter import plan_modelrouter
from llama_halo.plan.outcome import Invalid, Outcome
from llama_halo.status.modelrouter import ServedModel, modelrouter_status


def build_plan(state: OperatorState, cr: Object) -> Outcome:
    """Plan a ModelRouter."""
    spec = validate(ModelRouterSpec, cr, state.specs, state.settings.restrictions)
    if isinstance(spec, Invalid):
        return spec
    models = _served(state, key_of(cr).namespace, spec)
    return plan_modelrouter(spec, build_router_facts(state, cr, models))


def build_status(
    state: OperatorState, cr: Object, outcome: Outcome, applied: Applied, now: str
) -> dict[str, Any]:
    """Derive the status from the outcome and the observed children."""
    spec = validate(ModelRouterSpec, cr, state.specs, state.settings.restrictions)
    key = key_of(cr)
    valid = None if isinstance(spec, Invalid) else spec
    deployment = Key("Deployment", key.namespace, children.router_name(key.name))
    return modelrouter_status(
        owner_of(cr),
        spec=valid,
        outcome=outcome,
        conflict=applied.conflict,
        deployment=state.cache.get(deployment),
        pods=state.cache.children(key, "Pod"),
        models=_served(state, key.namespace, valid) if valid else [],
        previous=cr.get("status") or {},
        requested_at=requested_at(cr),
        cluster_domain=state.settings.cluster_domain,
        now=now,
    )


def _served(state: OperatorState, namespace: str, spec: ModelRouterSpec) -> list[ServedModel]:
    """Return the router's models, sorted by name; a listed one wins over a selected one."""
    served = {}
    for model in spec.models or ():
        if model.model_ref:
            cr = state.cache.get(Key(LLAMAMODEL.kind, namespace, model.model_ref.name))
            status = None if cr is None else cr.get("status") or {}
            served[model.name] = ServedModel(model.name, model.model_ref.name, status)
        elif model.provider:
            served[model.name] = ServedModel(model.name, model.model or "", None, model.provider)
    if spec.model_selector:
        match_labels = spec.model_selector.match_labels.items()
        for cr in state.cache.in_namespace(LLAMAMODEL.kind, namespace):
            name = cr["metadata"]["name"]
            if match_labels <= (cr["metadata"].get("labels") or {}).items():
                served.setdefault(name, ServedModel(name, name, cr.get("status") or {}))
    return [served[name] for name in sorted(served)]

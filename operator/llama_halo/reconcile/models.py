"""LlamaModel in the loop: validate, gather, plan; and afterwards its status."""

from __future__ import annotations

from typing import Any

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.cluster.apply import Applied
from llama_halo.cluster.store import Object, key_of
from llama_halo.plan.llamamodel import plan_llamamodel
from llama_halo.plan.outcome import Invalid, Outcome
from llama_halo.reconcile.context import Context
from llama_halo.reconcile.gather import identity, model_facts
from llama_halo.reconcile.placing import demand_of, wake_placement
from llama_halo.reconcile.validate import validate
from llama_halo.status.llamamodel import Children, llamamodel_status


def consider(context: Context, cr: Object) -> Outcome | None:
    """Decide what a LlamaModel needs; None while placement has yet to decide on its demand."""
    spec = validate(LlamaModelSpec, cr, context.specs)
    if isinstance(spec, Invalid):
        return spec
    facts, demand = model_facts(context, cr), demand_of(context, cr)
    decided = facts.assignment is not None and facts.assignment.demand == demand
    if demand is not None and not decided:
        wake_placement(context)
        return None
    return plan_llamamodel(spec, facts)


def derive(
    context: Context, cr: Object, outcome: Outcome, applied: Applied, now: str
) -> dict[str, Any]:
    """Derive the status from what was decided and what is there now."""
    spec, key = validate(LlamaModelSpec, cr, context.specs), key_of(cr)
    return llamamodel_status(
        identity(cr),
        spec=None if isinstance(spec, Invalid) else spec,
        outcome=outcome,
        conflict=applied.conflict,
        children=Children(
            pods=context.store.children(key, "Pod"),
            deployments=context.store.children(key, "Deployment"),
            findings={
                pod.name: text
                for pod, text in context.findings.items()
                if pod.namespace == key.namespace
            },
        ),
        previous=cr.get("status") or {},
        requested_at=requested_at(cr),
        now=now,
    )


def requested_at(cr: Object) -> str | None:
    """Return Flux's request to look again, which the status repeats."""
    annotations = cr["metadata"].get("annotations") or {}
    found: str | None = annotations.get("reconcile.fluxcd.io/requestedAt")
    return found

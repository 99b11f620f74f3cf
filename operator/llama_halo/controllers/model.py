"""LlamaModel in the loop: validate, gather, plan; and afterwards its status."""

from __future__ import annotations

import time
from typing import Any

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.controllers.facts import identity, model_facts
from llama_halo.controllers.file_facts import claim_key, file_facts
from llama_halo.controllers.placement.controller import wake_placement
from llama_halo.controllers.pollers.chat_templates import is_read
from llama_halo.controllers.state import Context
from llama_halo.controllers.validate import validate
from llama_halo.kube.apply import Applied
from llama_halo.kube.cache import Object, key_of
from llama_halo.plan import labels
from llama_halo.plan.facts import ModelFacts, Phase
from llama_halo.plan.llamamodel import plan_llamamodel
from llama_halo.plan.outcome import Invalid, Outcome, Plan
from llama_halo.status.llamamodel import Children, llamamodel_status
from llama_halo.status.verification import remembered


def consider(context: Context, cr: Object) -> Outcome | None:
    """Decide what a LlamaModel needs; None while placement has yet to decide on its demand."""
    spec = validate(LlamaModelSpec, cr, context.specs)
    if isinstance(spec, Invalid):
        note_waiting(context, cr, spec)
        return spec
    claim = claim_key(cr)
    if claim is not None and claim not in context.claims:
        context.probes.add(claim)  # and the model is looked at again when it is known
        return None
    if not is_read(context, cr):
        return None
    facts, demand = model_facts(context, cr, spec), context.demands.get(key_of(cr))
    decided = facts.assignment is not None and facts.assignment.demand == demand
    if demand is not None and (not decided or _outdated(facts)):
        wake_placement(context)
        return None
    outcome = plan_llamamodel(spec, facts)
    if isinstance(outcome, Plan):
        context.rolls.plan(key_of(cr), rolls=outcome.rolls, waits=outcome.awaits_turn)
    note_waiting(context, cr, outcome)
    return outcome


def note_waiting(context: Context, cr: Object, outcome: Outcome) -> None:
    """Note since when a change waits, from its first wait on until all that runs has it."""
    if isinstance(outcome, Plan) and outcome.awaits_idle:
        context.awaiting_idle.setdefault(key_of(cr), time.monotonic())
    elif not isinstance(outcome, Plan) or outcome.is_rolled:
        context.awaiting_idle.pop(key_of(cr), None)


def _outdated(facts: ModelFacts) -> bool:
    """Tell whether a model was given a node while it was loaded, and is unloaded by now."""
    decided = facts.assignment
    return (
        facts.phase is Phase.IDLE
        and decided is not None
        and bool(decided.nodes)
        and decided.phase in (Phase.LOADED, Phase.UNLOADING)
    )


def derive(
    context: Context, cr: Object, outcome: Outcome, applied: Applied, now: str
) -> dict[str, Any]:
    """Derive the status from what was decided and what is there now."""
    spec, key = validate(LlamaModelSpec, cr, context.specs), key_of(cr)
    previous = cr.get("status") or {}
    if previous.get("lastHandledReconcileAt") != requested_at(cr):
        # Somebody wants everything looked at again.
        context.verified.pop(key, None)
        previous = {name: value for name, value in previous.items() if name != "verifiedConfigHash"}
    pods = context.store.children(key, "Pod")
    return llamamodel_status(
        identity(cr),
        spec=None if isinstance(spec, Invalid) else spec,
        outcome=outcome,
        conflict=applied.conflict,
        children=Children(
            pods=[pod for pod in pods if labels.FILES_OF not in _labels(pod)],
            deployments=context.store.children(key, "Deployment"),
            findings={
                pod.name: text
                for pod, text in context.findings.items()
                if pod.namespace == key.namespace
            },
            downloads=[
                progress
                for pod in pods
                if labels.FILES_OF in _labels(pod)
                and (progress := context.downloads.get(key_of(pod)))
            ],
        ),
        files=file_facts(context, cr),
        verifications=[
            verification
            for verification in (context.verified.get(key), remembered(previous))
            if verification
        ],
        previous=previous,
        requested_at=requested_at(cr),
        now=now,
    )


def _labels(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def requested_at(cr: Object) -> str | None:
    """Return Flux's request to look again, which the status repeats."""
    annotations = cr["metadata"].get("annotations") or {}
    requested: str | None = annotations.get(labels.FLUX_REQUESTED_AT)
    return requested

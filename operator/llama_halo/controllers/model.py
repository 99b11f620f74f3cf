"""Builds the plan and the status of a LlamaModel."""

from __future__ import annotations

import time
from typing import Any

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract import labels
from llama_halo.contract.lease import Phase
from llama_halo.controllers.facts import build_model_facts, owner_of
from llama_halo.controllers.file_facts import build_file_facts, claim_key, template_key
from llama_halo.controllers.placement.controller import request_placement, update_demand
from llama_halo.controllers.pollers import chat_templates
from llama_halo.controllers.state import OperatorState
from llama_halo.controllers.validate import validate
from llama_halo.kube.apply import Applied
from llama_halo.kube.cache import Object, key_of
from llama_halo.plan.facts import ModelFacts
from llama_halo.plan.llamamodel import plan_llamamodel
from llama_halo.plan.outcome import Invalid, Outcome, Plan
from llama_halo.status.llamamodel import Children, llamamodel_status
from llama_halo.status.verification import from_status


def build_plan(state: OperatorState, cr: Object) -> Outcome | None:
    """Plan a LlamaModel; None while its claim, chat template or placement is not known yet.

    The poller or placement then enqueues the key again.
    """
    spec = validate(LlamaModelSpec, cr, state.specs, state.settings.restrictions)
    if isinstance(spec, Invalid):
        note_waiting(state, cr, spec)
        return spec
    claim = claim_key(cr)
    if claim is not None and claim not in state.pollers.claims:
        state.pollers.queue.add(claim)  # the poller enqueues the model once it has read the claim
        return None
    template = template_key(cr)
    if template is not None and not chat_templates.is_current(state, cr):
        state.pollers.queue.add(template)
        return None
    if key_of(cr) not in state.placement.sizings:
        update_demand(state, key_of(cr), cr)  # it failed before: fail here, and be retried
    facts, demand = build_model_facts(state, cr, spec), state.placement.demands.get(key_of(cr))
    decided = facts.assignment is not None and facts.assignment.demand == demand
    if demand is not None and (not decided or _outdated(facts)):
        request_placement(state)
        return None
    outcome = plan_llamamodel(spec, facts)
    if isinstance(outcome, Plan):
        state.placement.rollout_turns.request(
            key_of(cr), rolls=outcome.rolls, waits=outcome.awaits_turn
        )
    note_waiting(state, cr, outcome)
    return outcome


def note_waiting(state: OperatorState, cr: Object, outcome: Outcome) -> None:
    """Record when a change first waited for an idle model; clear it once no change waits."""
    if isinstance(outcome, Plan) and outcome.idle_deadline:
        state.placement.awaiting_idle.setdefault(key_of(cr), time.monotonic())
    elif not isinstance(outcome, Plan) or outcome.is_rolled:
        state.placement.awaiting_idle.pop(key_of(cr), None)


def _outdated(facts: ModelFacts) -> bool:
    """Tell whether a model is idle, but was still loaded when placement gave it a node."""
    decided = facts.assignment
    return (
        facts.phase is Phase.IDLE
        and decided is not None
        and bool(decided.nodes)
        and decided.phase in (Phase.LOADED, Phase.UNLOADING)
    )


def build_status(
    state: OperatorState, cr: Object, outcome: Outcome, applied: Applied, now: str
) -> dict[str, Any]:
    """Derive the status from the outcome and the observed children."""
    spec, key = validate(LlamaModelSpec, cr, state.specs, state.settings.restrictions), key_of(cr)
    previous = cr.get("status") or {}
    if previous.get("lastHandledReconcileAt") != requested_at(cr):
        # A new reconcile request repeats the tool-calling check.
        state.verification.results.pop(key, None)
        previous = {name: value for name, value in previous.items() if name != "verifiedConfigHash"}
    pods = state.cache.children(key, "Pod")
    return llamamodel_status(
        owner_of(cr),
        spec=None if isinstance(spec, Invalid) else spec,
        outcome=outcome,
        conflict=applied.conflict,
        children=Children(
            pods=[pod for pod in pods if labels.FILES_OF not in _labels(pod)],
            deployments=state.cache.children(key, "Deployment"),
            creation_warnings={
                pod.name: text
                for pod, text in state.pollers.creation_warnings.items()
                if pod.namespace == key.namespace
            },
            downloads=[
                progress
                for pod in pods
                if labels.FILES_OF in _labels(pod)
                and (progress := state.pollers.downloads.get(key_of(pod)))
            ],
        ),
        files=build_file_facts(state, cr),
        sizing=state.placement.sizings.get(key),
        verifications=[
            verification
            for verification in (state.verification.results.get(key), from_status(previous))
            if verification
        ],
        previous=previous,
        requested_at=requested_at(cr),
        now=now,
    )


def _labels(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def requested_at(cr: Object) -> str | None:
    """Return the value of Flux's reconcile annotation, which the status repeats."""
    annotations = cr["metadata"].get("annotations") or {}
    requested: str | None = annotations.get(labels.FLUX_REQUESTED_AT)
    return requested

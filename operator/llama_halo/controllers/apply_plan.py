"""Applies a plan, and turns objects that cannot be written into Wait or Invalid."""

from __future__ import annotations

from llama_halo.contract.reasons import FAILED_REASONS, Reason
from llama_halo.controllers.state import OperatorState
from llama_halo.errors import ClusterError
from llama_halo.kube.apply import Applied, apply_and_prune
from llama_halo.kube.cache import Object
from llama_halo.plan.outcome import Invalid, Outcome, Plan, Wait

FORBIDDEN_RETRY_SECONDS = 10
COLLECTED_RETRY_SECONDS = 2
CONTESTED_SECONDS = 30
RECORDED_SECONDS = 1
"""By then the status has the Jobs' results, so the next plan can delete the Jobs."""
IDLE_SECONDS = 2
"""A gateway that has crashed does not report the end of its requests."""
TURN_SECONDS = 15
"""Another model's rollout may have failed, which releases its turn."""
CONFLICT_SECONDS = 15
"""The operator does not watch the other owner's object."""
FAILING_SECONDS = 60
"""A failure that lasts becomes Stalled, even if no watch event triggers a reconcile."""


async def apply_plan(state: OperatorState, cr: Object, outcome: Outcome) -> tuple[Applied, Outcome]:
    """Apply a plan; return the result, and the outcome that the status should report.

    A write that is forbidden, blocked or contested makes it Wait, a refused one Invalid.
    """
    if not isinstance(outcome, Plan):
        return Applied(), outcome
    try:
        applied = await apply_and_prune(
            state.cluster, state.cache, state.repair_limiter, cr, outcome
        )
    except ClusterError as error:
        if error.status != 403 or error.causes:
            raise
        return Applied(), Wait(
            Reason.RETRYING, f"the API server forbids a write: {error}", FORBIDDEN_RETRY_SECONDS
        )
    if applied.refused:
        return applied, Invalid(Reason.INVALID_SPEC, applied.refused)
    if applied.blocked:
        return applied, Wait(Reason.RETRYING, applied.blocked, COLLECTED_RETRY_SECONDS)
    if applied.contested:
        return applied, Wait(Reason.RETRYING, applied.contested, CONTESTED_SECONDS)
    return applied, outcome


def requeue_after(outcome: Outcome, reason: str) -> float | None:
    """Return the seconds until the next reconcile if no change comes first, or None."""
    if isinstance(outcome, Wait):
        return outcome.after_seconds
    if isinstance(outcome, Plan) and outcome.unrecorded:
        return RECORDED_SECONDS
    if isinstance(outcome, Plan) and outcome.idle_deadline:
        return IDLE_SECONDS
    if isinstance(outcome, Plan) and outcome.awaits_turn:
        return TURN_SECONDS
    if reason == Reason.NAME_CONFLICT:
        return CONFLICT_SECONDS
    return FAILING_SECONDS if reason in FAILED_REASONS else None

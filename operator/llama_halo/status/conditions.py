"""Conditions by the rules of kstatus, so that `kubectl wait` and Flux need no configuration.

Ready=True: this generation is in the desired state. Reconciling=True: work is in progress.
Stalled=True: only a person can help. The last two are present only while they are true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_halo.contract.reasons import (
    FAILED_REASONS,
    READY_REASONS,
    STALLED_REASONS,
    STEP_REASONS,
    ConditionType,
    Reason,
)
from llama_halo.contract.text import printable

MESSAGE_LIMIT = 2048


@dataclass(frozen=True)
class Verdict:
    """The verdict from which Ready, Available, Reconciling and Stalled are derived."""

    reason: Reason
    message: str
    stalled: bool = False
    available: bool = False
    available_message: str = ""

    @property
    def ready(self) -> bool:
        return self.reason in READY_REASONS


Detail = tuple[ConditionType, str, str, str]
"""Type, status, reason, message."""


def conditions(
    verdict: Verdict,
    *,
    generation: int,
    previous: Mapping[str, Any],
    now: str,
    details: Sequence[Detail] = (),
) -> list[dict[str, Any]]:
    """Return all conditions; lastTransitionTime changes only when a condition's status does."""
    all_details: list[Detail] = [
        (ConditionType.READY, _text(verdict.ready), verdict.reason, verdict.message),
        (
            ConditionType.AVAILABLE,
            _text(verdict.available),
            "Answering" if verdict.available else "NotAnswering",
            verdict.available_message,
        ),
    ]
    if not verdict.ready:
        kind = ConditionType.STALLED if verdict.stalled else ConditionType.RECONCILING
        all_details.append((kind, "True", verdict.reason, verdict.message))
    all_details += details
    old = {earlier["type"]: earlier for earlier in previous.get("conditions", ())}
    return [
        {
            "type": str(kind),
            "status": status,
            "reason": str(reason),
            "message": printable(message)[:MESSAGE_LIMIT],
            "observedGeneration": generation,
            "lastTransitionTime": _since(old.get(kind), status, now),
        }
        for kind, status, reason, message in all_details
    ]


def condition(status: Mapping[str, Any], kind: ConditionType) -> Mapping[str, Any]:
    """Return one condition of a status, empty when it is absent."""
    current: Sequence[Mapping[str, Any]] = status.get("conditions", ())
    return next((item for item in current if item["type"] == kind), {})


def failure_of(status: Mapping[str, Any]) -> tuple[Reason, str] | None:
    """Return reason and message of the failure that a status reports, None when it reports none."""
    ready = condition(status, ConditionType.READY)
    reasons = {reason.value: reason for reason in FAILED_REASONS | STALLED_REASONS}
    reason = reasons.get(ready.get("reason", ""))
    return (reason, str(ready.get("message", ""))) if reason else None


def is_next_step(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Tell whether a new status reports only the next step of a start or rollout."""
    same_generation = old.get("observedGeneration") == new["observedGeneration"]
    return (
        same_generation
        and _answers(old) == _answers(new)
        and all(
            condition(status, ConditionType.READY).get("reason") in STEP_REASONS
            for status in (old, new)
        )
        and not any(condition(ready, ConditionType.STALLED) for ready in (old, new))
    )


def _answers(status: Mapping[str, Any]) -> Any:
    """Return what gateways read: whether the model answers, and its servers' addresses."""
    placements = status.get("placements", ())
    addresses = [placement["address"] for placement in placements if placement.get("address")]
    return condition(status, ConditionType.AVAILABLE).get("status"), addresses


def not_ready_since(status: Mapping[str, Any]) -> str:
    """Return the time since which Ready is not True; empty if it is True or absent."""
    ready = condition(status, ConditionType.READY)
    return "" if ready.get("status") == "True" else str(ready.get("lastTransitionTime", ""))


def _since(old: Mapping[str, Any] | None, status: str, now: str) -> str:
    return str(old["lastTransitionTime"]) if old and old["status"] == status else now


def _text(value: bool) -> str:
    return "True" if value else "False"

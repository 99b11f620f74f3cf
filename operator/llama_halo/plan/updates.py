"""Decides when a change reaches a running model: at once, or when its requests are done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract.lease import BUSY_SECONDS
from llama_halo.contract.model import WHEN_IDLE
from llama_halo.plan.facts import ModelFacts
from llama_halo.plan.quantity import seconds

DEFAULT_TIMEOUT = "10m"


def rolls_when_idle(spec: LlamaModelSpec) -> bool:
    """Tell whether a change waits until a model's requests are done."""
    return spec.update is not None and spec.update.mode == WHEN_IDLE


def timeout(spec: LlamaModelSpec) -> str:
    """Return the longest time that a change waits for an idle model, as a Go duration."""
    return (spec.update and spec.update.timeout) or DEFAULT_TIMEOUT


@dataclass(frozen=True)
class UpdateDecision:
    """The nodes where the running version is replaced now, and why it stays on the others."""

    rolls: frozenset[str] = frozenset()
    keeps: frozenset[str] = frozenset()
    """Nodes where the earlier version stays for now."""
    awaits_turn: frozenset[str] = frozenset()
    """Those of `keeps` where another model holds the rollout turn."""
    awaits_idle: frozenset[str] = frozenset()
    """Those of `keeps` where the model may have requests."""
    later: frozenset[str] = frozenset()
    """Nodes to which the model moves once its requests are done on its current nodes."""
    is_done: bool = False
    """Whether every running Deployment has the new version and is on a target node."""


def decide_update(
    spec: LlamaModelSpec, facts: ModelFacts, targets: Iterable[tuple[str, int]], config_hash: str
) -> UpdateDecision:
    """Decide for each target, a (node, pods) pair.

    Replicas roll one after another: while one rolls out, the others keep their version.
    """
    live = {deployment.node: deployment for deployment in facts.deployments}
    nodes = sorted(node for node, pods in targets if pods)
    running = [live[node] for node in nodes if node in live]
    rolling = any(
        deployment.config_hash == config_hash and not deployment.settled for deployment in running
    )
    is_used = _is_used(spec, facts)
    rolls, keeps, turn, idle = set[str](), set[str](), set[str](), set[str]()
    for deployment in running:
        if not deployment.runs or deployment.config_hash == config_hash:
            continue
        if deployment.node in facts.rolling_elsewhere:
            turn.add(deployment.node)
        # A pod that does not answer serves no request, so its rollout need not wait.
        elif is_used and deployment.answers and not rolling:
            idle.add(deployment.node)
        elif not rolling:
            rolling = True
            rolls.add(deployment.node)
            continue
        keeps.add(deployment.node)
    leaves, later = _moves(facts, nodes) if is_used else (set(), set())
    return UpdateDecision(
        rolls=frozenset(rolls),
        keeps=frozenset(keeps | leaves),
        awaits_turn=frozenset(turn),
        awaits_idle=frozenset(idle | leaves),
        later=frozenset(later),
        is_done=all(
            deployment.node in nodes and deployment.config_hash == config_hash
            for deployment in facts.deployments
            if deployment.runs
        ),
    )


def _moves(facts: ModelFacts, nodes: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return the nodes that the model leaves while its pods answer, and those that replace them.

    Both are empty when no new node replaces one: a removal does not wait.
    """
    runs = {deployment.node for deployment in facts.deployments if deployment.runs}
    fetching = facts.assignment.fetch_to if facts.assignment else ()
    leaves = {
        deployment.node
        for deployment in facts.deployments
        if deployment.runs and deployment.answers
    }
    leaves -= {*nodes, *fetching}
    new = [node for node in nodes if node not in runs]
    return (leaves if new else set()), set(new[: len(leaves)])


def _is_used(spec: LlamaModelSpec, facts: ModelFacts) -> bool:
    """Tell whether a change has to wait: the model is in use, or its usage is not known yet."""
    if not rolls_when_idle(spec) or facts.awaited_seconds >= seconds(timeout(spec)):
        return False
    usage = facts.usage
    # A Lease without entries proves nothing until every active gateway has had time to write to it.
    return usage.busy or not usage.trusted or usage.resident_seconds < BUSY_SECONDS

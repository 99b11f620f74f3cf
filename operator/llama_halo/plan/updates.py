"""How a change reaches a model that runs: at once, or when its requests are done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract.lease import BUSY_SECONDS
from llama_halo.plan.facts import ModelFacts
from llama_halo.plan.quantity import seconds

WHEN_IDLE = "WhenIdle"
DEFAULT_TIMEOUT = "10m"


def rolls_when_idle(spec: LlamaModelSpec) -> bool:
    """Tell whether a change waits until a model's requests are done."""
    return spec.update is not None and spec.update.mode == WHEN_IDLE


def timeout(spec: LlamaModelSpec) -> str:
    """Return for how long a change waits at most, as a Go duration."""
    return (spec.update and spec.update.timeout) or DEFAULT_TIMEOUT


@dataclass(frozen=True)
class Update:
    """Where a running version is replaced now, and what the others wait for; all by node."""

    rolls: frozenset[str] = frozenset()
    keeps: frozenset[str] = frozenset()
    """Where the earlier version stays for now."""
    awaits_turn: frozenset[str] = frozenset()
    """Of those: another model is on its way there."""
    awaits_idle: frozenset[str] = frozenset()
    """Of those: its requests are not done."""
    later: frozenset[str] = frozenset()
    """Where the model moves to, once its requests are done where it is."""
    is_done: bool = False
    """All that runs is of the new version, and where it is to be."""


def update_of(
    spec: LlamaModelSpec, facts: ModelFacts, targets: Iterable[tuple[str, int]], config_hash: str
) -> Update:
    """Decide for each (node, pods) of a plan; replicas roll one after another: while one is on its
    way, the others keep their version."""
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
        # What does not answer works for nobody, whatever waits for it.
        elif is_used and deployment.answers and not rolling:
            idle.add(deployment.node)
        elif not rolling:
            rolling = True
            rolls.add(deployment.node)
            continue
        keeps.add(deployment.node)
    leaves, later = _moves(facts, nodes) if is_used else (set(), set())
    return Update(
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
    """Return the nodes that a model answers on and is to leave, and those that it goes to instead;
    what is only to be gone waits for nobody."""
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
    """Tell whether a change has to wait: somebody uses the model, or nobody knows yet."""
    if not rolls_when_idle(spec) or facts.awaited_seconds >= seconds(timeout(spec)):
        return False
    usage = facts.usage
    # Nor does a Lease say anything by its silence before every gateway at work has written there.
    return usage.busy or not usage.trusted or usage.resident_seconds < BUSY_SECONDS

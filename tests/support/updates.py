"""Plans of a model that runs while its spec changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract.lease import Phase
from llama_halo.plan import children
from llama_halo.plan.facts import Assignment, DeploymentFacts, ModelUsage
from llama_halo.plan.llamamodel import plan_llamamodel
from llama_halo.plan.outcome import Plan
from tests.support.plans import BASE, demand_of, facts_of

WHEN_IDLE = {"update": {"mode": "WhenIdle"}}
HUB = {"huggingFace": {"repo": "a/b", "file": "c.gguf"}}
QUIET = ModelUsage(phase=Phase.LOADED, resident_seconds=60.0)
BUSY = replace(QUIET, busy=True)


def old(node: str = "n1", **more: Any) -> DeploymentFacts:
    name = children.deployment_name("coder", node)
    return DeploymentFacts(name, node, "old", **{"settled": True, **more})


def plan(
    update: Any,
    usage: ModelUsage,
    *running: DeploymentFacts,
    nodes: tuple[str, ...] = (),
    **more: Any,
) -> Plan:
    nodes = nodes or tuple(entry.node for entry in running)
    spec = LlamaModelSpec.model_validate({**BASE, **update, "replicas": len(nodes)})
    decided = Assignment(demand_of(spec), nodes)
    facts = facts_of(spec, decided, deployments=running, usage=usage)
    outcome = plan_llamamodel(spec, replace(facts, **more))
    assert isinstance(outcome, Plan), outcome
    return outcome

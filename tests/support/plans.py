"""Plans of a LlamaModel from its spec, as the controllers make them."""

from __future__ import annotations

from typing import Any

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.plan import children
from llama_halo.plan.facts import (
    Assignment,
    DeploymentFacts,
    FileFacts,
    ModelFacts,
    Owner,
    ResourceDemand,
)
from llama_halo.plan.llamamodel import demand
from llama_halo.plan.sizing import sizing_of
from tests.support.golden import DEFAULTS

OWNER = Owner("LlamaModel", "llm", "coder", "uid-1", 1)
NO_FILES = FileFacts()
BASE: dict[str, Any] = {
    "source": {"local": {"path": "x.gguf"}},
    "contextSize": 4096,
    "memory": {"gpu": "10Gi", "host": "2Gi"},
}


def demand_of(
    spec: LlamaModelSpec, files: FileFacts = NO_FILES, owner: Owner = OWNER
) -> ResourceDemand | None:
    """Return what a model with these files asks of the nodes."""
    return demand(owner, spec, files, sizing_of(spec, files))


def facts_of(
    spec: LlamaModelSpec,
    assignment: Assignment | None = None,
    *,
    files: FileFacts = NO_FILES,
    owner: Owner = OWNER,
    **more: Any,
) -> ModelFacts:
    """Return the facts of a model with these files, as sized by them."""
    return ModelFacts(
        owner=owner,
        assignment=assignment,
        files=files,
        sizing=sizing_of(spec, files),
        **{"defaults": DEFAULTS, **more},
    )


def live(node: str, config_hash: str, *, settled: bool = True, **more: Any) -> DeploymentFacts:
    """Return a Deployment of the model on a node."""
    name = children.deployment_name("coder", node)
    return DeploymentFacts(name, node, config_hash, settled, **more)

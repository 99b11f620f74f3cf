"""A resource in YAML -> the objects of its plan, with the facts of a made-up cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.plan import children
from llama_halo.plan.facts import (
    Assignment,
    ChatTemplateFacts,
    Defaults,
    DeploymentFacts,
    FileFacts,
    ModelFacts,
    Owner,
    RouterFacts,
)
from llama_halo.plan.llamamodel import demand, plan_llamamodel
from llama_halo.plan.modelrouter import plan_modelrouter
from llama_halo.plan.outcome import Outcome
from llama_halo.plan.sizing import sizing_of
from llama_halo.settings import DEFAULT_ENGINE_IMAGES, DEFAULT_IMAGES, DEFAULT_WHISPER_IMAGES

CASES = Path(__file__).parents[1] / "golden" / "cases"
NODES = ("halo-1", "halo-2")
TEMPLATE = "{%- for message in messages %}{{ message.content }}{%- endfor %}"
UID = "6f2d1c3e-0000-4000-8000-000000000001"
DEFAULTS = Defaults(
    images=DEFAULT_IMAGES,
    store_path="/var/lib/llama-halo/models",
    gateway_image="ghcr.io/llama-halo/llama-halo:0.1.0",
    whisper_images=DEFAULT_WHISPER_IMAGES,
    engine_images=DEFAULT_ENGINE_IMAGES,
)


def cases() -> list[Path]:
    """Return the input files."""
    return sorted(path for path in CASES.glob("*.yaml") if ".golden" not in path.name)


def load(path: Path) -> dict[str, Any]:
    """Return the resource of a case."""
    resource: dict[str, Any] = yaml.safe_load(path.read_text())
    return resource


def plan(resource: dict[str, Any], *, uid: str = UID) -> Outcome:
    """Plan a resource on two empty nodes; a model at 0 replicas had a Deployment on the first."""
    metadata = resource["metadata"]
    owner = Owner(resource["kind"], metadata["namespace"], metadata["name"], uid, 1)
    if resource["kind"] == "ModelRouter":
        router = ModelRouterSpec.model_validate(resource["spec"])
        listed = {model.model_ref.name for model in router.models or () if model.model_ref}
        selected = {"selected"} if router.model_selector else set()
        return plan_modelrouter(router, RouterFacts(owner, DEFAULTS, frozenset(listed | selected)))
    spec = LlamaModelSpec.model_validate(resource["spec"])
    template = ChatTemplateFacts(TEMPLATE if spec.chat_template else "")
    sizing = sizing_of(spec, FileFacts())
    model_demand = demand(owner, spec, FileFacts(), sizing)
    assert model_demand is not None
    name = children.deployment_name(owner.name, NODES[0])
    old = DeploymentFacts(name=name, node=NODES[0], config_hash="", settled=True)
    facts = ModelFacts(
        owner=owner,
        defaults=DEFAULTS,
        assignment=Assignment(model_demand, NODES[: model_demand.replicas]),
        deployments=() if model_demand.replicas else (old,),
        files=FileFacts(chat_template=template),
        sizing=sizing,
    )
    return plan_llamamodel(spec, facts)

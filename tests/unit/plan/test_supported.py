"""Every field of the schema is acted on or refused by name; none is ignored."""

from __future__ import annotations

from typing import Any

import pytest

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.plan.supported import unsupported_in_model

SOURCE = {"local": {"path": "x.gguf"}}
REFUSED_IN_MODEL: list[tuple[str, dict[str, Any]]] = [
    ("pod.affinity", {"pod": {"affinity": {"podAffinity": {}}}}),
]


@pytest.mark.parametrize(("field", "more"), REFUSED_IN_MODEL, ids=lambda value: str(value)[:40])
def test_a_model_field_of_a_later_release_is_refused_by_name(
    field: str, more: dict[str, Any]
) -> None:
    refusal = unsupported_in_model(LlamaModelSpec.model_validate({"source": SOURCE, **more}))
    assert refusal is not None
    assert refusal.message.startswith(f"spec.{field} is not supported yet: ")


def test_what_is_supported_is_not_refused() -> None:
    assert unsupported_in_model(LlamaModelSpec.model_validate({"source": SOURCE})) is None


# Fields of spec that plan, placement or gateway read; a new field must go here or be refused.
ACTED_ON_IN_MODEL = {
    "displayName", "description", "source", "store", "mode", "contextSize", "parallel",
    "cacheType", "gpuLayers", "batchSize", "microBatchSize", "threads", "promptCacheMiB",
    "flashAttention", "reasoning", "extraArgs", "env", "backend", "image", "command", "devices",
    "projector", "draft", "adapters", "chatTemplate", "memory", "replicas", "activation", "update",
    "aliases", "verify", "suspend", "pod",
}  # fmt: skip
ACTED_ON_IN_ROUTER = {
    "engine", "models", "modelSelector", "providers", "routes", "fallbacks", "auth", "hold",
    "service", "hostPort", "replicas", "suspend", "pod",
}  # fmt: skip


def test_no_field_is_ignored() -> None:
    for model, acted_on, refused in (
        (LlamaModelSpec, ACTED_ON_IN_MODEL, REFUSED_IN_MODEL),
        (ModelRouterSpec, ACTED_ON_IN_ROUTER, []),
    ):
        expected = {str(field.alias or name) for name, field in model.model_fields.items()}
        assert expected == acted_on | {path.split(".")[0].split(":")[0] for path, _ in refused}

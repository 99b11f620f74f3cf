"""Which model a name selects."""

from __future__ import annotations

import pytest

from llama_halo.contract.gateway_config import GatewayConfig, RoutesConfig
from llama_halo.gateway.models.model import Model
from llama_halo.gateway.routing.features import RequestFeatures
from llama_halo.gateway.routing.table import RoutingTable

CONFIG = GatewayConfig.model_validate(
    {
        "router": "main",
        "namespace": "llm",
        "models": [
            {"name": "big", "llama_model": "large", "aliases": ["claude-opus-*", "gpt-4o"]},
            {"name": "small", "llama_model": "little", "aliases": ["claude-*", "gpt-4o"]},
        ],
        "model_labels": {"tier": "agents"},
        "routes": {"default": "small", "background": "small"},
    }
)


def model(name: str, *aliases: str, labels: dict[str, str] | None = None) -> Model:
    return Model(
        name, f"http://{name}", True, "Serving", aliases, labels=frozenset((labels or {}).items())
    )


MODELS = {
    item.name: item
    for item in (
        model("large", "qwen", "gpt-4o-mini"),
        model("little", "gpt-4o-mini"),
        model("found", "vision", labels={"tier": "agents", "x": "y"}),
        model("other", "elsewhere", labels={"tier": "none"}),
    )
}


@pytest.mark.parametrize(
    ("name", "background", "target"),
    [
        ("big", True, "big explicit"),
        ("gpt-4o", False, "big explicit"),
        ("qwen", False, "big explicit"),
        ("large", False, "big explicit"),
        ("gpt-4o-mini", False, "big explicit"),
        ("found", False, "found explicit"),
        ("vision", False, "found explicit"),
        ("elsewhere", False, None),
        ("default", False, "small default"),
        ("background", False, "small background"),
        ("think", False, None),
        ("claude-opus-5", False, "big explicit"),
        ("claude-opus-5", True, "small background"),
        ("claude-sonnet-5", False, "small explicit"),
        ("nope", False, None),
        ("gpt-5", True, None),
    ],
)
def test_a_name_becomes_a_model(name: str, background: bool, target: str | None) -> None:
    value = RoutingTable.build(CONFIG, MODELS).resolve(name, RequestFeatures(background=background))
    assert (value and f"{value.name} {value.route}") == target


def test_without_a_pattern_claude_goes_to_the_default_route() -> None:
    config = CONFIG.model_copy(update={"models": (), "routes": RoutesConfig(default="found")})
    target = RoutingTable.build(config, MODELS).resolve("claude-sonnet-5", RequestFeatures())
    assert target is not None
    assert (target.name, target.route) == ("found", "default")

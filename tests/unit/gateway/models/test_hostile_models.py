"""A LlamaModel with anything in it leaves the other models of a gateway as they are."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from llama_halo.api_server import ApiServer
from llama_halo.contract.gateway_config import GatewayConfig
from llama_halo.gateway import listing
from llama_halo.gateway.http.json_codec import dumps
from llama_halo.gateway.models.registry import ModelRegistry
from llama_halo.gateway.routing.features import RequestFeatures
from llama_halo.gateway.routing.table import RoutingTable
from tests.support.mutations import mutated

CONFIG = GatewayConfig.model_validate(
    {"router": "main", "namespace": "llm", "model_labels": {"team": "core"}}
)
INNOCENT: dict[str, Any] = {
    "metadata": {"name": "coder", "labels": {"team": "core"}},
    "spec": {"aliases": ["gpt-4"]},
    "status": {
        "endpoint": "http://coder",
        "conditions": [{"type": "Available", "status": "True"}],
    },
}
HOSTILE: dict[str, Any] = {
    "metadata": {
        "name": "bad",
        "labels": {"team": "core"},
        "creationTimestamp": "2026-01-01T00:00:00Z",
    },
    "spec": {
        "aliases": ["gpt-5", "claude-*"],
        "mode": "Chat",
        "parallel": 4,
        "displayName": "Bad",
        "contextSize": 4096,
        "activation": {"onDemand": {"idleTimeout": "1m"}},
        "update": {"mode": "WhenIdle"},
    },
    "status": {
        "endpoint": "http://bad",
        "nodeSummary": "n1",
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "Serving"},
            {"type": "Available", "status": "True"},
        ],
        "placements": [{"node": "n1", "address": "10.0.0.1:8080", "reason": "Serving"}],
        "model": {
            "architecture": "llama",
            "capabilities": ["Tools", "Vision"],
            "parameters": "3B",
            "quantization": "Q4_K_M",
            "sizeMiB": 1000,
            "contextSize": 8192,
        },
        "memory": {"totalMiB": 2000},
    },
}


@given(events=st.lists(mutated(HOSTILE), max_size=4))
@example(events=[HOSTILE, {**HOSTILE, "spec": {"aliases": [5]}}])
@example(events=[HOSTILE, {**HOSTILE, "spec": {"aliases": ["\ud800"]}}])
@example(events=[{**HOSTILE, "metadata": {"name": "bad", "creationTimestamp": "x"}}])
@settings(max_examples=300)
def test_an_innocent_model_is_found_and_listed(events: list[Any]) -> None:
    registry = ModelRegistry(ApiServer(), "llm")
    registry._apply_event("ADDED", "coder", INNOCENT)
    for cr in events:
        registry._apply_event("MODIFIED", "bad", cr)
    table = RoutingTable.build(CONFIG, registry.models)
    for name in ("coder", "gpt-4"):
        target = table.resolve(name, RequestFeatures())
        assert target is not None, name
        assert table.model_of(target) == registry.models["coder"]
    dumps(listing.listing(table))
    dumps(listing.tags(table))
    dumps(listing.running(table))

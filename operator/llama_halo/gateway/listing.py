"""`/v1/models`: one body that the OpenAI and the Anthropic SDKs both read; pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from llama_halo.gateway.config import GatewayConfig
from llama_halo.gateway.models import Model
from llama_halo.gateway.routing import exact_names, targets

_EPOCH = "1970-01-01T00:00:00Z"


def listing(config: GatewayConfig, models: Mapping[str, Model]) -> dict[str, Any]:
    """Return the list of every exact name, whether or not its model answers now."""
    data = [entry(config, models, name) for name in names(config, models)]
    return {
        "object": "list",
        "data": data,
        "has_more": False,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def names(config: GatewayConfig, models: Mapping[str, Model]) -> list[str]:
    """Return every exact name, the router's own first."""
    own = targets(config, models)
    return [*own, *(name for name in exact_names(config, models) if name not in own)]


def entry(config: GatewayConfig, models: Mapping[str, Model], name: str) -> dict[str, Any]:
    """Return one name's entry."""
    served = targets(config, models)
    own = name if name in served else exact_names(config, models)[name]
    model = models.get(served[own])
    created = (model.created if model else "") or _EPOCH
    found: dict[str, Any] = {
        "id": name,
        "object": "model",
        "type": "model",
        "created": int(datetime.fromisoformat(created).timestamp()),
        "created_at": created,
        "owned_by": "llama-halo",
        "display_name": (model.display_name if model else "") or name,
        "available": bool(model and model.available),
    }
    if model and model.context_size_tokens:
        found["context_length"] = model.context_size_tokens
        found["max_model_len"] = model.context_size_tokens
    return found

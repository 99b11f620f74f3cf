"""Lists of models: one body that the OpenAI and Anthropic SDKs both read, and Ollama's bodies."""

from __future__ import annotations

import re
from datetime import datetime
from hashlib import sha256
from typing import Any

from llama_halo.contract.model import Mode
from llama_halo.gateway.models.model import Model
from llama_halo.gateway.routing.table import RoutingTable

_PARAMETERS = re.compile(r"(\d+(?:\.\d+)?)([MBT])")
_UNITS = {"M": 10**6, "B": 10**9, "T": 10**12}
_EPOCH, _NEVER = "1970-01-01T00:00:00Z", "2318-01-01T00:00:00Z"


def listing(table: RoutingTable) -> dict[str, Any]:
    """Return the body of `/v1/models`: every exact name, whether or not its model is available."""
    data = [entry(name, model) for name, model in table.models_by_name().items()]
    return {
        "object": "list",
        "data": data,
        "has_more": False,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def entry(name: str, model: Model | None) -> dict[str, Any]:
    """Return the `/v1/models` entry of a name; `model` is None while it does not exist."""
    created = (model.created if model else "") or _EPOCH
    fields: dict[str, Any] = {
        "id": name,
        "object": "model",
        "type": "model",
        "created": int(datetime.fromisoformat(created).timestamp()),
        "created_at": created,
        "owned_by": "llama-halo",
        "display_name": (model.display_name if model else "") or name,
        "available": bool(model and model.available),
    }
    if model and model.context_size:
        fields["context_length"] = model.context_size
        fields["max_model_len"] = model.context_size
    return fields


def tags(table: RoutingTable) -> dict[str, Any]:
    """Return the body of `/api/tags`; a name without a tag gets `:latest`."""
    return {"models": [_tag(name, model) for name, model in table.models_by_name().items()]}


def running(table: RoutingTable) -> dict[str, Any]:
    """Return the body of `/api/ps`: the available models of the cluster."""
    own = {name: table.models.get(key) for name, key in table.served.items()}
    return {
        "models": [
            {
                **_tag(name, model),
                "expires_at": _NEVER,
                "size_vram": model.memory_mib * 2**20,
                "context_length": model.context_size,
            }
            for name, model in own.items()
            if model and model.available and not model.provider
        ]
    }


def show(name: str, model: Model | None) -> dict[str, Any]:
    """Return the body of `/api/show`."""
    tag = _tag(name, model)
    architecture = (model and model.architecture) or "llama"
    # Clients take the model's name and size from here.
    about: dict[str, Any] = {
        "general.architecture": architecture,
        "general.basename": name,
        "general.name": name,
    }
    if count := _parameter_count(model):
        about["general.parameter_count"] = count
    if model and model.context_size:
        about[f"{architecture}.context_length"] = model.context_size
    return {
        "license": "",
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": tag["details"],
        "model_info": about,
        "capabilities": tag["capabilities"],
        "modified_at": tag["modified_at"],
    }


def _tag(name: str, model: Model | None) -> dict[str, Any]:
    whole = name if ":" in name else f"{name}:latest"
    family = (model and model.architecture) or ""
    return {
        "name": whole,
        "model": whole,
        "modified_at": (model and model.created) or _EPOCH,
        "size": (model.size_mib if model else 0) * 2**20,
        "digest": sha256(name.encode()).hexdigest(),
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": family,
            "families": [family] if family else [],
            "parameter_size": (model and model.parameters) or "",
            "quantization_level": (model and model.quantization) or "",
        },
        "capabilities": _capabilities(model),
    }


def _parameter_count(model: Model | None) -> int:
    """Return a model's parameters as a number; 0 if they are not known."""
    match = _PARAMETERS.fullmatch(model.parameters) if model else None
    return round(float(match[1]) * _UNITS[match[2]]) if match else 0


def _capabilities(model: Model | None) -> list[str]:
    """Return Ollama's capabilities: `embedding` alone, or none, for a model that does not chat."""
    if model and model.mode != Mode.CHAT:
        return ["embedding"] if model.mode == Mode.EMBEDDING else []
    return [
        "completion",
        *(capability.lower() for capability in (model.capabilities if model else ())),
    ]

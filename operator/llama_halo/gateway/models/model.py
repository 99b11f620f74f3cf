"""The gateway's view of the LlamaModels of its namespace, and of the providers' models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, TypeVar

from llama_halo.api_server import Json, entry_of
from llama_halo.contract.gateway_config import GatewayConfig, ProviderConfig
from llama_halo.contract.model import VISION, WHEN_IDLE, Mode
from llama_halo.contract.reasons import ConditionType, Reason
from llama_halo.errors import MalformedAnswer

_Value = TypeVar("_Value")
MAX_NUMBER = 2**40


@dataclass(frozen=True)
class Model:
    """One LlamaModel as the gateway uses it, or one model of a provider."""

    name: str
    endpoint: str
    """URL of its Service, without a path; empty until the operator has published it."""
    available: bool
    state: str
    """The reason of its Ready condition, for messages."""
    aliases: tuple[str, ...] = ()
    display_name: str = ""
    context_size: int = 0
    created: str = ""
    labels: frozenset[tuple[str, str]] = frozenset()
    accepts_images: bool | None = None
    """None while it is not known."""
    mode: str = Mode.CHAT
    """What its server is for: Chat, Embedding, Rerank or Transcription."""
    parallel: int = 1
    """Requests that each of its servers works on at once."""
    architecture: str = ""
    capabilities: tuple[str, ...] = ()
    parameters: str = ""
    quantization: str = ""
    size_mib: int = 0
    node: str = ""
    memory_mib: int = 0
    on_demand: bool = False
    """Loaded when a request for it arrives."""
    has_lease: bool = False
    """Gateways write entries on its Lease: it is on demand, or rolls when idle."""
    serving: tuple[str, ...] = ()
    """URLs of the replicas that serve."""
    starting: tuple[str, ...] = ()
    """URLs of the replicas that have an address but do not serve yet, by the status."""
    provider: ProviderConfig | None = None
    """The provider that serves it; None for a LlamaModel."""
    provider_name: str = ""
    """The provider's own name for it."""
    max_tokens: int | None = None
    """The most tokens of one answer that a provider's model may give."""

    @property
    def concurrency_key(self) -> str:
        """Key of its queue: all models of a provider share one limit."""
        return f"{self.provider.name}/" if self.provider else self.name


# States that pass by themselves: requests wait. In any other state, clients get an error at once.
_TRANSIENT_STATES = frozenset(
    {
        *(Reason.SCHEDULING, Reason.PULLING_IMAGE, Reason.LOADING, Reason.ROLLING),
        *(Reason.DRAINING, Reason.STARTING, Reason.SERVING, Reason.IDLE),
        *(Reason.WAITING_FOR_MEMORY, Reason.RETRYING),
    }
)


def serves(model: Model | None, mode: str) -> bool:
    """Tell whether a model serves requests of a mode.

    True for a missing model and for a provider's model, whose mode is not known. A chat model may
    also transcribe.
    """
    if model is None or model.provider:
        return True
    return model.mode == mode or (mode == Mode.TRANSCRIPTION and model.mode == Mode.CHAT)


def is_coming_up(model: Model) -> bool:
    """Tell whether an unavailable model is likely to become available while a request waits."""
    return not model.available and model.state in _TRANSIENT_STATES


def servers(model: Model, session: str) -> list[str]:
    """Return the URLs of a model's servers, the best for a session first.

    Rendezvous hashing keeps a session on the replica that has its prompt in the cache, for as long
    as that replica exists. Without a known replica, the Service's URL is the only one.
    """

    def rank(url: str) -> str:
        return sha256(f"{session} {url}".encode(errors="replace")).hexdigest()

    candidates = model.serving if model.available else model.starting
    return sorted(candidates, key=rank) or ([model.endpoint] if model.endpoint else [])


def urls(model: Model, server: str) -> list[str]:
    """Return the URLs to try in turn: the server that has a slot, the other replicas, the Service.

    The Service is for when the known addresses are out of date.
    """
    others = [other for other in servers(model, server) if other != server]
    return list(dict.fromkeys([server, *others, model.endpoint or server]))


def provider_models(config: GatewayConfig) -> dict[str, Model]:
    """Return the models of providers by key; all count as available until a request fails."""
    providers = {provider.name: provider for provider in config.providers}
    return {
        model.key: Model(
            name=model.key,
            endpoint=providers[model.provider].base_url,
            available=True,
            state="Elsewhere",
            parallel=providers[model.provider].max_concurrent,
            provider=providers[model.provider],
            provider_name=model.model,
            max_tokens=model.max_tokens,
        )
        for model in config.models
        if model.provider in providers
    }


def model_of(cr: Mapping[str, Any]) -> Model:
    """Read a LlamaModel resource; raises `MalformedAnswer` for a field of another type."""
    metadata, spec, status = (_field(cr, name, dict) for name in ("metadata", "spec", "status"))
    conditions = {
        _field(condition, "type", str): condition for condition in _objects(status, "conditions")
    }
    servers = [
        (placement.get("reason") == Reason.SERVING, f"http://{_field(placement, 'address', str)}")
        for placement in _objects(status, "placements")
        if placement.get("address")
    ]
    about, memory = _field(status, "model", dict), _field(status, "memory", dict)
    ready = _field(conditions, ConditionType.READY, dict)
    capabilities = _texts(about, "capabilities")
    on_demand = "onDemand" in _field(spec, "activation", dict)
    labels = _field(metadata, "labels", dict)
    return Model(
        name=entry_of(metadata, "name", str),
        accepts_images=VISION in capabilities if "architecture" in about else None,
        mode=_field(spec, "mode", str) or Mode.CHAT,
        parallel=_number(spec, "parallel") or 1,
        architecture=_field(about, "architecture", str),
        capabilities=capabilities,
        parameters=_field(about, "parameters", str),
        quantization=_field(about, "quantization", str),
        size_mib=_number(about, "sizeMiB"),
        node=_field(status, "nodeSummary", str),
        memory_mib=_number(memory, "totalMiB"),
        endpoint=_field(status, "endpoint", str),
        available=_field(conditions, ConditionType.AVAILABLE, dict).get("status") == "True",
        state=_field(ready, "reason", str) or "not seen by the operator yet",
        on_demand=on_demand,
        has_lease=on_demand or _field(spec, "update", dict).get("mode") == WHEN_IDLE,
        aliases=_texts(spec, "aliases"),
        display_name=_field(spec, "displayName", str),
        context_size=_number(about, "contextSize") or _number(spec, "contextSize"),
        serving=tuple(url for serves, url in servers if serves),
        starting=tuple(url for serves, url in servers if not serves),
        created=_timestamp(metadata, "creationTimestamp"),
        labels=frozenset((name, _field(labels, name, str)) for name in labels),
    )


def _field(obj: Mapping[str, Any], name: str, kind: type[_Value]) -> _Value:
    """Return a field, or the empty value of its type if it is absent or null."""
    return kind() if obj.get(name) is None else entry_of(obj, name, kind)


def _number(obj: Mapping[str, Any], name: str) -> int:
    number = _field(obj, name, int)
    if not 0 <= number < MAX_NUMBER:
        raise MalformedAnswer(f"{name} is no number from 0 to {MAX_NUMBER}")
    return number


def _timestamp(obj: Mapping[str, Any], name: str) -> str:
    text = _field(obj, name, str)
    try:
        if text:
            datetime.fromisoformat(text)
    except ValueError as error:
        raise MalformedAnswer(f"{name} is no time: {text[:40]!r}") from error
    return text


def _objects(obj: Mapping[str, Any], name: str) -> list[Json]:
    items = _field(obj, name, list)
    return [entry_of({name: item}, name, dict) for item in items]


def _texts(obj: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(entry_of({name: item}, name, str) for item in _field(obj, name, list))

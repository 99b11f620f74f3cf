"""The gateway's view of the LlamaModels of its namespace, and of the providers' models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from llama_halo.contract.gateway_config import GatewayConfig, ProviderConfig
from llama_halo.contract.model import VISION, WHEN_IDLE, Mode
from llama_halo.contract.reasons import ConditionType, Reason


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
        )
        for model in config.models
        if model.provider in providers
    }


def model_of(cr: Mapping[str, Any]) -> Model:
    """Read a LlamaModel resource."""
    metadata, spec, status = cr["metadata"], cr.get("spec", {}), cr.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    servers = [
        (placement.get("reason") == Reason.SERVING, f"http://{placement['address']}")
        for placement in status.get("placements", ())
        if placement.get("address")
    ]
    about, memory = status.get("model") or {}, status.get("memory") or {}
    capabilities = tuple(about.get("capabilities") or ())
    on_demand = "onDemand" in (spec.get("activation") or {})
    return Model(
        name=metadata["name"],
        accepts_images=VISION in capabilities if "architecture" in about else None,
        mode=spec.get("mode") or Mode.CHAT,
        parallel=spec.get("parallel") or 1,
        architecture=about.get("architecture", ""),
        capabilities=capabilities,
        parameters=about.get("parameters", ""),
        quantization=about.get("quantization", ""),
        size_mib=about.get("sizeMiB", 0),
        node=status.get("nodeSummary", ""),
        memory_mib=memory.get("totalMiB", 0),
        endpoint=status.get("endpoint", ""),
        available=conditions.get(ConditionType.AVAILABLE, {}).get("status") == "True",
        state=conditions.get(ConditionType.READY, {}).get("reason", "not seen by the operator yet"),
        on_demand=on_demand,
        has_lease=on_demand or (spec.get("update") or {}).get("mode") == WHEN_IDLE,
        aliases=tuple(spec.get("aliases", ())),
        display_name=spec.get("displayName", ""),
        context_size=about.get("contextSize") or spec.get("contextSize", 0),
        serving=tuple(url for serves, url in servers if serves),
        starting=tuple(url for serves, url in servers if not serves),
        created=metadata.get("creationTimestamp", ""),
        labels=frozenset((metadata.get("labels") or {}).items()),
    )

"""What the gateway knows of the LlamaModels of its namespace; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from llama_halo.contract.gateway_config import GatewayConfig, Provider
from llama_halo.contract.reasons import ConditionType, Reason

CHAT, EMBEDDING, RERANK, TRANSCRIPTION = "Chat", "Embedding", "Rerank", "Transcription"


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
    """Takes images; None while that is not known."""
    mode: str = CHAT
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
    """Loaded when somebody asks for it."""
    has_lease: bool = False
    """On which gateways say what they have in flight: it is on demand, or rolls when idle."""
    serving: tuple[str, ...] = ()
    """URLs of its servers that answer, each a replica."""
    starting: tuple[str, ...] = ()
    """URLs of servers that run, and do not answer yet as far as the operator knows."""
    provider: Provider | None = None
    """Who serves it, if that is not the cluster."""
    provider_name: str = ""
    """The provider's own name for it."""

    @property
    def concurrency_key(self) -> str:
        """What its requests are counted under: a provider's models have one limit together."""
        return f"{self.provider.name}/" if self.provider else self.name


# What a request waits for: it passes by itself. With other states a client is told at once.
_PASSING = frozenset(
    {
        *(Reason.SCHEDULING, Reason.PULLING_IMAGE, Reason.LOADING, Reason.ROLLING),
        *(Reason.DRAINING, Reason.STARTING, Reason.SERVING, Reason.IDLE),
        *(Reason.WAITING_FOR_MEMORY, Reason.RETRYING),
    }
)


def serves(model: Model | None, mode: str) -> bool:
    """Tell whether a model's server answers what is asked; of one that nobody knows, and of a
    provider's, it will show. A model that chats may hear, too."""
    if model is None or model.provider:
        return True
    return model.mode == mode or (mode == TRANSCRIPTION and model.mode == CHAT)


def comes_up(model: Model) -> bool:
    """Tell whether waiting is likely to bring an answer of a model that does not answer now."""
    return not model.available and model.state in _PASSING


def servers(model: Model, session: str) -> list[str]:
    """Return the URLs of a model's servers, the best for a session first.

    A session stays with its replica, which has its prompt in the cache, for as long as that is
    there (rendezvous hashing). Where none is known, the Service may know one.
    """

    def rank(url: str) -> str:
        return sha256(f"{session} {url}".encode(errors="replace")).hexdigest()

    candidates = model.serving if model.available else model.starting
    return sorted(candidates, key=rank) or ([model.endpoint] if model.endpoint else [])


def urls(model: Model, server: str) -> list[str]:
    """Return where to send a request that one server has a slot for; the Service is the way out
    when what was known is no longer so."""
    others = [other for other in servers(model, server) if other != server]
    return list(dict.fromkeys([server, *others, model.endpoint or server]))


def provider_models(config: GatewayConfig) -> dict[str, Model]:
    """Return the models of providers by their keys: whether they answer shows when they are
    asked."""
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
        accepts_images="Vision" in capabilities if "architecture" in about else None,
        mode=spec.get("mode") or CHAT,
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
        has_lease=on_demand or (spec.get("update") or {}).get("mode") == "WhenIdle",
        aliases=tuple(spec.get("aliases", ())),
        display_name=spec.get("displayName", ""),
        context_size=about.get("contextSize") or spec.get("contextSize", 0),
        serving=tuple(url for serves, url in servers if serves),
        starting=tuple(url for serves, url in servers if not serves),
        created=metadata.get("creationTimestamp", ""),
        labels=frozenset((metadata.get("labels") or {}).items()),
    )

"""The schema of the gateway's configuration: the operator renders it, the gateway reads it."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict

MIN_KEY_BYTES = 16
"""The least length of an API key, in bytes: a shorter one can be guessed."""


class _ConfigModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProviderConfig(_ConfigModel):
    """A service outside the cluster that serves models."""

    name: str
    protocol: Literal["OpenAI", "Anthropic", "Ollama"]
    base_url: str
    has_key: bool = False
    """Whether the folder of providers' keys has an API key in a file of its name."""
    max_concurrent: int = 64


class RoutedName(_ConfigModel):
    """One entry of the router's models: a LlamaModel, or a model of a provider.

    `aliases` are exact names or patterns.
    """

    name: str
    llama_model: str = ""
    provider: str = ""
    model: str = ""
    """The provider's own name for it."""
    max_tokens: int | None = None
    """The most tokens of one answer; a request for more asks a provider for this many."""
    aliases: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The gateway's key for the model; unique because no LlamaModel's name has a slash."""
        return self.llama_model or f"{self.provider}/{self.name}"


class LongContext(_ConfigModel):
    """The model for long prompts, and the number of tokens from which a prompt is long."""

    model: str
    threshold_tokens: int = 60000


class RoutesConfig(_ConfigModel):
    """The model for each task; a task without one goes to `default`."""

    default: str | None = None
    background: str | None = None
    think: str | None = None
    long_context: LongContext | None = None
    web_search: str | None = None
    image: str | None = None
    subagent: str | None = None


class GatewayConfig(_ConfigModel):
    """A router's policy; states and addresses of models come from the gateway's own watch."""

    router: str
    namespace: str
    models: tuple[RoutedName, ...] = ()
    model_labels: dict[str, str] = {}
    """The router also serves every LlamaModel with these labels; none if empty."""
    routes: RoutesConfig = RoutesConfig()
    providers: tuple[ProviderConfig, ...] = ()
    fallbacks: dict[str, tuple[str, ...]] = {}
    """By model: the models that answer in its place if it does not, in order."""
    hold_seconds: float = 600
    """The longest time that a request waits for its model."""
    ping_seconds: float = 15
    """The time without an event after which a streaming client gets a heartbeat; 0 for never."""
    reads_pdfs: bool = True
    """Whether a PDF becomes text for a model whose server takes none; else it is refused."""
    silence_seconds: float = 300
    """The time without data in the middle of an answer after which its server counts as gone."""

    def to_json(self) -> str:
        """Return canonical JSON: equal configurations render equal, so it can be hashed."""
        dumped = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(dumped, sort_keys=True, indent=1) + "\n"

"""The gateway's configuration: the operator renders it, the gateway reads it; one schema."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict

LEAST_LETTERS = 16
"""Of an API key: a shorter one is guessed."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Provider(_Part):
    """A service elsewhere that serves models."""

    name: str
    protocol: Literal["OpenAI", "Anthropic", "Ollama"]
    base_url: str
    has_key: bool = False
    """Its API key is the file of its name in the folder of such keys."""
    max_concurrent: int = 64


class RoutedName(_Part):
    """One entry of the router's models: a name, and further exact names and patterns; it is a
    LlamaModel, or a model of a provider."""

    name: str
    llama_model: str = ""
    provider: str = ""
    model: str = ""
    """The provider's own name for it."""
    aliases: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What the gateway knows the model by: no LlamaModel has a slash in its name."""
        return self.llama_model or f"{self.provider}/{self.name}"


class LongContext(_Part):
    """Where long prompts go, and from how many tokens on a prompt is long."""

    model: str
    threshold_tokens: int = 60000


class Routes(_Part):
    """Which model is for which task; what is not there goes to `default`."""

    default: str | None = None
    background: str | None = None
    think: str | None = None
    long_context: LongContext | None = None
    web_search: str | None = None
    image: str | None = None
    subagent: str | None = None


class GatewayConfig(_Part):
    """A router's policy; states and addresses of models come from the gateway's own watch."""

    router: str
    namespace: str
    models: tuple[RoutedName, ...] = ()
    model_labels: dict[str, str] = {}
    """Every LlamaModel with these labels is served too; none when empty."""
    routes: Routes = Routes()
    providers: tuple[Provider, ...] = ()
    fallbacks: dict[str, tuple[str, ...]] = {}
    """Models that answer in place of one that does not, in order."""
    hold_seconds: float = 600
    """How long a request waits for a model that is coming up."""
    ping_seconds: float = 15
    """After what silence a client that streams is told that it is not forgotten; 0: never."""

    silence_seconds: float = 300
    """After what silence in the middle of an answer its server is taken for gone."""

    def to_json(self) -> str:
        """Return the canonical text: what equals renders equal, so it can be hashed."""
        dumped = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(dumped, sort_keys=True, indent=1) + "\n"

"""The gateway's configuration: the operator renders it, the gateway reads it; one schema."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RoutedName(_Part):
    """One entry of the router's models: a name, and further exact names and patterns."""

    name: str
    llama_model: str
    aliases: tuple[str, ...] = ()


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
    fallbacks: dict[str, tuple[str, ...]] = {}
    """Models that answer in place of one that does not, in order."""
    hold_seconds: float = 600
    """How long a request waits for a model that is coming up."""
    ping_seconds: float = 15
    """After what silence a client that streams is told that it is not forgotten."""

    def to_json(self) -> str:
        """Return the canonical text: what equals renders equal, so it can be hashed."""
        dumped = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(dumped, sort_keys=True, indent=1) + "\n"

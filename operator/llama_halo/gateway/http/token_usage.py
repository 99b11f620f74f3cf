"""The token counts of an answer, in the words of each API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llama_halo.gateway.http.answers import count


@dataclass
class TokenUsage:
    """Tokens of one request, as counted by the model's server."""

    prompt: int = 0
    """Including the cached tokens."""
    cached: int = 0
    answer: int = 0

    @classmethod
    def of(cls, usage: Any) -> TokenUsage:
        """Read a `usage` object of OpenAI's or Anthropic's APIs; absent counts are 0.

        OpenAI's prompt counts include the cached tokens, Anthropic's `input_tokens` leaves them
        out.
        """
        if not isinstance(usage, dict):
            return cls()
        if "prompt_tokens" in usage:  # Chat Completions, Completions, embeddings
            cached = _cached(usage.get("prompt_tokens_details"))
            answer = count(usage.get("completion_tokens"))
            return cls(count(usage["prompt_tokens"]), cached, answer)
        prompt, answer = count(usage.get("input_tokens")), count(usage.get("output_tokens"))
        if "input_tokens_details" in usage:  # Responses
            return cls(prompt, _cached(usage["input_tokens_details"]), answer)
        cached = count(usage.get("cache_read_input_tokens"))
        written = count(usage.get("cache_creation_input_tokens"))
        return cls(prompt + written + cached, cached, answer)

    def raise_to(self, other: TokenUsage) -> None:
        """Keep the larger of each count: a stream repeats its counts, and some with 0."""
        self.prompt = max(self.prompt, other.prompt)
        self.cached = max(self.cached, other.cached)
        self.answer = max(self.answer, other.answer)

    def note(self, data: Any) -> None:
        """Read the usage in an event or answer of any API; each count keeps its maximum."""
        if not isinstance(data, dict):
            return
        for holder in (data, data.get("message"), data.get("response")):
            if isinstance(holder, dict):
                self.raise_to(TokenUsage.of(holder.get("usage")))


def _cached(details: Any) -> int:
    return count(details.get("cached_tokens")) if isinstance(details, dict) else 0

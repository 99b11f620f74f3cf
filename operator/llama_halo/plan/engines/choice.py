"""Selects the engine of a ModelRouter."""

from __future__ import annotations

from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.plan.engines import claude_code_router, gateway, litellm, llama_swap
from llama_halo.plan.engines.engine import RouterEngine


def engine_of(spec: ModelRouterSpec) -> RouterEngine:
    """Return the engine that a spec names; the built-in gateway unless it names one."""
    chosen = spec.engine
    if chosen and chosen.claude_code_router:
        return claude_code_router
    if chosen and chosen.lite_llm:
        return litellm
    if chosen and chosen.llama_swap:
        return llama_swap
    return gateway

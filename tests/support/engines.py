"""Specs of routers with an engine, and those that an engine refuses."""

from __future__ import annotations

from typing import Any

from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.plan.facts import Owner

OWNER = Owner("ModelRouter", "llm", "main", "uid", 1)
Json = dict[str, Any]
CCR, LITELLM, SWAP = ({name: {}} for name in ("claudeCodeRouter", "liteLLM", "llamaSwap"))
ONE_KEY = {"secretRef": {"name": "keys", "keys": ["alice"]}}
TWO_KEYS = {"secretRef": {"name": "keys", "keys": ["alice", "bob"]}}
ALL_KEYS = {"secretRef": {"name": "keys"}}
MODELS = [{"name": "coder", "modelRef": {"name": "coder"}, "aliases": ["gpt-4o"]}]
CLOUD = {"name": "cloud", "protocol": "OpenAI", "baseURL": "https://cloud.example.com/v1"}
LONG = {"longContext": {"model": "coder"}}


def spec(engine: Json, **more: Any) -> ModelRouterSpec:
    base = {"models": MODELS, "routes": {"default": "coder"}, "auth": ONE_KEY}
    chosen = {name: item for name, item in {**base, **more}.items() if item is not None}
    return ModelRouterSpec.model_validate({"engine": engine, **chosen})


def with_route(**routes: Any) -> Json:
    return {"routes": {"default": "coder", **routes}}


REFUSED: dict[str, tuple[Json, Json, str]] = {
    "Claude Code Router 3": (
        {"claudeCodeRouter": {"version": "3.1.1"}},
        {},
        "engine claudeCodeRouter version 3.1.1 is not supported: from 3 on its configuration is a"
        " database that is filled once, and its routes are rules of another kind",
    ),
    "Claude Code Router of no version": (
        {"claudeCodeRouter": {"version": "latest"}},
        {},
        "engine claudeCodeRouter: latest is not a version: use one such as 2.0.0",
    ),
    "an image of LiteLLM with a back door": (
        LITELLM,
        {"pod": {"image": "mirror.example.com/litellm:v1.82.8-stable"}},
        "engine liteLLM version mirror.example.com/litellm:v1.82.8-stable is refused",
    ),
    "Claude Code Router without a default": (CCR, {"routes": None}, "needs spec.routes.default"),
    "Claude Code Router without keys": (CCR, {"auth": None}, "needs spec.auth: without an API key"),
    "Claude Code Router with two keys": (CCR, {"auth": TWO_KEYS}, "exactly one entry"),
    "Claude Code Router with keys unnamed": (CCR, {"auth": ALL_KEYS}, "(none given)"),
    "Claude Code Router and subagents": (
        CCR,
        with_route(subagent="coder"),
        "engine claudeCodeRouter cannot route subagent: ",
    ),
    "Claude Code Router and a selector": (
        CCR,
        {"modelSelector": {"matchLabels": {"a": "b"}}},
        "engine claudeCodeRouter cannot take spec.modelSelector",
    ),
    "a provider with the name of the cluster's own": (
        CCR,
        {"providers": [{**CLOUD, "name": "local"}]},
        "calls the cluster's own models local",
    ),
    "transformers of no provider": (
        {"claudeCodeRouter": {"transformers": {"clod": {"use": ["deepseek"]}}}},
        {"providers": [CLOUD]},
        "spec.engine.claudeCodeRouter.transformers.clod names no provider: use one of cloud, local",
    ),
    "transformers of another shape": (
        {"claudeCodeRouter": {"transformers": {"cloud": {"use": "deepseek"}}}},
        {"providers": [CLOUD]},
        "engine.claudeCodeRouter.transformers.cloud must be like",
    ),
    "LiteLLM and images": (LITELLM, with_route(image="coder"), "engine liteLLM cannot route image"),
    "LiteLLM and long prompts": (
        LITELLM,
        with_route(**LONG),
        "engine liteLLM cannot route longContext",
    ),
    "LiteLLM and searches": (
        LITELLM,
        with_route(webSearch="coder"),
        "engine liteLLM cannot route webSearch",
    ),
    "LiteLLM with a back door": (
        {"liteLLM": {"version": "1.82.7"}},
        {},
        "engine liteLLM version 1.82.7 is refused",
    ),
    "LiteLLM with two keys": (LITELLM, {"auth": TWO_KEYS}, "(2 given)"),
    "LiteLLM and a selector": (
        LITELLM,
        {"modelSelector": {"matchLabels": {"a": "b"}}},
        "engine liteLLM cannot take spec.modelSelector",
    ),
    "llama-swap and a pattern": (
        SWAP,
        {"models": [{**MODELS[0], "aliases": ["claude-*"]}]},
        "engine llamaSwap cannot serve the alias claude-*: it knows exact names only",
    ),
    "llama-swap and images": (SWAP, with_route(image="coder"), "engine llamaSwap cannot route"),
    "llama-swap with keys unnamed": (SWAP, {"auth": ALL_KEYS}, "name the entries of Secret keys"),
    "llama-swap and a selector": (
        SWAP,
        {"modelSelector": {"matchLabels": {"a": "b"}}},
        "engine llamaSwap cannot take spec.modelSelector",
    ),
}

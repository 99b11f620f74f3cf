"""Which model answers a request; pure.

A name that says which model it means wins. A name that only a pattern knows, or one of Claude's,
means "whatever is right for this task", so the routes decide. Everything else is not found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from llama_halo.gateway.config import GatewayConfig
from llama_halo.gateway.models import Model

DEFAULT, BACKGROUND, EXPLICIT = "default", "background", "explicit"


@dataclass(frozen=True)
class Target:
    """The router's name for the model, the LlamaModel behind it, and why it was chosen."""

    name: str
    llama_model: str
    route: str


def resolve(
    config: GatewayConfig, models: Mapping[str, Model], name: str, *, background: bool
) -> Target | None:
    """Return the target of a request for a model name, None when nothing has that name."""
    served = targets(config, models)
    exact = name if name in served else exact_names(config, models).get(name)
    if exact is not None:
        return Target(exact, served[exact], EXPLICIT)
    routes = {DEFAULT: config.default_route, BACKGROUND: config.background_route}
    if routes.get(name):
        return _routed(served, routes[name], name)
    by_pattern = _by_pattern(config, name)
    if by_pattern is None and not name.startswith("claude"):
        return None
    if background and config.background_route:
        return _routed(served, config.background_route, BACKGROUND)
    if by_pattern is not None:
        return Target(by_pattern, served[by_pattern], EXPLICIT)
    return _routed(served, config.default_route, DEFAULT) if config.default_route else None


def targets(config: GatewayConfig, models: Mapping[str, Model]) -> dict[str, str]:
    """Return the router's own model names, each with its LlamaModel."""
    served = {each.name: each.llama_model for each in config.models}
    wanted = config.model_labels.items()
    if wanted:
        for model in sorted(models.values(), key=lambda each: each.name):
            if set(wanted) <= model.labels:
                served.setdefault(model.name, model.name)
    return served


def exact_names(config: GatewayConfig, models: Mapping[str, Model]) -> dict[str, str]:
    """Return every further exact name and the router's model it stands for.

    The router's own aliases come before those of the LlamaModels; of two claims on one name the
    first model by name wins.
    """
    names: dict[str, str] = {}
    for each in sorted(config.models, key=lambda each: each.name):
        for alias in each.aliases:
            if "*" not in alias:
                names.setdefault(alias, each.name)
    for name, llama_model in sorted(targets(config, models).items()):
        model = models.get(llama_model)
        for alias in (llama_model, *(model.aliases if model else ())):
            names.setdefault(alias, name)
    return names


def is_background(body: Mapping[str, Any]) -> bool:
    """Tell whether a request is a side task of a coding agent, such as naming a session.

    Claude Code sends these under the main model's name; what tells them is that they bring no
    tools, ask for no thinking and continue no conversation.
    """
    if "haiku" in str(body.get("model", "")):
        return True
    thinking = body.get("thinking")
    thinks = isinstance(thinking, Mapping) and thinking.get("type") in ("enabled", "adaptive")
    if body.get("tools") or thinks:
        return False
    return not any(each.get("role") == "assistant" for each in body.get("messages") or ())


def _by_pattern(config: GatewayConfig, name: str) -> str | None:
    """Return the first model in list order that has a pattern for a name."""
    for each in config.models:
        if any("*" in alias and fnmatchcase(name, alias) for alias in each.aliases):
            return each.name
    return None


def _routed(served: Mapping[str, str], model: str | None, route: str) -> Target:
    """A route may name a model of the selector that is not there yet: then it has that name."""
    assert model is not None  # noqa: S101
    return Target(model, served.get(model, model), route)

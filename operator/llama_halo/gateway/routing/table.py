"""Which model answers a request; pure.

A name that says which model it means wins. A name that only a pattern knows, one of Claude's, and
`default` mean "whatever is right for this task", so the routes decide. Everything else is not
found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from llama_halo.contract.gateway_config import GatewayConfig, Routes
from llama_halo.gateway.models.model import Model
from llama_halo.gateway.routing.features import RequestFeatures

LATEST = ":latest"
"""What Ollama's clients put after a name that has no tag."""
DEFAULT, EXPLICIT, IMAGE, LONG_CONTEXT = "default", "explicit", "image", "longContext"


@dataclass(frozen=True)
class Target:
    """The router's name for the model, the LlamaModel (or a provider's model) behind it, and why it
    was chosen."""

    name: str
    llama_model: str
    route: str
    by_task: bool = False
    """The task decided, and the length of the prompt may still do so."""


def resolve(
    config: GatewayConfig, models: Mapping[str, Model], name: str, features: RequestFeatures
) -> Target | None:
    """Return the target of a request for a model name, None when nothing has that name."""
    served = targets(config, models)
    exact = _exact(config, models, served, name)
    if exact is not None:
        return _seeing(config, models, Target(exact, served[exact], EXPLICIT), features)
    named, asked, name = route_models(config.routes), name, name.removesuffix(LATEST)
    if name in named and name != DEFAULT:
        return _seeing(config, models, _routed(served, named[name], name), features)
    by_pattern = _by_pattern(config, asked) or _by_pattern(config, name)
    if by_pattern is None and not name.startswith("claude") and name != DEFAULT:
        return None
    target = _by_task(config.routes, served, features)
    if target is None and by_pattern is not None:
        target = Target(by_pattern, served[by_pattern], EXPLICIT, by_task=True)
    if target is None and config.routes.default:
        target = _routed(served, config.routes.default, DEFAULT, by_task=True)
    return _seeing(config, models, target, features) if target else None


def long_context(config: GatewayConfig, models: Mapping[str, Model]) -> Target | None:
    """Return where long prompts go, None when that makes no difference."""
    long = config.routes.long_context
    return _routed(targets(config, models), long.model, LONG_CONTEXT) if long else None


def fallbacks(config: GatewayConfig, models: Mapping[str, Model], target: Target) -> list[Target]:
    """Return the targets that a request may go to: the chosen one, and what answers in its place
    when it does not."""
    served = targets(config, models)
    others = config.fallbacks.get(target.name, ())
    return [target, *(_routed(served, other, target.route) for other in others)]


def route_models(routes: Routes) -> dict[str, str]:
    """Return the model of each route that there is, by the name that the resource has for it."""
    routed = {
        DEFAULT: routes.default,
        "background": routes.background,
        "think": routes.think,
        LONG_CONTEXT: routes.long_context.model if routes.long_context else None,
        "webSearch": routes.web_search,
        IMAGE: routes.image,
        "subagent": routes.subagent,
    }
    return {name: model for name, model in routed.items() if model}


def targets(config: GatewayConfig, models: Mapping[str, Model]) -> dict[str, str]:
    """Return the router's own model names, each with the key of what is behind it."""
    served = {model.name: model.key for model in config.models}
    match_labels = config.model_labels.items()
    if match_labels:
        for model in sorted(models.values(), key=lambda model: model.name):
            if set(match_labels) <= model.labels:
                served.setdefault(model.name, model.name)
    return served


def exact_names(config: GatewayConfig, models: Mapping[str, Model]) -> dict[str, str]:
    """Return every further exact name and the router's model it stands for.

    The router's own aliases come before the names and aliases of the models themselves; of two
    claims on one name the first model by name wins.
    """
    names: dict[str, str] = {}
    for entry in sorted(config.models, key=lambda model: model.name):
        for alias in entry.aliases:
            if "*" not in alias:
                names.setdefault(alias, entry.name)
    served = targets(config, models)
    for name, key in sorted(served.items()):
        model = models.get(key)
        own = model.provider_name if model and model.provider else key
        for alias in (own, *(model.aliases if model else ())):
            names.setdefault(alias, name)
    # Claude Code lists nothing but what has such a name.
    for name in served:
        if not name.startswith("claude"):
            names.setdefault(f"claude-{name}", name)
    return names


def _exact(
    config: GatewayConfig, models: Mapping[str, Model], served: Mapping[str, str], name: str
) -> str | None:
    """Return the model that a name says: itself, an alias, `provider,model` as Claude Code Router
    has it, or `name:latest` as Ollama's clients have it."""
    for model in config.models:
        if model.provider and name == f"{model.provider},{model.model}":
            return model.name
    aliases = exact_names(config, models)
    for candidate in (name, name.partition(",")[2], name.removesuffix(LATEST)):
        if candidate in served:
            return candidate
        if candidate in aliases:
            return aliases[candidate]
    return None


def _by_task(routes: Routes, served: Mapping[str, str], features: RequestFeatures) -> Target | None:
    """Return the target of the first task that a request is for and that has a route."""
    tasks = (
        (IMAGE, features.has_image),
        ("webSearch", features.wants_web_search),
        ("background", features.background),
        ("subagent", features.subagent),
        ("think", features.wants_thinking),
    )
    named = route_models(routes)
    for route, is_it in tasks:
        if is_it and route in named:
            return _routed(served, named[route], route, by_task=route != IMAGE)
    return None


def _seeing(
    config: GatewayConfig, models: Mapping[str, Model], target: Target, features: RequestFeatures
) -> Target:
    """Return a target that can see what a request shows, where the routes have one."""
    model = models.get(target.llama_model)
    blind = model is not None and model.accepts_images is False
    if features.has_image and blind and config.routes.image:
        return _routed(targets(config, models), config.routes.image, IMAGE)
    return target


def _by_pattern(config: GatewayConfig, name: str) -> str | None:
    """Return the first model in list order that has a pattern for a name."""
    for model in config.models:
        if any("*" in alias and fnmatchcase(name, alias) for alias in model.aliases):
            return model.name
    return None


def _routed(served: Mapping[str, str], model: str, route: str, *, by_task: bool = False) -> Target:
    """A route may name a model of the selector that is not there yet: then it has that name."""
    return Target(model, served.get(model, model), route, by_task=by_task)

"""Maps a model name to a model: one immutable table of names and routes.

An exact name selects its model. For a name that only a pattern matches, a name of Claude's models,
and `default`, the routes choose by task. Any other name is unknown. `selector` rebuilds the table
when models change, not for each request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from llama_halo.contract.gateway_config import GatewayConfig, RoutesConfig
from llama_halo.gateway.models.model import Model
from llama_halo.gateway.routing.features import RequestFeatures

LATEST = ":latest"
"""The tag that Ollama's clients append to a name without one."""
DEFAULT, EXPLICIT, IMAGE, LONG_CONTEXT = "default", "explicit", "image", "longContext"


@dataclass(frozen=True)
class Target:
    """A chosen model: the router's name for it, its key, and the route that chose it."""

    name: str
    model_key: str
    route: str
    may_be_long: bool = False
    """A long prompt may still move the request to the long-context route."""
    omitted: tuple[str, ...] = ()
    """What of the request the model's API has not; set when the model answers."""


@dataclass(frozen=True)
class RoutingTable:
    """The names and routes of one router, for one set of models."""

    config: GatewayConfig
    models: Mapping[str, Model]
    """By key: the name of a LlamaModel, or `PROVIDER/NAME`."""
    served: Mapping[str, str]
    """The router's own model names, each with the key of the model behind it."""
    aliases: Mapping[str, str]
    """Further exact names, each with the router's model that it stands for."""
    routes: Mapping[str, str]
    """The router's model of each route that is set."""

    @classmethod
    def build(cls, config: GatewayConfig, models: Mapping[str, Model]) -> RoutingTable:
        """Build the table from a configuration and the current models."""
        served = _served(config, models)
        aliases = _aliases(config, models, served)
        return cls(config, models, served, aliases, route_models(config.routes))

    def resolve(self, name: str, features: RequestFeatures) -> Target | None:
        """Return the target for a model name, None if the name is unknown."""
        exact = self._exact(name)
        if exact is not None:
            return self._seeing(Target(exact, self.served[exact], EXPLICIT), features)
        requested, name = name, name.removesuffix(LATEST)
        if name in self.routes and name != DEFAULT:
            return self._seeing(self._routed(self.routes[name], name), features)
        by_pattern = self._by_pattern(requested) or self._by_pattern(name)
        if by_pattern is None and not name.startswith("claude") and name != DEFAULT:
            return None
        target = self._by_task(features)
        if target is None and by_pattern is not None:
            target = Target(by_pattern, self.served[by_pattern], EXPLICIT, may_be_long=True)
        if target is None and self.config.routes.default:
            target = self._routed(self.config.routes.default, DEFAULT, may_be_long=True)
        return self._seeing(target, features) if target else None

    def long_context(self) -> Target | None:
        """Return the target of long prompts, None without such a route."""
        long = self.config.routes.long_context
        return self._routed(long.model, LONG_CONTEXT) if long else None

    def with_fallbacks(self, target: Target) -> list[Target]:
        """Return the target, followed by its fallbacks."""
        others = self.config.fallbacks.get(target.name, ())
        return [target, *(self._routed(other, target.route) for other in others)]

    def model_of(self, target: Target) -> Model | None:
        """Return the model of a target, None while it does not exist."""
        return self.models.get(target.model_key)

    def models_by_name(self) -> dict[str, Model | None]:
        """Return every exact name with its model, None while that does not exist: the router's
        own names first, then the aliases, then the routes."""
        listed = {name: self.models.get(key) for name, key in self.served.items()}
        for alias, name in self.aliases.items():
            listed.setdefault(alias, self.models.get(self.served[name]))
        for route, name in self.routes.items():
            listed.setdefault(route, self.models.get(self.served.get(name, name)))
        return listed

    def _exact(self, name: str) -> str | None:
        """Return the router's model for an exact name: its own, an alias, `provider,model` as in
        Claude Code Router, or `name:latest` as in Ollama."""
        for entry in self.config.models:
            if entry.provider and name == f"{entry.provider},{entry.model}":
                return entry.name
        for candidate in (name, name.partition(",")[2], name.removesuffix(LATEST)):
            if candidate in self.served:
                return candidate
            if candidate in self.aliases:
                return self.aliases[candidate]
        return None

    def _by_task(self, features: RequestFeatures) -> Target | None:
        """Return the target of the first matching task that has a route."""
        tasks = (
            (IMAGE, features.has_image),
            ("webSearch", features.wants_web_search),
            ("background", features.background),
            ("subagent", features.subagent),
            ("think", features.wants_thinking),
        )
        for route, applies in tasks:
            if applies and route in self.routes:
                return self._routed(self.routes[route], route, may_be_long=route != IMAGE)
        return None

    def _seeing(self, target: Target, features: RequestFeatures) -> Target:
        """Return the image route's target if the request has images that the target cannot take."""
        model = self.model_of(target)
        blind = model is not None and model.accepts_images is False
        if features.has_image and blind and self.config.routes.image:
            return self._routed(self.config.routes.image, IMAGE)
        return target

    def _by_pattern(self, name: str) -> str | None:
        """Return the first model in list order with a pattern that matches a name."""
        for entry in self.config.models:
            if any("*" in alias and fnmatchcase(name, alias) for alias in entry.aliases):
                return entry.name
        return None

    def _routed(self, name: str, route: str, *, may_be_long: bool = False) -> Target:
        """Return the target of a route. A model that does not exist yet has its name as key."""
        return Target(name, self.served.get(name, name), route, may_be_long=may_be_long)


def route_models(routes: RoutesConfig) -> dict[str, str]:
    """Return the model of each route that is set, by the route's name in the resource."""
    models_by_route = {
        DEFAULT: routes.default,
        "background": routes.background,
        "think": routes.think,
        LONG_CONTEXT: routes.long_context.model if routes.long_context else None,
        "webSearch": routes.web_search,
        IMAGE: routes.image,
        "subagent": routes.subagent,
    }
    return {route: model for route, model in models_by_route.items() if model}


def _served(config: GatewayConfig, models: Mapping[str, Model]) -> dict[str, str]:
    served = {entry.name: entry.key for entry in config.models}
    match_labels = set(config.model_labels.items())
    if match_labels:
        for model in sorted(models.values(), key=lambda model: model.name):
            if match_labels <= model.labels:
                served.setdefault(model.name, model.name)
    return served


def _aliases(
    config: GatewayConfig, models: Mapping[str, Model], served: Mapping[str, str]
) -> dict[str, str]:
    """Return the further exact names, each with the router's model that it stands for.

    The router's own aliases take precedence over the names and aliases of the models. Of two models
    with the same alias, the first by name wins.
    """
    names: dict[str, str] = {}
    for entry in sorted(config.models, key=lambda entry: entry.name):
        for alias in entry.aliases:
            if "*" not in alias:
                names.setdefault(alias, entry.name)
    for name, key in sorted(served.items()):
        model = models.get(key)
        own = model.provider_name if model and model.provider else key
        for alias in (own, *(model.aliases if model else ())):
            names.setdefault(alias, name)
    # Claude Code lists only models whose name starts with `claude`.
    for name in served:
        if not name.startswith("claude"):
            names.setdefault(f"claude-{name}", name)
    return names

"""Which model answers a request: one immutable table of names and routes; pure.

A name that says which model it means wins. A name that only a pattern knows, one of Claude's, and
`default` mean "whatever is right for this task", so the routes decide. Everything else is not
found. `selector` asks the table for each request; it is built when models change, not for requests.
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
    model_key: str
    route: str
    may_be_long: bool = False
    """The task decided, and the length of the prompt may still do so."""


@dataclass(frozen=True)
class RoutingTable:
    """The names and routes of one router, over the models that there are now."""

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
        """Build the table of a configuration and the models that there are."""
        served = _served(config, models)
        aliases = _aliases(config, models, served)
        return cls(config, models, served, aliases, route_models(config.routes))

    def resolve(self, name: str, features: RequestFeatures) -> Target | None:
        """Return the target of a request for a model name, None when nothing has that name."""
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
        """Return where long prompts go, None when that makes no difference."""
        long = self.config.routes.long_context
        return self._routed(long.model, LONG_CONTEXT) if long else None

    def with_fallbacks(self, target: Target) -> list[Target]:
        """Return the targets that a request may go to: the chosen one, and what answers in its
        place when it does not."""
        others = self.config.fallbacks.get(target.name, ())
        return [target, *(self._routed(other, target.route) for other in others)]

    def model_of(self, target: Target) -> Model | None:
        """Return the model behind a target, None while there is none."""
        return self.models.get(target.model_key)

    def models_by_name(self) -> dict[str, Model | None]:
        """Return every exact name with its model, if that is there: the router's own first, then
        the others, then those of the routes."""
        listed = {name: self.models.get(key) for name, key in self.served.items()}
        for alias, name in self.aliases.items():
            listed.setdefault(alias, self.models.get(self.served[name]))
        for route, name in self.routes.items():
            listed.setdefault(route, self.models.get(self.served.get(name, name)))
        return listed

    def _exact(self, name: str) -> str | None:
        """Return the model that a name says: itself, an alias, `provider,model` as Claude Code
        Router has it, or `name:latest` as Ollama's clients have it."""
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
        """Return the target of the first task that a request is for and that has a route."""
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
        """Return a target that takes the images of a request, where the routes have one."""
        model = self.model_of(target)
        blind = model is not None and model.accepts_images is False
        if features.has_image and blind and self.config.routes.image:
            return self._routed(self.config.routes.image, IMAGE)
        return target

    def _by_pattern(self, name: str) -> str | None:
        """Return the first model in list order that has a pattern for a name."""
        for entry in self.config.models:
            if any("*" in alias and fnmatchcase(name, alias) for alias in entry.aliases):
                return entry.name
        return None

    def _routed(self, name: str, route: str, *, may_be_long: bool = False) -> Target:
        """A route may name a model of the selector that is not there yet: then it has that name."""
        return Target(name, self.served.get(name, name), route, may_be_long=may_be_long)


def route_models(routes: Routes) -> dict[str, str]:
    """Return the model of each route that there is, by the name that the resource has for it."""
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
    """The router's own aliases come before the names and aliases of the models themselves; of two
    claims on one name the first model by name wins."""
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
    # Claude Code lists nothing but what has such a name.
    for name in served:
        if not name.startswith("claude"):
            names.setdefault(f"claude-{name}", name)
    return names

"""The interface of a ModelRouter's engine: its refusals, configuration, pod and routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from llama_halo.api.modelrouter import ROUTES, ModelRouterSpec
from llama_halo.plan.facts import Defaults, Owner

PORT = 8080
CONFIG_FOLDER = "/etc/llama-halo"


@dataclass(frozen=True)
class RouteMapping:
    """One route as an engine serves it: the model, and which requests take it if not obvious."""

    route: str
    model: str
    note: str = ""


class RouterEngine(Protocol):
    """The interface that each engine's module implements."""

    NAME: str
    """The engine's name in spec.engine and in the status."""

    def refusal(self, spec: ModelRouterSpec) -> str | None:
        """Return why the engine cannot serve a spec and what to do instead, None if it can."""

    def files(self, owner: Owner, spec: ModelRouterSpec) -> dict[str, str]:
        """Return the configuration files by name; they are in a ConfigMap, so they hold no keys."""

    def pod(
        self, owner: Owner, spec: ModelRouterSpec, defaults: Defaults, config_name: str
    ) -> dict[str, Any]:
        """Return the containers and volumes of a pod that has the configuration mounted."""

    def routes(self, spec: ModelRouterSpec) -> list[RouteMapping]:
        """Return the routes as this engine serves them."""


def route_models(spec: ModelRouterSpec) -> dict[str, str]:
    """Return the model of each route that a spec has."""
    if spec.routes is None:
        return {}
    by_name = spec.routes.model_dump(by_alias=True, exclude_none=True)
    models_by_route = {name: by_name[name] for name in ROUTES if name in by_name}
    return {
        name: model["model"] if isinstance(model, dict) else model
        for name, model in models_by_route.items()
    }

"""What a ModelRouter's engine is: what it cannot do, its configuration, its pod, its routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from llama_halo.api.modelrouter import ROUTES, ModelRouterSpec
from llama_halo.plan.facts import Defaults, Owner

PORT = 8080
CONFIG_FOLDER = "/etc/llama-halo"


@dataclass(frozen=True)
class RouteMapping:
    """What an engine makes of one route: the model, and what a person has to know about it."""

    route: str
    model: str
    note: str = ""


class Engine(Protocol):
    """A module of this package."""

    NAME: str
    """As in spec.engine and in the status."""

    def refusal(self, spec: ModelRouterSpec) -> str | None:
        """Return what of a spec this engine cannot do, and what to do instead."""

    def files(self, owner: Owner, spec: ModelRouterSpec) -> dict[str, str]:
        """Return the configuration: all that a pod reads at its start, and nothing secret."""

    def pod(
        self, owner: Owner, spec: ModelRouterSpec, defaults: Defaults, config_name: str
    ) -> dict[str, Any]:
        """Return the containers and volumes of a pod that has the configuration mounted."""

    def routes(self, spec: ModelRouterSpec) -> list[RouteMapping]:
        """Return the routes as this engine takes them."""


def routed(spec: ModelRouterSpec) -> dict[str, str]:
    """Return the model of each route that a spec has."""
    if spec.routes is None:
        return {}
    by_name = spec.routes.model_dump(by_alias=True, exclude_none=True)
    models_by_route = {name: by_name[name] for name in ROUTES if name in by_name}
    return {
        name: model["model"] if isinstance(model, dict) else model
        for name, model in models_by_route.items()
    }

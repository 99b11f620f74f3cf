"""What a failed write and a failed placement lead to."""

from __future__ import annotations

from typing import Any

import pytest

from llama_halo.controllers.reconcile import GONE_SECONDS, reconcile
from llama_halo.controllers.state import PLACEMENT, OperatorState
from llama_halo.errors import ClusterError, NotFound
from llama_halo.kube.cache import Key
from llama_halo.kube.resources import Resource
from tests.support.operator_state import operator_state

ROUTER = Key("ModelRouter", "llm", "main")
CR: dict[str, Any] = {
    "apiVersion": "llama-halo.dev/v1alpha1",
    "kind": "ModelRouter",
    "metadata": {
        "name": "main",
        "namespace": "llm",
        "uid": "u",
        "generation": 1,
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    },
    "spec": {"models": [{"name": "coder", "modelRef": {"name": "coder"}}]},
}


def refusing(error: ClusterError, *live: dict[str, Any]) -> OperatorState:
    """Return a state whose API server refuses every write, and lists these routers."""
    state, cluster = operator_state()

    async def apply(resource: Resource, body: Any, *, manager: str) -> Any:
        raise error

    async def list_(resource: Resource, **_: Any) -> tuple[list[Any], int]:
        return list(live), 9

    cluster.apply, cluster.list = apply, list_  # type: ignore[method-assign]
    state.cache.observe(CR)
    return state


def deleted() -> dict[str, Any]:
    return {**CR, "metadata": {**CR["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}


@pytest.mark.parametrize(
    ("error", "live"),
    [
        (NotFound(404, "no router"), []),
        (NotFound(404, "no router"), [deleted()]),
        (ClusterError(403, "terminating", causes=("NamespaceTerminating",)), [CR]),
    ],
    ids=["it is gone", "it is being deleted", "its namespace is being deleted"],
)
async def test_a_resource_that_goes_is_left(error: ClusterError, live: list[Any]) -> None:
    assert await reconcile(refusing(error, *live), ROUTER) == GONE_SECONDS


async def test_a_kind_that_is_not_served_is_an_error() -> None:
    """It would be retried for ever without a word."""
    with pytest.raises(NotFound):
        await reconcile(refusing(NotFound(404, "the server could not find it"), CR), ROUTER)


async def test_placement_that_fails_is_known_until_it_succeeds() -> None:
    state, _ = operator_state()
    state.cache.observe({**CR, "kind": "LlamaModel"})
    working = state.placement.demands
    broken: Any = {Key("LlamaModel", "llm", "main"): 5}
    state.placement.demands = broken
    with pytest.raises(AttributeError):
        await reconcile(state, PLACEMENT)
    assert state.placement_fails_since is not None
    state.placement.demands = working
    await reconcile(state, PLACEMENT)
    assert state.placement_fails_since is None

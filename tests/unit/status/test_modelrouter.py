"""The status of a router with an engine."""

from __future__ import annotations

import pytest

from llama_halo.api.modelrouter import ModelRouterSpec
from llama_halo.plan.facts import RouterFacts
from llama_halo.plan.modelrouter import plan_modelrouter
from llama_halo.status.modelrouter import modelrouter_status
from tests.support.engines import (
    CCR,
    LITELLM,
    OWNER,
    REFUSED,
    Json,
    spec,
)
from tests.support.golden import DEFAULTS


def status(expected: ModelRouterSpec, previous: Json | None = None) -> Json:
    facts = RouterFacts(OWNER, DEFAULTS)
    return modelrouter_status(
        OWNER,
        spec=expected,
        outcome=plan_modelrouter(expected, facts),
        conflict=None,
        deployment=None,
        pods=[],
        models=[],
        previous=previous or {},
        requested_at=None,
        cluster_domain="cluster.local",
        now="2026-11-27T00:00:00Z",
    )


@pytest.mark.parametrize("case", REFUSED)
def test_while_a_spec_is_refused_its_status_tells_of_what_runs(case: str) -> None:
    engine, more, arguments = REFUSED[case]
    before = status(spec(LITELLM, routes={"default": "coder"}))
    after = status(spec(engine, **more), before)
    ready = next(condition for condition in after["conditions"] if condition["type"] == "Ready")
    assert arguments in ready["message"]
    assert (after["engine"], after["routes"]) == ("liteLLM", before["routes"])


def test_the_gateways_status_has_no_notes() -> None:
    assert "routes" not in status(spec({"gateway": {}}, auth=None))


def test_a_route_that_works_as_it_says_has_no_note() -> None:
    assert status(spec(CCR))["routes"] == [{"name": "default", "model": "coder"}]

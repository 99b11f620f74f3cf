"""Models on demand on a real control plane; the tests say on Leases what a gateway would."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import Api, eventually, ready
from tests.support.leases import phase, say
from tests.support.resources import Json, StartOperator, deployments, model, pods, wait_state


def on_demand(namespace: str, name: str = "coder", **more: Any) -> Json:
    activation = {"onDemand": {"minResident": "0s", "idleTimeout": "1h", **more}}
    return model(namespace, name, activation=activation)


def replicas(api: Api, namespace: str) -> int:
    return sum(deployment["spec"]["replicas"] for deployment in deployments(api, namespace))


@pytest.mark.usefixtures("operator")
class TestOnDemand:
    def test_it_sleeps_until_it_is_wanted(self, api: Api, namespace: str) -> None:
        api.apply(on_demand(namespace))
        resource = wait_state(api, namespace, "coder", "Idle")
        assert ready(resource)[0] == "True"
        assert pods(api, namespace) == []
        assert say(api, namespace, "1/1") == "Idle"
        wait_state(api, namespace, "coder", "Serving")
        assert phase(api, namespace) == "Loaded"

    def test_an_operator_that_starts_anew_leaves_a_busy_model_where_it_is(
        self, api: Api, namespace: str, start_operator: StartOperator
    ) -> None:
        api.apply(on_demand(namespace))
        wait_state(api, namespace, "coder", "Idle")
        say(api, namespace, "1/1")
        wait_state(api, namespace, "coder", "Serving")
        before = {pod["metadata"]["uid"] for pod in pods(api, namespace)}
        start_operator().wait_ready()
        say(api, namespace, "2/1")
        eventually(lambda: phase(api, namespace) == "Loaded")
        assert {pod["metadata"]["uid"] for pod in pods(api, namespace)} == before

    def test_one_that_is_always_on_again_has_no_lease(self, api: Api, namespace: str) -> None:
        api.apply(on_demand(namespace))
        wait_state(api, namespace, "coder", "Idle")
        api.apply(model(namespace))
        wait_state(api, namespace, "coder", "Serving")
        eventually(lambda: api.get("Lease", namespace, "llama-halo-coder") is None)
        assert replicas(api, namespace) == 1

    def test_one_that_becomes_on_demand_stays_loaded_for_now(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(model(namespace))
        wait_state(api, namespace, "coder", "Serving")
        before = {pod["metadata"]["uid"] for pod in pods(api, namespace)}
        api.apply(on_demand(namespace))
        eventually(lambda: phase(api, namespace) == "Loaded")
        assert ready(api.get("LlamaModel", namespace, "coder"))[1] == "Serving"
        assert {pod["metadata"]["uid"] for pod in pods(api, namespace)} == before

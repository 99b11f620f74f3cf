"""Changes that wait for a model's requests; the tests say on its Lease what a gateway would."""

from __future__ import annotations

import time
from itertools import count

import pytest

from tests.support.api import Api, eventually, message, ready
from tests.support.leases import phase, say, say_and_be_heard
from tests.support.resources import Json, deployments, model, uids, wait_ready, wait_state

PODS = "llama-halo.dev/model=coder"
WAITS = "rolls when its requests are done, after 10m at the latest"


def calm(namespace: str, timeout: str = "10m", **more: object) -> Json:
    return model(namespace, update={"mode": "WhenIdle", "timeout": timeout}, **more)


@pytest.mark.usefixtures("operator")
class TestUpdates:
    def test_a_change_waits_for_requests_and_comes_when_they_are_done(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(calm(namespace))
        wait_ready(api, namespace, "coder")
        assert phase(api, namespace) == "Loaded", "a gateway may send to it"
        say_and_be_heard(api, namespace, "1/1")
        before = uids(api, namespace, PODS)
        api.apply(calm(namespace, parallel=2))
        resource = wait_state(api, namespace, "coder", "Rolling")
        assert message(resource) == f"{WAITS}; the earlier version serves until then"
        available = [
            condition
            for condition in resource["status"]["conditions"]
            if condition["type"] == "Available"
        ]
        assert available[0]["status"] == "True"
        for number in range(2, 6):  # a gateway says so every five seconds
            time.sleep(5)
            assert say(api, namespace, f"{number}/1") == "Loaded"
        assert uids(api, namespace, PODS) == before
        say(api, namespace, "6/0")
        eventually(lambda: uids(api, namespace, PODS).isdisjoint(before), seconds=20)
        wait_ready(api, namespace, "coder")

    def test_a_gateway_that_is_gone_keeps_a_change_for_some_seconds_only(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(calm(namespace))
        wait_ready(api, namespace, "coder")
        say_and_be_heard(api, namespace, "1/1")
        before = uids(api, namespace, PODS)
        api.apply(calm(namespace, parallel=2))
        assert WAITS in message(wait_state(api, namespace, "coder", "Rolling"))
        eventually(lambda: uids(api, namespace, PODS).isdisjoint(before), seconds=40)

    def test_a_model_that_is_always_busy_rolls_after_the_time_limit(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(calm(namespace, timeout="20s"))
        wait_ready(api, namespace, "coder")
        say_and_be_heard(api, namespace, "1/1")
        before, began = uids(api, namespace, PODS), time.monotonic()
        api.apply(calm(namespace, timeout="20s", parallel=2))
        counts = count(2)

        def rolled() -> bool:
            say(api, namespace, f"{next(counts)}/1")
            time.sleep(2)
            return uids(api, namespace, PODS).isdisjoint(before)

        eventually(rolled, seconds=60)
        assert time.monotonic() - began >= 20

    def test_the_lease_goes_when_changes_do_not_wait_any_more(
        self, api: Api, namespace: str
    ) -> None:
        api.apply(calm(namespace))
        wait_ready(api, namespace, "coder")
        assert phase(api, namespace) == "Loaded"
        api.apply(model(namespace))
        eventually(lambda: api.get("Lease", namespace, "llama-halo-coder") is None)
        (value,) = deployments(api, namespace)
        assert value["metadata"]["generation"] == 1
        assert ready(api.get("LlamaModel", namespace, "coder"))[0] == "True"

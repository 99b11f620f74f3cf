"""What each step of a life costs the API server, counted from its audit log; never times."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from hack.testbed.audit import now, reads, writes
from hack.testbed.cluster import Testbed
from tests.support.api import Api, eventually
from tests.support.resources import MISTAKE, deployments, model, pods, wait_ready, wait_state

STATUS = "patch llamamodels/status"
# Scheduling, being created, loading, serving: how many of them are seen depends on the machine.
MAX_STATUSES = 5
EVENTS = "create events"


@pytest.mark.usefixtures("operator")
class TestWrites:
    def settled(self, control_plane: Testbed, since: str) -> tuple[Counter[str], Counter[str]]:
        """Return the writes and reads since a time, once they have ended."""
        time.sleep(1.5)
        log = control_plane.layout.audit_log
        return writes(log, since=since), reads(log, since=since)

    def test_each_step_of_a_life_writes_what_it_must_and_reads_nothing(
        self, api: Api, namespace: str, control_plane: Testbed
    ) -> None:
        time.sleep(1)
        since = now()
        api.apply(model(namespace))
        wait_ready(api, namespace, "coder")
        written, read = self.settled(control_plane, since)
        assert 1 <= written.pop(STATUS) <= MAX_STATUSES
        assert written == {"patch services": 1, "patch deployments": 1, EVENTS: 1}
        assert read == {"get services": 1, "get deployments": 1}, "once, before they are made"

        since = now()
        api.apply(model(namespace, contextSize=8192))
        eventually(lambda: "8192" in str(deployments(api, namespace)))
        time.sleep(1)
        wait_ready(api, namespace, "coder")
        written, read = self.settled(control_plane, since)
        assert 1 <= written.pop(STATUS) <= MAX_STATUSES + 1
        assert written.pop(EVENTS) <= 2
        assert written == {"patch deployments": 1}
        assert not read

        since = now()
        api.patch("LlamaModel", namespace, "coder", {"spec": {"replicas": 0}}, subresource="/scale")
        wait_state(api, namespace, "coder", "Stopped")
        eventually(lambda: not pods(api, namespace))
        written, read = self.settled(control_plane, since)
        assert 1 <= written.pop(STATUS) <= 3
        assert written.pop(EVENTS) <= 2
        assert written == {"patch deployments": 1}
        assert not read

        since = now()
        api.delete("LlamaModel", namespace, "coder")
        eventually(lambda: not deployments(api, namespace))
        written, read = self.settled(control_plane, since)
        assert not written, "the garbage collector does it"
        assert not read

    def test_an_invalid_resource_writes_its_status_and_one_event(
        self, api: Api, namespace: str, control_plane: Testbed
    ) -> None:
        since = now()
        api.apply(model(namespace, **MISTAKE))
        wait_state(api, namespace, "coder", "InvalidSpec")
        written, read = self.settled(control_plane, since)
        assert written == {STATUS: 1, EVENTS: 1}
        assert not read

"""Faults of every kind, from a seed; then they end, and the cluster must be as if there had been
none: object for object what a fresh operator makes of the same resources.

`make test` runs minutes of it, `make soak` half an hour at 200 models.
"""

from __future__ import annotations

import json
import time

import pytest

from hack.testbed import audit
from hack.testbed.cluster import Testbed
from hack.testbed.operator_process import OperatorProcess
from tests.support.api import Api, eventually
from tests.support.chaos_operators import Operators
from tests.support.chaos_world import CHILDREN, World, snapshot, wait_quiet, wait_true
from tests.support.fault_proxy import ALL, NONE, FaultProxy
from tests.support.soak_sizes import Soak


def test_after_chaos_the_cluster_is_what_a_fresh_operator_makes_of_it(
    api: Api,
    plane: Testbed,
    proxy: FaultProxy,
    proxied: Operators,
    operators: Operators,
    namespaces: list[str],
    soak: Soak,
    request: pytest.FixtureRequest,
) -> None:
    world = World(
        api, namespaces, models=soak.models, seed=request.config.getoption("--chaos-seed")
    )
    operator = proxied.start()
    world.populate()
    wait_true(api, namespaces)
    memory = [operator.memory_mib()]
    proxy.faults = ALL
    ending = time.monotonic() + soak.chaos_seconds
    while time.monotonic() < ending:
        world.rage(min(60, soak.chaos_seconds / 4))
        assert operator.running, "faults must not end the operator"
        memory.append(operator.memory_mib())
    proxy.faults = NONE
    world.mend()
    wait_true(api, namespaces)
    wait_quiet(plane.layout)
    after = snapshot(api, namespaces)
    _rest_checks(operator)
    figures = {
        "actions": world.done,
        "faults": dict(proxy.injected),
        "memory_mib": [round(item) for item in memory],
    }
    print(f"\nchaos: {json.dumps(figures)}")
    assert memory[-1] < memory[len(memory) // 2] * 1.3 + 20, "memory grows"
    assert operator.stop() == 0

    # A fresh operator first finds nothing to do ...
    since = audit.now()
    fresh = operators.start()
    time.sleep(5)
    written = audit.writes(plane.layout.audit_log, since=since)
    assert set(written) <= {"patch leases"}, written
    fresh.stop()
    # ... and then makes the same of everything from nothing.
    _remove_children(api, namespaces)
    fresh = operators.start()
    wait_true(api, namespaces)
    wait_quiet(plane.layout)
    again = snapshot(api, namespaces)
    assert sorted(again) == sorted(after)
    for name, obj in after.items():
        assert obj == again[name], name


def _rest_checks(operator: OperatorProcess) -> None:
    """Nothing waits, and nothing was left behind by what was cancelled."""
    text = operator.get("/metrics")[1]
    assert "llama_halo_queue_depth 0.0" in text
    tasks = next(line for line in text.splitlines() if line.startswith("llama_halo_tasks "))
    assert float(tasks.split()[1]) < 60, tasks


def _remove_children(api: Api, namespaces: list[str]) -> None:
    """Delete all that the operator made, while none runs."""
    for namespace in namespaces:
        for kind in CHILDREN:
            for obj in api.list(kind, namespace, "app.kubernetes.io/managed-by=llama-halo"):
                api.delete(kind, namespace, obj["metadata"]["name"])
    eventually(
        lambda: (
            not any(
                api.list("Pod", namespace, "app.kubernetes.io/managed-by=llama-halo")
                for namespace in namespaces
            )
        ),
        seconds=60,
        description="no pods",
    )

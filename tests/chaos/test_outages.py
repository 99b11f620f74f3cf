"""Whole parts fail: the API server, etcd, the operator itself, its credentials, a node.

After each the end state is right, no pod of an unchanged model was started anew, and the writes
are bounded by what had to change.
"""

from __future__ import annotations

import itertools
import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.testbed import audit, processes
from hack.testbed.cluster import Testbed
from hack.testbed.operator_process import ACCOUNT, NAMESPACE, write_kubeconfig
from tests.support.api import Api, eventually
from tests.support.chaos_operators import Operators
from tests.support.chaos_world import World, model, wait_quiet, wait_true
from tests.support.soak_sizes import Soak

MODELS = 16
_SIZES = itertools.count()


@pytest.fixture
def world(api: Api, namespaces: list[str], operators: Operators) -> Iterator[World]:
    """Some models and routers, Ready; the operator that made them is gone."""
    chaos = World(api, namespaces, models=MODELS, seed=1)
    chaos.populate()
    first = operators.start()
    wait_true(api, namespaces)
    first.stop()
    yield chaos


def pods(api: Api, namespaces: list[str]) -> dict[str, str]:
    """Return the uid of each model's pod."""
    return {
        f"{namespace}/{pod['metadata']['labels']['llama-halo.dev/model']}": pod["metadata"]["uid"]
        for namespace in namespaces
        for pod in api.list("Pod", namespace, "llama-halo.dev/model")
    }


def edit(api: Api, world: World, index: int) -> str:
    """Edit one model and return whose pod must roll."""
    api.apply(model(world.place(index), index, contextSize=1024 + next(_SIZES)))
    return f"{world.place(index)}/model-{index}"


def check_end(
    api: Api,
    plane: Testbed,
    namespaces: list[str],
    before: dict[str, str],
    *,
    edited: list[str],
    since: str,
    description: str,
) -> None:
    """All true, only the edited models' pods are others, and a bounded number of writes."""
    wait_true(api, namespaces)
    wait_quiet(plane.layout)
    after = pods(api, namespaces)
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed == set(edited)
    written = audit.writes(plane.layout.audit_log, since=since)
    print(f"\n{description}: {json.dumps(dict(written))} for {len(edited)} edits")
    statuses = written.pop("patch llamamodels/status", 0) + written.pop(
        "patch modelrouters/status", 0
    )
    written.pop("patch leases", None)
    # An edit: a Deployment, a few statuses of the model and of its routers, an Event or two.
    assert written.pop("patch deployments", 0) <= 2 * len(edited) + 2
    assert written.pop("create events", 0) <= 6 * len(edited) + 6
    assert statuses <= 16 * len(edited) + 16
    assert not written


@pytest.mark.parametrize("part", ["kube-apiserver", "etcd"])
def test_the_control_plane_goes_and_comes_back(
    api: Api,
    plane: Testbed,
    namespaces: list[str],
    operators: Operators,
    world: World,
    soak: Soak,
    part: str,
) -> None:
    operator = operators.start()
    before = pods(api, namespaces)
    processes.stop(plane.layout, part, grace_seconds=0)
    if part == "kube-apiserver":
        # Its controllers would take the nodes for dead when it is back, and the pods' Ready away;
        # a kubelet gives that back, and kwok does not.
        processes.stop(plane.layout, "kube-controller-manager", grace_seconds=0)
        eventually(lambda: "is broken" in operator.why_not_ready(), seconds=30)
    time.sleep(soak.outage_seconds if part == "kube-apiserver" else 5)
    plane.up()
    since = audit.now()
    edited = eventually(lambda: _retried(api, world), seconds=60)
    check_end(
        api, plane, namespaces, before, edited=[edited], since=since, description=f"{part} gone"
    )
    assert operator.is_ready(), operator.why_not_ready()


def _retried(api: Api, world: World) -> str | None:
    """Edit a model as soon as the API server takes it."""
    try:
        return edit(api, world, 1)
    except Exception:
        return None


def test_an_operator_that_is_killed_again_and_again_gets_there(
    api: Api,
    plane: Testbed,
    namespaces: list[str],
    operators: Operators,
    world: World,
    soak: Soak,
) -> None:
    chosen = random.Random(1)  # noqa: S311
    before, since = pods(api, namespaces), audit.now()
    edited: list[str] = []
    for _ in range(soak.kills):
        operator = operators.start(ready=False)
        time.sleep(0.6 + chosen.random())
        edited.append(edit(api, world, chosen.randrange(MODELS)))
        time.sleep(chosen.random() * 0.5)
        operator.kill()
    operators.start()
    # Killed in between, it may have told more states of an edited model than one that lives.
    check_end(
        api,
        plane,
        namespaces,
        before,
        edited=edited,
        since=since,
        description=f"{soak.kills} kills",
    )


def test_an_operator_that_is_stopped_for_long_catches_up(
    api: Api,
    plane: Testbed,
    namespaces: list[str],
    operators: Operators,
    world: World,
    soak: Soak,
) -> None:
    operator = operators.start()
    before, since = pods(api, namespaces), audit.now()
    operator.signal(signal.SIGSTOP)
    edited = {edit(api, world, 2), edit(api, world, 3)}
    api.delete("Service", world.place(4), "model-4")
    time.sleep(soak.stopped_seconds)
    operator.signal(signal.SIGCONT)
    eventually(lambda: api.get("Service", world.place(4), "model-4"), seconds=60)
    wait_true(api, namespaces)
    written = audit.writes(plane.layout.audit_log, since=since)
    assert written["patch services"] == 1
    assert written["patch deployments"] == len(edited)
    changed = {name for name, uid in pods(api, namespaces).items() if before[name] != uid}
    assert changed == edited


def test_two_operators_side_by_side_do_the_work_of_one(
    api: Api,
    plane: Testbed,
    namespaces: list[str],
    operators: Operators,
    world: World,
    soak: Soak,
) -> None:
    older, newer = operators.start(), operators.start()
    eventually(lambda: "another instance holds the identity Lease" in older.why_not_ready())
    before, since = pods(api, namespaces), audit.now()
    edited: list[str] = []
    chosen = random.Random(2)  # noqa: S311
    ending = time.monotonic() + soak.rivals_seconds
    while time.monotonic() < ending:
        edited.append(edit(api, world, chosen.randrange(MODELS)))
        time.sleep(2)
    check_end(
        api, plane, namespaces, before, edited=edited, since=since, description="two operators"
    )
    assert newer.is_ready()
    assert older.running


def test_without_an_api_server_it_waits_and_starts_when_there_is_one(
    plane: Testbed, operators: Operators
) -> None:
    processes.stop(plane.layout, "kube-apiserver", grace_seconds=0)
    operator = operators.start(ready=False)
    eventually(
        lambda: "the request to the API server failed" in operator.why_not_ready(),
        seconds=30,
    )
    plane.up()
    operator.wait_ready(seconds=60)


def test_a_token_that_is_rotated_is_read_anew(
    api: Api, plane: Testbed, namespaces: list[str], tmp_path: Path
) -> None:
    """The first token is bound to a Secret that goes: from then on it is refused."""
    token_file, kubeconfig = tmp_path / "token", write_kubeconfig(plane, tmp_path / "kubeconfig")
    secret = {"apiVersion": "v1", "kind": "Secret"}
    bound = api.create({**secret, "metadata": {"name": "bound", "namespace": NAMESPACE}})
    token_file.write_text(api.token(NAMESPACE, ACCOUNT, bound_to=bound))
    config = json.loads(kubeconfig.read_text())
    config["users"][0]["user"] = {"tokenFile": str(token_file)}
    kubeconfig.write_text(json.dumps(config))
    operators = Operators(kubeconfig, tmp_path / "operator.log")
    try:
        operator = operators.start()
        token_file.write_text(api.token(NAMESPACE, ACCOUNT))
        api.delete("Secret", NAMESPACE, "bound")
        time.sleep(12)  # the API server remembers a good token for 10 s
        api.apply(model(namespaces[0], 0))
        wait_true(api, namespaces)
        assert operator.running
        assert token_file.read_text() not in (tmp_path / "operator.log").read_text()
    finally:
        operators.stop_all()


def test_a_model_of_a_node_that_vanished_serves_on_another(
    api: Api, namespaces: list[str], plane: Testbed, operators: Operators
) -> None:
    namespace = namespaces[0]
    spec = {"nodeSelector": {"kubernetes.io/os": "linux"}}
    api.apply(model(namespace, 0, pod={**spec, "resources": {"requests": {"cpu": "50m"}}}))
    operators.start()
    wait_true(api, namespaces)
    live = api.get("LlamaModel", namespace, "model-0")
    assert live is not None
    lost = live["status"]["nodeSummary"]
    node = api.get("Node", "", lost)
    assert node is not None
    api.delete("Node", "", lost)
    try:

        def elsewhere() -> bool:
            status = (api.get("LlamaModel", namespace, "model-0") or {})["status"]
            return status["nodeSummary"] not in (lost, "") and status["readyReplicas"] == 1

        eventually(elsewhere, seconds=30)
    finally:
        plane.up()

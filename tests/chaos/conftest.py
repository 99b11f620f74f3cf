"""A control plane of its own for chaos: its API server and etcd are killed, its nodes vanish."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from hack.testbed import operator_process
from hack.testbed.cluster import Testbed
from hack.testbed.layout import Ports
from hack.testbed.operator_process import write_kubeconfig
from tests.support import failure_logs
from tests.support.api import Api, eventually
from tests.support.chaos_operators import Operators
from tests.support.chaos_world import NODES
from tests.support.fault_proxy import FaultProxy
from tests.support.soak_sizes import LONG, SHORT, Soak


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> Soak:
    return LONG if request.config.getoption("--soak") else SHORT


@pytest.fixture(scope="session")
def plane(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Testbed]:
    directory: Path = tmp_path_factory.mktemp("chaos-plane")
    testbed = Testbed(directory, with_node=False, ports=Ports.free(), fake_nodes=NODES)
    try:
        with failure_logs.saved_on_error(request.config, testbed.layout.logs):
            testbed.up()
        with failure_logs.registered(
            request.config, partial(failure_logs.copy_ends, testbed.layout.logs)
        ):
            operator_process.install(testbed)
            yield testbed
    finally:
        testbed.down()


@pytest.fixture(scope="session")
def api(plane: Testbed) -> Iterator[Api]:
    client = Api(plane.kubeconfig)
    yield client
    client.close()


@pytest.fixture
def proxy(plane: Testbed, request: pytest.FixtureRequest) -> Iterator[FaultProxy]:
    fault_proxy = FaultProxy(plane.layout, seed=request.config.getoption("--chaos-seed"))
    yield fault_proxy
    fault_proxy.stop()


@pytest.fixture
def operators(
    plane: Testbed, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Operators]:
    """Operators with a straight way to the API server."""
    operators_started = Operators(
        write_kubeconfig(plane, tmp_path / "kubeconfig"), tmp_path / "operator.log"
    )
    with failure_logs.registered(request.config, partial(failure_logs.copy_ends, tmp_path)):
        yield operators_started
    operators_started.stop_all()


@pytest.fixture
def proxied(
    plane: Testbed, proxy: FaultProxy, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Operators]:
    """Operators whose way leads through the proxy."""
    path = tmp_path / "proxied.kubeconfig"
    kubeconfig = write_kubeconfig(plane, path, server=proxy.server)
    operators_started = Operators(kubeconfig, tmp_path / "operator.log")
    with failure_logs.registered(request.config, partial(failure_logs.copy_ends, tmp_path)):
        yield operators_started
    operators_started.stop_all()


@pytest.fixture
def namespaces(api: Api, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Two namespaces of the test's own, gone afterwards."""
    stem = f"c-{abs(hash(request.node.nodeid)) % 10**6}"
    names = [api.namespace(f"{stem}-{index}") for index in range(2)]
    yield names
    for name in names:
        api.delete("Namespace", "", name)
    # The next test counts writes, and those to a namespace that goes would be among them.
    eventually(lambda: not any(api.get("Namespace", "", name) for name in names), seconds=120)

"""The operator as a real process, with the shipped permissions, against the real control plane."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hack.testbed.cluster import Testbed
from hack.testbed.operator_process import OperatorProcess, write_kubeconfig
from tests.support import failure_logs
from tests.support.api import Api
from tests.support.fault_proxy import FaultProxy
from tests.support.resources import (
    StartOperator,
)


@pytest.fixture(scope="session")
def api(control_plane: Testbed) -> Iterator[Api]:
    """The API server with our CRDs and the operator's ServiceAccount and permissions."""
    client = Api(control_plane.kubeconfig)
    yield client
    client.close()


@pytest.fixture(scope="session")
def operator_kubeconfig(control_plane: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig with a token of the operator's ServiceAccount, as its pod would have."""
    folder = tmp_path_factory.mktemp("operator")
    return write_kubeconfig(control_plane, folder / "kubeconfig")


@pytest.fixture(scope="session")
def operator_log(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Path]:
    log = tmp_path_factory.mktemp("operator-log") / "operator.log"
    with failure_logs.registered(request.config, partial(failure_logs.copy_end, log)):
        yield log


@pytest.fixture(scope="class")
def start_operator(operator_kubeconfig: Path, operator_log: Path) -> Iterator[StartOperator]:
    """Start operators that end with the test class."""
    started: list[OperatorProcess] = []

    def start(**settings: str) -> OperatorProcess:
        process = OperatorProcess(operator_kubeconfig, operator_log, **settings)
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()


@pytest.fixture(scope="class")
def operator(start_operator: StartOperator) -> OperatorProcess:
    """One operator that is ready."""
    process = start_operator()
    process.wait_ready()
    return process


@pytest.fixture(scope="class")
def proxy(control_plane: Testbed) -> Iterator[FaultProxy]:
    """A way to the API server that can be broken."""
    fault_proxy = FaultProxy(control_plane.layout)
    yield fault_proxy
    fault_proxy.stop()


@pytest.fixture(scope="class")
def proxied_operator(
    control_plane: Testbed, proxy: FaultProxy, operator_log: Path, tmp_path_factory: Any
) -> Iterator[OperatorProcess]:
    """One operator that reaches the API server through the proxy."""
    path = tmp_path_factory.mktemp("proxied") / "kubeconfig"
    kubeconfig = write_kubeconfig(control_plane, path, server=proxy.server)
    process = OperatorProcess(kubeconfig, operator_log)
    process.wait_ready()
    yield process
    process.stop()


@pytest.fixture
def namespace(api: Api, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, emptied of our resources afterwards."""
    name = api.namespace(f"t-{abs(hash(request.node.nodeid)) % 10**8}")
    yield name
    for kind in ("LlamaModel", "ModelRouter"):
        for obj in api.list(kind, name):
            api.delete(kind, name, obj["metadata"]["name"])

"""The operator as a real process, with the shipped permissions, against the real control plane."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.testbed.cluster import Testbed
from hack.testbed.operator_process import OperatorProcess, write_kubeconfig
from tests.api import Api


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


StartOperator = Callable[..., OperatorProcess]


@pytest.fixture(scope="session")
def operator_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operator-log") / "operator.log"


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


@pytest.fixture
def namespace(api: Api, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, emptied of our resources afterwards."""
    name = api.namespace(f"t-{abs(hash(request.node.nodeid)) % 10**8}")
    yield name
    for kind in ("LlamaModel", "ModelRouter"):
        for each in api.list(kind, name):
            api.delete(kind, name, each["metadata"]["name"])


def now() -> str:
    """Return the time as the audit log writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def model(namespace: str, name: str = "coder", **spec: Any) -> dict[str, Any]:
    """Return a LlamaModel that fits a fake node."""
    base = {
        "source": {"local": {"path": "x.gguf"}},
        "contextSize": 4096,
        "memory": {"gpu": "10Gi", "host": "1Gi"},
    }
    return {
        "apiVersion": "llama-halo.dev/v1alpha1",
        "kind": "LlamaModel",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**base, **spec},
    }


def router(namespace: str, name: str = "main", **spec: Any) -> dict[str, Any]:
    """Return a ModelRouter of one model."""
    base = {"models": [{"name": "coder", "modelRef": {"name": "coder"}}]}
    return {
        "apiVersion": "llama-halo.dev/v1alpha1",
        "kind": "ModelRouter",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**base, **spec},
    }


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a YAML file."""
    return [each for each in yaml.safe_load_all(path.read_text()) if each]

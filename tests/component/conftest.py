"""The operator as a real process, with the shipped permissions, against the real control plane."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.testbed.cluster import Testbed
from hack.testbed.operator_process import OperatorProcess, write_kubeconfig
from tests.support import failure_logs
from tests.support.api import Api, eventually, ready
from tests.support.fault_proxy import FaultProxy


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


Json = dict[str, Any]
StartOperator = Callable[..., OperatorProcess]


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


def now() -> str:
    """Return the time as the audit log writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


MISTAKE = {"memory": {"gpu": "24", "host": "1Gi"}}
"""Of a spec: a unit was forgotten, which the operator alone can tell."""


def model(namespace: str, name: str = "coder", **spec: Any) -> dict[str, Any]:
    """Return a LlamaModel that fits a fake node."""
    base = {
        "source": {"local": {"path": "x.gguf"}},
        "contextSize": 4096,
        "memory": {"gpu": "10Gi", "host": "1Gi"},
        # No server is behind these pods: whatever answers at their addresses is somebody else.
        "verify": {"toolCalling": "Off"},
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
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def wait_ready(
    api: Api, namespace: str, name: str, *, kind: str = "LlamaModel", seconds: float = 15
) -> Json:
    """Wait until a resource is Ready=True and return it."""

    return eventually(
        lambda: api.get(kind, namespace, name),
        until=lambda value: ready(value)[0] == "True",
        seconds=seconds,
        description=f"{kind} {name} ready",
    )


def wait_state(
    api: Api,
    namespace: str,
    name: str,
    reason: str,
    *,
    kind: str = "LlamaModel",
    seconds: float = 15,
) -> Json:
    """Wait until a resource shows a reason and return it."""

    return eventually(
        lambda: api.get(kind, namespace, name),
        until=lambda value: ready(value)[1] == reason,
        seconds=seconds,
        description=f"{kind} {name} {reason}",
    )


def deployments(api: Api, namespace: str, name: str = "coder") -> list[Json]:
    return api.list("Deployment", namespace, f"llama-halo.dev/model={name}")


def pods(api: Api, namespace: str, label: str = "llama-halo.dev/model") -> list[Json]:
    return api.list("Pod", namespace, label)


def uids(api: Api, namespace: str, label: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods(api, namespace, label)}

"""The operator as a real process, with the shipped permissions, against the real control plane."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from hack.testbed.cluster import Testbed
from tests.api import Api

SYSTEM = "llama-halo-system"


@pytest.fixture(scope="session")
def api(control_plane: Testbed) -> Iterator[Api]:
    """The API server with our CRDs and the operator's ServiceAccount and permissions."""
    client = Api(control_plane.kubeconfig)
    yield client
    client.close()


class OperatorProcess:
    """One run of `llama-halo operator` under the shipped ServiceAccount."""

    def __init__(self, kubeconfig: Path, log: Path, **settings: str) -> None:
        self.port = _free_port()
        self._log = log.open("ab")
        environment = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "LLAMA_HALO_IMAGE": "ghcr.io/llama-halo/llama-halo:0.1.0",
            "LLAMA_HALO_POD_NAME": f"operator-{self.port}",
            "LLAMA_HALO_PORT": str(self.port),
            **settings,
        }
        command = [sys.executable, "-m", "llama_halo", "operator"]
        self._process = subprocess.Popen(
            command, env=environment, stdout=self._log, stderr=self._log
        )

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise AssertionError(f"the operator ended with {self._process.returncode}")
            try:
                if self.get("/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError("the operator did not become ready within 30 s")

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}")

    def stop(self) -> int:
        """End it as the kubelet would, and return its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=20)
        self._log.close()
        return code

    def wait(self) -> int:
        return self._process.wait(timeout=30)


@pytest.fixture(scope="session")
def operator_kubeconfig(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig with a token of the operator's ServiceAccount, as its pod would have."""
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {
                "name": "c",
                "cluster": {
                    "server": api.server,
                    "certificate-authority": str(api.certificate_authority),
                },
            }
        ],
        "users": [{"name": "u", "user": {"token": api.token(SYSTEM, "llama-halo-operator")}}],
    }
    path = tmp_path_factory.mktemp("operator") / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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

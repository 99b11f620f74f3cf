"""A real gateway process, a real llama-server and model, a real API server for the watch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hack.testbed.cluster import Testbed
from hack.testbed.ports import free_port
from llama_halo.contract.gateway_config import GatewayConfig
from tests.support import failure_logs
from tests.support.api import Api, eventually
from tests.support.gateway import (
    CONFIG,
    NAMESPACE,
    Process,
    SetModel,
    StartGateway,
    answers,
    serving,
)


@pytest.fixture(scope="session")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """llama-server with two slots and a context of 2048 tokens, which ends no answer by itself."""
    log = tmp_path_factory.mktemp("llama") / "server.log"
    arguments = ("--alias", "smollm2", "--ctx-size", "2048", "--parallel", "2", "--kv-unified")
    with serving(log, *arguments, "--ignore-eos") as process:
        yield process


@pytest.fixture(scope="session")
def api(control_plane: Testbed) -> Iterator[Api]:
    """The API server with our CRDs, and a ServiceAccount with the gateway's shipped role."""
    client = Api(control_plane.kubeconfig)
    client.namespace(NAMESPACE)
    metadata = {"name": "main-router", "namespace": NAMESPACE}
    client.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    rbac = "rbac.authorization.k8s.io"
    # The Leases of all models: the tests add models for which no router exists.
    leases = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["patch"]}
    role = {"name": "leases", "namespace": NAMESPACE}
    head = {"apiVersion": f"{rbac}/v1"}
    client.apply({**head, "kind": "Role", "metadata": role, "rules": [leases]})
    for kind, name in (("ClusterRole", "llama-halo-gateway"), ("Role", "leases")):
        client.apply(
            {
                **head,
                "kind": "RoleBinding",
                "metadata": {**metadata, "name": name},
                "roleRef": {"apiGroup": rbac, "kind": kind, "name": name},
                "subjects": [{"kind": "ServiceAccount", **metadata}],
            }
        )
    yield client
    client.close()


@pytest.fixture(scope="session")
def set_model(api: Api) -> SetModel:
    """Make a LlamaModel and write the status that the operator would."""

    def set_model(
        name: str,
        endpoint: str,
        *,
        available: bool = True,
        aliases: tuple[str, ...] = (),
        parallel: int = 8,
        about: dict[str, Any] | None = None,
        state: str = "Loading",
        mode: str = "Chat",
        **more: Any,
    ) -> None:
        spec: dict[str, Any] = {
            "source": {"local": {"path": "x.gguf"}},
            "contextSize": 2048,
            "parallel": parallel,
            "displayName": f"The {name}",
            "mode": mode,
            "aliases": list(aliases),
        }
        metadata = {"name": name, "namespace": NAMESPACE}
        head = {"apiVersion": "llama-halo.dev/v1alpha1", "kind": "LlamaModel"}
        api.apply({**head, "metadata": metadata, "spec": spec})
        answers = "True" if available else "False"
        conditions = [
            {
                "type": kind,
                "status": answers,
                "reason": reason,
                "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            for kind, reason in (
                ("Ready", "Serving" if available else state),
                ("Available", "Answering"),
            )
        ]
        status = {"endpoint": endpoint, "conditions": conditions, "model": about or {}, **more}
        api.patch("LlamaModel", NAMESPACE, name, {"status": status}, subresource="/status")

    return set_model


@pytest.fixture(scope="session")
def start_gateway(
    api: Api, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[StartGateway]:
    """Start gateways that end with the session."""
    started: list[Process] = []
    folder = tmp_path_factory.mktemp("gateway")
    token = folder / "token"
    token.write_text(api.token(NAMESPACE, "main-router"))

    def start(config: GatewayConfig, *more: str | Path) -> Process:
        port = free_port()
        file = folder / f"{port}.json"
        file.write_text(config.to_json())
        with (folder / f"{port}.log").open("wb") as log:
            popen = subprocess.Popen(
                [
                    *(sys.executable, "-m", "llama_halo", "gateway", "--config", file),
                    *("--host", "127.0.0.1", "--port", str(port), "--api-server", api.server),
                    *("--ca-file", api.certificate_authority, "--token-file", token),
                    *("--grace-seconds", "60", *more),
                ],
                stdout=log,
                stderr=log,
            )
        process = Process(popen, f"http://127.0.0.1:{port}")
        started.append(process)
        eventually(lambda: answers(f"{process.url}/readyz"), seconds=20, description="the gateway")
        return process

    with failure_logs.registered(request.config, partial(failure_logs.copy_ends, folder)):
        yield start
    for process in started:
        process.stop()


@pytest.fixture(scope="session")
def gateway(llama_server: Process, set_model: SetModel, start_gateway: StartGateway) -> Process:
    """A gateway with two models that answer, one that loads, one that is not there, one that
    refuses connections."""
    set_model("smollm2", llama_server.url, aliases=("gpt-4o",))
    set_model("little", llama_server.url)
    set_model("loading", llama_server.url, available=False)
    set_model("refusing", f"http://127.0.0.1:{free_port()}")
    return start_gateway(CONFIG)

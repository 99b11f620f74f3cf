"""Other real clients through the real gateway, set up by what `llama-halo env` prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hack.testbed.clients import codex, opencode, qwen_code
from hack.testbed.cluster import Testbed
from llama_halo.contract.gateway_config import GatewayConfig
from tests.support import agents
from tests.support.api import Api
from tests.support.gateway import NAMESPACE, Process, SetModel, StartGateway
from tests.support.scripted_server import Scripted, scripted

pytestmark = pytest.mark.slow

Json = dict[str, Any]
KEY = "key-of-everybody-012345"
NAMES = ("coder", "small")
LOADING_SECONDS = 60
ROUTES = {"default": "coder", "background": "small"}


@pytest.fixture(scope="module")
def models(set_model: SetModel) -> Iterator[dict[str, Scripted]]:
    with ExitStack() as stack:
        value = {name: stack.enter_context(scripted()) for name in NAMES}
        for name, server in value.items():
            set_model(f"cl-{name}", server.url)
        yield value


@pytest.fixture(scope="module")
def clients_gateway(
    models: dict[str, Scripted],
    start_gateway: StartGateway,
    api: Api,
    tmp_path_factory: pytest.TempPathFactory,
) -> Process:
    """A gateway with a key, and its ModelRouter as the operator would have told of it."""
    assert models
    keys = tmp_path_factory.mktemp("keys")
    (keys / "all").write_text(KEY)
    named = [{"name": name, "llama_model": f"cl-{name}"} for name in NAMES]
    config = {"router": "clients", "namespace": NAMESPACE, "models": named, "routes": ROUTES}
    gateway = start_gateway(GatewayConfig.model_validate(config), "--keys", keys)
    spec = {
        "models": [{"name": name, "modelRef": {"name": f"cl-{name}"}} for name in NAMES],
        "routes": ROUTES,
        "auth": {"secretRef": {"name": "keys", "keys": ["all"]}},
    }
    metadata = {"name": "clients", "namespace": NAMESPACE}
    head = {"apiVersion": "llama-halo.dev/v1alpha1", "kind": "ModelRouter"}
    api.apply({**head, "metadata": metadata, "spec": spec})
    status = {"status": {"url": gateway.url}}
    api.patch("ModelRouter", NAMESPACE, "clients", status, subresource="/status")
    return gateway


def settings(plane: Testbed, client: str) -> str:
    """Return what `llama-halo env` prints for a client."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "llama_halo", "env", "clients", "-n", NAMESPACE),
            *("--client", client),
        ],
        env={**os.environ, "KUBECONFIG": str(plane.kubeconfig)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def run(*arguments: str | Path, home: Path, **environment: str) -> str:
    """Run a client with its key; return what it says."""
    return agents.run(*arguments, home=home, LLAMA_HALO_KEY=KEY, **environment)


@pytest.fixture(scope="module")
def answers(
    control_plane: Testbed,
    clients_gateway: Process,
    models: dict[str, Scripted],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """What each client says, all asked at once while their model loads for a minute."""
    homes = {name: tmp_path_factory.mktemp(name) for name in ("codex", "opencode", "qwen-code")}
    (homes["codex"] / ".codex").mkdir()
    (homes["codex"] / ".codex/config.toml").write_text(settings(control_plane, "codex"))
    (homes["opencode"] / "opencode.json").write_text(settings(control_plane, "opencode"))
    commands: dict[str, tuple[tuple[str | Path, ...], dict[str, str]]] = {
        "codex": (
            (
                *(codex(), "exec", "--skip-git-repo-check"),
                *("--dangerously-bypass-approvals-and-sandbox", "hi"),
            ),
            {},
        ),
        "opencode": (
            (opencode(), "run", "hi"),
            {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"},
        ),
        "qwen-code": (
            (*qwen_code(), "-p", "hi", "--auth-type", "openai"),
            printed_environment(control_plane),
        ),
    }
    assert clients_gateway.url
    models["coder"].ready_at = time.monotonic() + LOADING_SECONDS
    with ThreadPoolExecutor(len(commands)) as pool:
        running = {
            name: pool.submit(run, *arguments, home=homes[name], **environment)
            for name, (arguments, environment) in commands.items()
        }
        return {name: answer.result() for name, answer in running.items()}


def printed_environment(plane: Testbed) -> dict[str, str]:
    """Return the variables that are printed for Qwen Code; a key is read by kubectl."""
    arguments = [
        line.removeprefix("export ").partition("=")
        for line in settings(plane, "qwen-code").splitlines()
    ]
    return {name: KEY if "kubectl" in value else value for name, _, value in arguments}


def requests_with(tool: str, server: Scripted) -> list[tuple[str, Json]]:
    """Return path and body of the requests that offer a tool of this name."""
    return [
        (path, body)
        for path, _, body in server.asked
        if tool in {tool.get("name") or tool["function"]["name"] for tool in body.get("tools", ())}
    ]


def test_codex(
    control_plane: Testbed,
    clients_gateway: Process,
    models: dict[str, Scripted],
    answers: dict[str, str],
) -> None:
    assert clients_gateway.url in settings(control_plane, "codex")
    assert "Hello world!" in answers["codex"]
    body = [body for path, _, body in models["coder"].asked if path == "/v1/responses"][-1]
    assert {tool["type"] for tool in body["tools"]} == {"function"}
    roles = [input_item.get("role") for input_item in body["input"]]
    assert not {"developer", "system"} & set(roles)
    assert body["instructions"]


def test_opencode(
    control_plane: Testbed,
    clients_gateway: Process,
    models: dict[str, Scripted],
    answers: dict[str, str],
) -> None:
    text = settings(control_plane, "opencode")
    assert json.loads(text.partition("\n")[2])["provider"]["llama-halo"]["options"]["baseURL"]
    assert clients_gateway.url in text
    assert "Hello world!" in answers["opencode"]
    (path, _), *_ = requests_with("bash", models["coder"])
    assert path == "/v1/chat/completions"
    assert models["small"].generations(), "it names the session by the background route"


def test_what_is_printed_for_crush_is_a_file_that_it_takes(
    control_plane: Testbed, clients_gateway: Process
) -> None:
    """It refuses one with comments."""
    value = json.loads(settings(control_plane, "crush"))
    assert value["providers"]["llama-halo"]["base_url"] == f"{clients_gateway.url}/v1"
    names = {model["id"] for model in value["providers"]["llama-halo"]["models"]}
    sizes = {size: model["model"] for size, model in value["models"].items()}
    assert sizes == {"large": "default", "small": "background"}
    assert set(sizes.values()) <= names


def test_qwen_code(
    control_plane: Testbed,
    clients_gateway: Process,
    models: dict[str, Scripted],
    answers: dict[str, str],
) -> None:
    assert printed_environment(control_plane)["OPENAI_BASE_URL"] == f"{clients_gateway.url}/v1"
    assert "Hello world!" in answers["qwen-code"]
    (path, _), *_ = requests_with("read_file", models["coder"])
    assert path == "/v1/chat/completions"


def test_what_is_printed_for_a_shell_can_be_evaluated(
    control_plane: Testbed, clients_gateway: Process
) -> None:
    for client in ("claude-code", "qwen-code", "openai", "anthropic", "ollama"):
        text = settings(control_plane, client)
        script = f"kubectl() {{ printf {KEY} | base64; }}\n{text}\nenv"
        done = subprocess.run(
            ["/bin/bash", "-c", script], capture_output=True, text=True, check=True
        )
        assert clients_gateway.url in done.stdout
        if client != "ollama":
            assert KEY in done.stdout
        assert KEY not in text

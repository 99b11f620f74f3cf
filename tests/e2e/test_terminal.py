"""What a person sees and does from a terminal, a real one where it matters."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import administrators, eventually, ready
from tests.support.kubectl import NAMESPACE, Kubectl
from tests.support.manifests import router, smollm2
from tests.support.streams import Stream

Json = dict[str, Any]
Environment = dict[str, str]
QUESTION = [{"role": "user", "content": "Tell a long story."}]


@pytest.fixture(scope="module")
def environment(kube: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A person's environment, with a model on demand, one that is always on, and a router."""
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")
    activation = {"onDemand": {"minResident": "0s", "idleTimeout": "30m"}}
    # It ends no answer by itself: what is long is to be long.
    endless = {"contextSize": 8192, "extraArgs": ["--ignore-eos"]}
    kube.apply(smollm2("sleeper", activation=activation, **endless))
    kube.apply(smollm2("always"))
    models = [{"name": name, "modelRef": {"name": name}} for name in ("always", "sleeper")]
    kube.apply(router(models=models, routes={"default": "always"}))
    kube.wait_ready("llamamodel/sleeper", "llamamodel/always", "modelrouter/main")
    kubeconfig = administrators(kube.cluster.kubeconfig, tmp_path_factory.mktemp("person"))
    path = f"{Path(sys.executable).parent}:{kube.cluster.kubectl.parent}:{os.environ['PATH']}"
    return {**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": path}


def halo(environment: Environment, *arguments: str, status: int = 0) -> str:
    """Run llama-halo as a person does and return what it prints."""
    done = subprocess.run(
        [shutil.which("llama-halo", path=environment["PATH"]) or "", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_status_in_one_look(environment: Environment) -> None:
    text = halo(environment, "status")
    assert "NODES\nhalo-1  " in text
    assert f"{NAMESPACE}/always" in text
    assert "Serving" in text
    assert f"{NAMESPACE}/main" in text
    value = json.loads(halo(environment, "status", "-n", NAMESPACE, "-o", "json"))
    states = {model["name"]: model["state"] for model in value["models"]}
    assert states == {"always": "Serving", "sleeper": "Idle"}
    (node,) = value["nodes"]
    assert node["heldMiB"] >= 1024
    assert node["strixHalo"]


def test_a_model_is_woken_and_put_to_sleep_again(kube: Kubectl, environment: Environment) -> None:
    assert "sleeper serves" in halo(environment, "wake", "sleeper", "-n", NAMESPACE)
    assert ready(kube.get("llamamodel/sleeper")) == ("True", "Serving")
    output = halo(environment, "sleep", "sleeper", "-n", NAMESPACE)
    assert "the next request loads it" in output
    eventually(lambda: not kube.pod_uids("llama-halo.dev/model=sleeper"), seconds=60)
    assert "holds no memory" in halo(environment, "sleep", "sleeper", "-n", NAMESPACE)
    assert "stays so" in halo(environment, "sleep", "always", "-n", NAMESPACE)
    assert "always serves" in halo(environment, "wake", "always", "-n", NAMESPACE)
    message = halo(environment, "wake", "nobody", "-n", NAMESPACE, status=1)
    assert "there is no LlamaModel nobody" in message


def test_a_model_that_is_used_or_suspended_is_not_put_to_sleep(
    kube: Kubectl, environment: Environment
) -> None:
    """And nothing stays behind on its Lease: requests go on."""
    long = {"model": "sleeper", "max_tokens": 8000, "stream": True, "messages": QUESTION}
    with kube.forwarded("service/main-router") as url, Stream(url, long) as stream:
        told_text = "content_block_delta"
        eventually(lambda: any(told_text in line for line in stream.lines), seconds=60)
        eventually(lambda: ready(kube.get("llamamodel/sleeper"))[1] == "Serving")
        output = halo(environment, "sleep", "sleeper", "-n", NAMESPACE, status=1)
        assert "sleeper is in use" in output
        assert not any("event: error" in line for line in stream.lines)
    suspend = ("patch", "llamamodel/sleeper", "--type=merge", "--patch")
    kube(*suspend, json.dumps({"spec": {"suspend": True}}))
    eventually(lambda: ready(kube.get("llamamodel/sleeper"))[1] == "Suspended")
    output = halo(environment, "sleep", "sleeper", "-n", NAMESPACE, status=1)
    assert "is suspended" in output
    assert "is suspended" in halo(environment, "wake", "sleeper", "-n", NAMESPACE, status=1)
    assert phase(kube) == "Loaded"
    kube(*suspend, json.dumps({"spec": {"suspend": False}}))


def phase(kube: Kubectl) -> str:
    lease = kube.get("lease/llama-halo-sleeper")
    return str(lease["metadata"]["annotations"]["llama-halo.dev/phase"])


def test_a_question_through_the_router_and_to_a_model(environment: Environment) -> None:
    """The router wakes who sleeps; a model that sleeps is told of."""
    for name in ("main", "always"):
        output = halo(environment, "chat", name, "-n", NAMESPACE, "What", "is", "2+2?")
        assert len(output.strip()) > 3, output
    unknown = ("chat", "main", "--model", "nobody", "-n", NAMESPACE, "Hi.")
    assert "nobody" in halo(environment, *unknown, status=1)
    halo(environment, "sleep", "sleeper", "-n", NAMESPACE)
    message = halo(environment, "chat", "sleeper", "-n", NAMESPACE, "Hi.", status=1)
    assert "llama-halo status shows why" in message
    message = halo(environment, "chat", "nobody", "-n", NAMESPACE, "Hi.", status=1)
    assert "there is no ModelRouter or LlamaModel nobody" in message


def test_the_logs_of_a_model_and_its_router(environment: Environment) -> None:
    output = halo(environment, "logs", "always", "-n", NAMESPACE, "--tail", "20")
    assert "/llama-server] " in output
    output = halo(environment, "logs", "main", "--of", "router", "-n", NAMESPACE)
    assert '"message": "serving"' in output


def test_the_doctor_reads_what_the_node_agent_saw(environment: Environment) -> None:
    """This node is no Strix Halo machine, and is told so."""
    value = eventually(
        lambda: halo(environment, "doctor", "--nodes"),
        until=lambda text: "halo-1: " in text,
        seconds=60,
    )
    assert "problem: gpu: no GPU with PCI id 1002:1586" in value
    # Asked for by its name it counts; of all nodes those of another kind do not.
    assert "problem: gpu" in halo(environment, "doctor", "--nodes", "halo-1", status=1)
    value = halo(environment, "doctor", "--nodes", "nobody", status=1)
    assert "no such node: nobody" in value


def test_it_is_a_plugin_of_kubectl(kube: Kubectl, environment: Environment) -> None:
    done = subprocess.run(
        [str(kube.cluster.kubectl), "llama", "status", "-n", NAMESPACE],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{NAMESPACE}/always" in done.stdout


@contextmanager
def terminal(environment: Environment, command: str) -> Iterator[Any]:
    """Run a command in tmux, and give a function that returns what the screen shows."""
    # A name of its own: a server of an earlier test may still be on its way out.
    name = f"halo-{uuid.uuid4().hex[:12]}"
    tmux = ["tmux", "-L", name]
    start = [*tmux, "-f", "/dev/null", "new-session", "-d", "-x", "140", "-y", "40", command]
    subprocess.run(start, env={**environment, "TERM": "xterm-256color"}, check=True)

    def screen() -> str:
        shown = subprocess.run(
            [*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=False
        )
        return shown.stdout

    def keys(*arguments: str) -> None:
        subprocess.run([*tmux, "send-keys", *arguments], check=True)

    try:
        yield screen, keys
    finally:
        subprocess.run([*tmux, "kill-server"], capture_output=True, check=False)


def test_the_live_status_follows_in_a_real_terminal(
    kube: Kubectl, environment: Environment, tmp_path: Path
) -> None:
    halo(environment, "sleep", "sleeper", "-n", NAMESPACE)
    with terminal(environment, "llama-halo status -w") as (screen, _):
        eventually(screen, until=lambda text: f"{NAMESPACE}/sleeper  Idle" in text, seconds=60)
        halo(environment, "wake", "sleeper", "-n", NAMESPACE)
        shown = eventually(
            screen, until=lambda text: f"{NAMESPACE}/sleeper  Serving" in text, seconds=30
        )
        print(shown)
        assert shown.count("NODES") == 1, "it paints over what was there"
        assert all(len(line) <= 140 for line in shown.splitlines())


def test_a_conversation_in_a_real_terminal(environment: Environment) -> None:
    command = f"llama-halo chat main -n {NAMESPACE}"
    with terminal(environment, command) as (screen, keys):
        eventually(screen, until=lambda text: text.strip() == ">", seconds=60)
        keys("What is 2+2?", "Enter")
        eventually(screen, until=lambda text: text.rstrip().endswith("\n>"), seconds=120)
        answer = said_after(screen(), "> What is 2+2?")
        assert len(answer) > 3
        keys("And 3+3?", "Enter")
        shown = eventually(
            screen, until=lambda text: len(said_after(text, "> And 3+3?")) > 3, seconds=120
        )
        print(shown)
        eventually(screen, until=lambda text: text.rstrip().endswith("\n>"), seconds=120)
        keys("C-c")
        # The session ends with its command.
        eventually(lambda: not screen(), seconds=10, description="Ctrl-C ends it")


def said_after(screen: str, question: str) -> str:
    """Return what stands between a question and the next prompt."""
    return screen.partition(question)[2].partition("\n>")[0].strip()

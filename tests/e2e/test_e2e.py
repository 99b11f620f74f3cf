"""What a person sees on a real node: pods, their devices, who rolls when, and who writes at rest.

The tests share two models and a router and run in order; each leaves them Ready.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from hack.testbed import images, llama_server
from hack.testbed.audit import now, writes
from hack.testbed.cluster import Testbed
from tests.support.api import eventually, ready
from tests.support.kubectl import Kubectl, rolled
from tests.support.manifests import router, smollm2
from tests.support.streams import Stream

ONE, TWO = "llama-halo.dev/model=one", "llama-halo.dev/model=two"
ROUTER = "llama-halo.dev/router=main"
# It ignores the end token and shifts its context: its streams go on until they are left.
TALKER = smollm2("two", extraArgs=["--ignore-eos", "--context-shift"])
QUESTION: list[Any] = [{"role": "user", "content": "What is 2+2?"}]


@pytest.fixture(scope="module", autouse=True)
def served(kube: Kubectl) -> None:
    """Two models and a router, Ready."""
    kube.apply(smollm2("one", aliases=["gpt-4o"]))
    kube.apply(TALKER)
    kube.apply(router())
    kube.wait_ready("llamamodel/one", "llamamodel/two", "modelrouter/main")


class Pods:
    """The uids of all pods at one moment, by who they serve."""

    def __init__(self, kube: Kubectl) -> None:
        self.one = kube.pod_uids(ONE)
        self.two = kube.pod_uids(TWO)
        self.router = kube.pod_uids(ROUTER)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pods) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


def test_both_apis_answer_streamed_through_the_routers_service(kube: Kubectl) -> None:
    with kube.forwarded("service/main-router") as url:
        body = {"model": "claude-sonnet-4-5", "max_tokens": 20, "stream": True}
        body["messages"] = QUESTION
        anthropic = httpx.post(f"{url}/v1/messages", json=body, timeout=60).text
        assert "event: message_stop" in anthropic
        body["model"] = "gpt-4o"
        openai = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).text
        assert openai.strip().endswith("data: [DONE]")


def test_kubectl_get_tells_the_truth_at_a_glance(kube: Kubectl) -> None:
    lines = kube("get", "llamamodels").splitlines()
    assert " ".join(lines[0].split()) == "NAME READY STATE MODEL CTX MEMORY NODE TOOLS AGE"
    arguments = lines[1].split()
    assert arguments[:5] == [
        "one",
        "True",
        "Serving",
        llama_server.MODEL_FILE[: -len(".gguf")],
        "2048",
    ]
    lines = kube("get", "lmr").splitlines()
    assert " ".join(lines[0].split()) == "NAME READY STATE ENGINE MODELS URL AGE"
    assert lines[1].split()[:5] == ["main", "True", "Serving", "gateway", "2/2"]


@pytest.mark.parametrize(
    "change",
    [
        {"contextSize": 1024},
        {"contextSize": 1024, "extraArgs": ["--temp", "0.1"]},
        {
            "contextSize": 1024,
            "extraArgs": ["--temp", "0.1"],
            "image": f"docker.io/{images.SERVER_IMAGE.replace('localhost', 'library')}",
        },
    ],
    ids=["contextSize", "extraArgs", "image"],
)
def test_an_edited_model_rolls_exactly_its_pod(
    kube: Kubectl, second_tag: None, change: dict[str, Any]
) -> None:
    before = Pods(kube)
    kube.apply(smollm2("one", aliases=["gpt-4o"], **change))
    eventually(lambda: rolled(kube, ONE, before.one), seconds=90)
    kube.wait_ready("llamamodel/one")
    after = Pods(kube)
    assert (after.two, after.router) == (before.two, before.router)


@pytest.fixture(scope="module")
def second_tag(kube: Kubectl) -> None:
    """The same image under another name, so that an edit of `image` has somewhere to go."""
    if isinstance(kube.cluster, Testbed):
        images.tag(images.SERVER_IMAGE, "docker.io/library/llama-server:testbed")


def test_labels_and_the_same_yaml_again_roll_nothing(kube: Kubectl) -> None:
    before = Pods(kube)
    kube.apply(TALKER)
    kube.apply(router())
    kube("label", "llamamodel/two", "modelrouter/main", "team=core", "--overwrite")
    kube("annotate", "llamamodel/two", "note=mine", "--overwrite")
    time.sleep(5)
    assert Pods(kube) == before


LOAD = """
import json, time, urllib.request as http
ending, answered, failed = time.monotonic() + 60, 0, []
question = [{"role": "user", "content": "hi"}]
body = json.dumps({"model": "one", "max_tokens": 1, "messages": question}).encode()
while time.monotonic() < ending:
    try:
        url = "http://main-router.e2e.svc:8080/v1/messages"
        asked = http.Request(url, body, {"Content-Type": "application/json"})
        http.urlopen(asked, timeout=60).read()
        answered += 1
    except Exception as error:
        failed.append(repr(error))
print(json.dumps([answered, failed]))
"""


def test_an_edited_router_rolls_exactly_itself_and_cuts_no_request(kube: Kubectl) -> None:
    """Twenty streams through the old pod, one of them for a minute, go on while the new pod takes
    over, and a pod that asks by new connections all the while misses no answer."""
    before = Pods(kube)
    (asker,) = kube("get", "pods", "-l", TWO, "-o", "name").split()
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(kube, "exec", asker, "--", "python3", "-c", LOAD)
        _roll_the_router(kube, before)
        answered, failed = json.loads(load.result())
    assert not failed
    assert answered > 5


def _roll_the_router(kube: Kubectl, before: Pods) -> None:
    (pod,) = kube.list("pods", ROUTER)
    # On any machine it is still being told when a minute is over.
    body = {
        "model": "two",
        "max_tokens": 1_000_000,
        "stream": True,
        "messages": [{"role": "user", "content": "Tell a very long story."}],
    }
    name = f"pod/{pod['metadata']['name']}"
    with (
        kube.forwarded(name) as url,
        Stream(url, body) as stream,
        ThreadPoolExecutor(19) as pool,
    ):
        eventually(lambda: len(stream.lines) > 3, seconds=60)
        others = [pool.submit(_answer, url, number) for number in range(19)]
        kube.apply(router(routes={"default": "two"}))
        eventually(lambda: rolled(kube, ROUTER, before.router), seconds=60)
        kube.wait_ready("modelrouter/main")
        eventually(lambda: stream.seconds >= 60, seconds=90, description="a stream of a minute")
        message = len(stream.lines)
        eventually(lambda: len(stream.lines) > message + 10, seconds=60, description="it goes on")
        assert not any("event: error" in line for line in stream.lines)
        assert [other.result() for other in others] == ["event: message_stop"] * 19
    after = Pods(kube)
    assert (after.one, after.two) == (before.one, before.two)
    with kube.forwarded("service/main-router") as url:
        asked = {"model": "claude-x", "max_tokens": 1, "messages": QUESTION, "tools": []}
        assert httpx.post(f"{url}/v1/messages", json=asked, timeout=60).status_code == 200


def _answer(url: str, number: int) -> str:
    """Ask for one of many streams, each somebody else's; return the event that it ended with."""
    question = {"role": "user", "content": f"Tell story {number}."}
    body = {"model": "one", "max_tokens": 40, "stream": True, "messages": [question]}
    with httpx.stream("POST", f"{url}/v1/messages", json=body, timeout=120) as answer:
        return [line for line in answer.iter_lines() if line.startswith("event:")][-1]


def test_rollout_restart_restarts_once_and_is_not_fought(kube: Kubectl) -> None:
    before = Pods(kube)
    (name,) = kube("get", "deploy", "-l", TWO, "-o", "name").split()
    kube("rollout", "restart", name)
    eventually(lambda: rolled(kube, TWO, before.two), seconds=90)
    kube.wait_ready("llamamodel/two")
    once = Pods(kube)
    time.sleep(5)
    assert Pods(kube) == once
    assert (once.one, once.router) == (before.one, before.router)


def test_a_model_sleeps_at_zero_replicas_and_comes_back(kube: Kubectl) -> None:
    kube("scale", "llamamodel/one", "--replicas=0")
    eventually(lambda: not kube.pod_uids(ONE), seconds=60)
    kube.wait_ready("llamamodel/one")
    assert "Stopped" in kube("get", "llamamodel", "one")
    kube("scale", "llamamodel/one", "--replicas=1")
    eventually(lambda: kube.pod_uids(ONE), seconds=60)
    kube.wait_ready("llamamodel/one")


def test_a_vulkan_pod_has_its_devices_and_serves_from_vulkan(kube: Kubectl) -> None:
    """Privileged hostPath devices for real, and the server's own word for where it computes."""
    spec: dict[str, Any] = {
        "backend": "Vulkan",
        "devices": {"privileged": {}},
        "memory": {"gpu": "1Gi", "host": "1Gi"},
        # Mesa's software device: skipped by llama.cpp unless it is asked for by number.
        "env": [{"name": "GGML_VK_VISIBLE_DEVICES", "value": "0"}],
        "extraArgs": ["--verbosity", "4"],
    }
    model = smollm2("gpu", **spec)
    model["spec"].pop("threads")
    kube.apply(model)
    kube.wait_ready("llamamodel/gpu", seconds=180)
    (pod,) = kube.list("pods", "llama-halo.dev/model=gpu")
    name = pod["metadata"]["name"]
    listing = kube("exec", name, "--", "ls", "-l", "/dev/kfd", "/dev/dri/renderD128")
    assert [line[0] for line in listing.splitlines()] == ["c", "c"]
    opened = kube(
        "exec", name, "--", "sh", "-c", "exec 3<>/dev/kfd 4<>/dev/dri/renderD128; echo ok"
    )
    assert opened.strip() == "ok"
    environment = kube("exec", name, "--", "env")
    for text in ("LLAMA_ARG_DEVICE=Vulkan0", "LLAMA_ARG_LOAD_MODE=none", "LLAMA_ARG_MMAP=0"):
        assert text in environment
    assert "offloaded 31/31 layers to GPU" in kube("logs", name)
    node = kube.get(f"node/{pod['spec']['nodeName']}")
    assert node["metadata"]["labels"]["llama-halo.dev/strix-halo"] == "true"


def test_a_server_without_its_gpu_is_never_ready(kube: Kubectl) -> None:
    spec: dict[str, Any] = {"backend": "Vulkan", "memory": {"gpu": "1Gi", "host": "1Gi"}}
    model = smollm2("blind", **spec)
    model["spec"].pop("threads")
    kube.apply(model)

    def state() -> str:
        return ready(kube.get("llamamodel/blind"))[1]

    eventually(lambda: state() == "DeviceUnavailable", seconds=60)
    assert "invalid device: Vulkan0" in kube("get", "llamamodel", "blind", "-o", "yaml")
    kube("delete", "llamamodel", "blind")


def test_a_model_that_calls_no_tools_is_told(kube: Kubectl) -> None:
    """The small model's template has no place for tools: the server says so itself."""
    kube.apply(smollm2("talker", verify={"toolCalling": "Auto"}))
    value = eventually(
        lambda: kube.get("llamamodel/talker")["status"],
        until=lambda status: status.get("verifiedConfigHash"),
        seconds=120,
    )
    message = next(
        condition for condition in value["conditions"] if condition["type"] == "ToolCalling"
    )
    assert (message["status"], message["reason"]) == ("False", "NoToolTemplate")
    assert float(value["speed"]["tokensPerSecond"]) > 0
    header, row = kube("get", "llamamodel", "talker").splitlines()
    column = header.index("TOOLS")
    assert row[column:].split()[0] == "False"
    kube("delete", "llamamodel", "talker")


def test_the_router_is_reached_by_name_from_a_pod(kube: Kubectl) -> None:
    (pod,) = kube("get", "pods", "-l", TWO, "-o", "name").split()
    script = (
        "import urllib.request as r; print(r.urlopen("
        "'http://main-router.e2e.svc:8080/v1/models', timeout=5).status)"
    )
    assert kube("exec", pod, "--", "python3", "-c", script).strip() == "200"


def test_at_rest_nobody_writes_and_a_restart_writes_one_lease(kube: Kubectl) -> None:
    """Counted from the API server's audit log, over a minute, with three models and a router."""
    if not isinstance(kube.cluster, Testbed):
        return  # another cluster's audit log is not at hand
    kube.wait_ready("llamamodel/one", "llamamodel/two", "llamamodel/gpu", "modelrouter/main")
    log = kube.cluster.layout.audit_log
    before = Pods(kube)
    time.sleep(5)
    since = now()
    time.sleep(60)
    assert writes(log, since=since) == {}
    since = now()
    operator = ("-n", "llama-halo-system", "deployment/llama-halo-operator")
    kube("rollout", "restart", *operator)
    kube("rollout", "status", *operator, "--timeout=120s")
    time.sleep(10)
    assert writes(log, since=since) == {"patch leases": 1}
    assert Pods(kube) == before

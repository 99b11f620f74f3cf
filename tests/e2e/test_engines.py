"""Other routers as engines, as their makers publish them, on a real node before a real model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from hack.testbed import images
from llama_halo.status.conditions import condition
from tests.support.agents import claude
from tests.support.api import eventually, message, ready
from tests.support.kubectl import Kubectl, rolled
from tests.support.manifests import smollm2

Json = dict[str, Any]
KEY = "the-key-of-alice-0123"
PODS = "llama-halo.dev/router=engine"
SAID = "Yes."
AUTH = {"secretRef": {"name": "engine-keys", "keys": ["alice"]}}
CCR, LITELLM, SWAP = "claudeCodeRouter", "liteLLM", "llamaSwap"
LLAMA_SWAP = "llama-swap"
PICTURE = "iVBORw0KGgo="
"""As PNG begins."""
SEARCH = {"type": "web_search_20250305", "name": "web_search"}


@dataclass(frozen=True)
class Engine:
    """An engine, and which model it is to choose for what a client asks: a name, and more."""

    spec: Json
    routes: Json
    asked: tuple[tuple[str, Json, str], ...]
    lists: bool = True
    """Whether it tells which models there are."""


ENGINES = {
    f"claude-code-router-{version}": Engine(
        {CCR: {"version": version}},
        {
            **{"default": "one", "background": "two", "think": "two", "webSearch": "two"},
            "longContext": {"model": "two", "thresholdTokens": 300},
        },
        (
            ("claude-opus-5", {}, "one"),
            ("claude-haiku-5", {}, "two"),
            ("claude-opus-5", {"thinking": {"type": "adaptive"}}, "two"),
            ("claude-opus-5", {"tools": [SEARCH]}, "two"),
            ("claude-opus-5", {"system": "word " * 400}, "two"),
            ("local,two", {}, "two"),
        ),
        lists=False,
    )
    for version in images.CLAUDE_CODE_ROUTER_IMAGES
} | {
    "litellm": Engine(
        {LITELLM: {}},
        {"default": "one", "background": "two"},
        (
            ("claude-opus-5", {}, "one"),
            ("claude-haiku-5", {}, "two"),
            *((name, {}, "two") for name in ("background", "two", "gpt-4o")),
        ),
    ),
    LLAMA_SWAP: Engine(
        {SWAP: {}},
        {"default": "one", "background": "two"},
        (
            ("default", {}, "one"),
            *((name, {}, "two") for name in ("background", "two", "gpt-4o")),
        ),
    ),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """llama-swap only where there is one: no registry has it, and --llama-swap brings it."""
    if "name" in metafunc.fixturenames:
        getoption = metafunc.config.getoption("--llama-swap")
        metafunc.parametrize("name", [case for case in ENGINES if case != LLAMA_SWAP or getoption])


# Asks a router by a new connection each time, until it is told to end.
LOAD = """
import json, sys, time, urllib.request
body = {"model": "claude-opus-5", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
head = {"content-type": "application/json", "x-api-key": sys.argv[1]}
answered, failed, ending = 0, [], time.monotonic() + float(sys.argv[2])
while time.monotonic() < ending:
    url = "http://engine-router:8080/v1/messages"
    request = urllib.request.Request(url, json.dumps(body).encode(), head)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            json.load(answer)
        answered += 1
    except Exception as error:
        failed.append(repr(error))
    time.sleep(0.2)
print(json.dumps([answered, failed]))
"""


def engine(spec: Json, **more: Any) -> Json:
    """Return a ModelRouter with an engine before two models."""
    models = [
        {"name": "one", "modelRef": {"name": "one"}},
        {"name": "two", "modelRef": {"name": "two"}, "aliases": ["gpt-4o"]},
    ]
    base = {"engine": spec, "models": models, "routes": {"default": "one"}, "auth": AUTH}
    return {
        "apiVersion": "llama-halo.dev/v1alpha1",
        "kind": "ModelRouter",
        "metadata": {"name": "engine"},
        "spec": {**base, **more},
    }


@pytest.fixture(scope="module", autouse=True)
def models_applied(kube: Kubectl, request: pytest.FixtureRequest) -> Iterator[None]:
    """A model that is always there and one that sleeps; both say one word whatever is asked."""
    for image in (*images.CLAUDE_CODE_ROUTER_IMAGES.values(), images.LITELLM_IMAGE):
        kube.cluster.load_image(image)
    if program := request.config.getoption("--llama-swap"):
        images.load_llama_swap(program)
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")
    arguments = ["--grammar", f'root ::= "{SAID}"']
    asleep = {"onDemand": {"minResident": "0s", "idleTimeout": "5s"}}
    more = {"contextSize": 8192, "memory": {"host": "2Gi"}, "extraArgs": arguments}
    kube.apply(smollm2("one", **more))
    kube.apply(smollm2("two", **more, activation=asleep))
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "engine-keys"},
            "stringData": {"alice": KEY},
        }
    )
    kube.wait_ready("llamamodel/one", "llamamodel/two")
    yield
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")


def asked_of(kube: Kubectl) -> list[str]:
    """Return the models that the gateways beside the engine were asked for, in order."""
    logs = kube("logs", "-l", PODS, "-c", "gateway", "--tail=-1")
    lines = [json.loads(line) for line in logs.splitlines() if line.startswith("{")]
    return [line["model"] for line in lines if line["message"] == "request" and line["model"]]


def ask(url: str, name: str, **more: Any) -> httpx.Response:
    """Ask for a name by Anthropic's API."""
    body = {
        "model": name,
        "max_tokens": 16,
        "messages": [{"role": "user", "content": "Is it so?"}],
        **more,
    }
    headers = {"x-api-key": KEY}
    return httpx.post(f"{url}/v1/messages", json=body, headers=headers, timeout=120)


def answer_of(url: str, name: str, **more: Any) -> str:
    """Return what a model said."""
    answer = ask(url, name, **more)
    assert answer.status_code == 200, answer.text
    (part,) = answer.json()["content"]
    return str(part["text"])


def applied(kube: Kubectl, resource: Json) -> None:
    """Apply a router and wait until this version of it serves, and no other is there."""
    kube.apply(resource)
    generation = kube.get("modelrouter/engine")["metadata"]["generation"]

    def serves() -> bool:
        cr = kube.get("modelrouter/engine")
        live = cr.get("status", {}).get("observedGeneration")
        return live == generation and ready(cr)[1] == "Serving"

    eventually(serves, seconds=180, description="the engine serves")
    eventually(
        lambda: kube("get", "pods", "-l", PODS, "-o", "name").split(),
        until=lambda pods: len(pods) == 1,
        seconds=90,
        description="the old pod is gone",
    )


def test_an_engine_serves_routes_wakes_and_rolls(kube: Kubectl, tmp_path: Path, name: str) -> None:
    case = ENGINES[name]
    applied(kube, engine(case.spec, routes=case.routes))
    cr = kube.get("modelrouter/engine")
    assert cr["status"]["engine"] == next(iter(case.spec))
    with kube.forwarded("service/engine-router") as url:
        assert httpx.get(f"{url}/v1/models").status_code == 401, "no key"
        listed = httpx.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {KEY}"}).text
        assert ('"one"' in listed and '"two"' in listed) is case.lists, listed
        eventually(
            lambda: ready(kube.get("llamamodel/two")),
            until=lambda value: value[1] == "Idle",
            seconds=90,
            description="two sleeps",
        )
        for asked, more, model in case.asked:
            before = len(asked_of(kube))
            assert answer_of(url, asked, **more) == SAID, asked
            assert asked_of(kube)[before:] == [model], (asked, more)
        assert SAID in claude(
            url,
            *("say hi", "--tools", "Read"),
            home=tmp_path,
            key=KEY,
            ANTHROPIC_MODEL=case.asked[0][0],
        )
    old = kube.pod_uids(PODS)
    applied(kube, engine(case.spec, routes={**case.routes, "default": "two"}))
    assert rolled(kube, PODS, old)
    with kube.forwarded("service/engine-router") as url:
        assert answer_of(url, case.asked[0][0]) == SAID
    assert asked_of(kube) == ["two"]


@pytest.mark.parametrize("version", images.CLAUDE_CODE_ROUTER_IMAGES)
def test_a_picture_goes_to_the_model_of_its_route(kube: Kubectl, version: str) -> None:
    """Which says in its own words that it takes none: so small a model has no eyes."""
    applied(kube, engine({CCR: {"version": version}}, routes={"default": "one", "image": "two"}))
    cr = kube.get("modelrouter/engine")
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    shown = [{"type": "text", "text": "What is it?"}, {"type": "image", "source": source}]
    with kube.forwarded("service/engine-router") as url:
        answer = ask(url, "claude-opus-5", messages=[{"role": "user", "content": shown}])
        assert answer.status_code >= 400
        assert "image" in answer.text
        assert answer_of(url, "claude-opus-5") == SAID
    assert asked_of(kube) == ["two", "one"], cr["status"]["routes"]


def test_what_an_engine_cannot_do_is_said_and_what_runs_stays(kube: Kubectl) -> None:
    applied(kube, engine({LITELLM: {}}))
    running = kube.pod_uids(PODS)
    kube.apply(engine({LITELLM: {}}, routes={"default": "one", "image": "one"}))
    cr = eventually(
        lambda: kube.get("modelrouter/engine"),
        until=lambda value: ready(value)[1] == "InvalidSpec",
    )
    assert message(cr).startswith("engine liteLLM cannot route image: ")
    for name in ("Stalled", "Available"):
        assert condition(cr["status"], name)["status"] == "True"
    assert kube.pod_uids(PODS) == running


def test_an_engine_that_was_killed_comes_back(kube: Kubectl) -> None:
    """Its pid file says that a process of this number lives, and so it does: its own."""
    applied(kube, engine({CCR: {}}))
    pod = kube("get", "pods", "-l", PODS, "-o", "name").split()[0]
    kube("exec", pod, "-c", "claude-code-router", "--", "sh", "-c", "kill -TERM 1")

    def again() -> bool:
        (status,) = kube.get(pod)["status"]["containerStatuses"]
        return status["restartCount"] == 1 and status["ready"]

    eventually(again, seconds=60, description="it starts once more")
    with kube.forwarded("service/engine-router") as url:
        assert answer_of(url, "claude-opus-5") == SAID


def test_from_claude_code_router_to_the_gateway_and_back_no_request_fails(kube: Kubectl) -> None:
    applied(kube, engine({CCR: {}}))
    (asker,) = kube("get", "pods", "-l", "llama-halo.dev/model=one", "-o", "name").split()
    with ThreadPoolExecutor(1) as pool:
        arguments = (asker, "--", "python3", "-c", LOAD, KEY, "60")
        load = pool.submit(kube, "exec", *arguments)
        for item in ({"gateway": {}}, {CCR: {}}):
            old = kube.pod_uids(PODS)
            applied(kube, engine(item))
            assert rolled(kube, PODS, old)
        answered, failed = json.loads(load.result())
    assert not failed
    assert answered > 20

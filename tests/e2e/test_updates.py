"""A change of a model that somebody uses, on a real node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import eventually, ready
from tests.support.kubectl import Kubectl, rolled
from tests.support.manifests import router, smollm2
from tests.support.streams import Stream

PODS = "llama-halo.dev/model=calm"
QUESTION = {"role": "user", "content": "Tell a very long story."}
STORY = {"model": "calm", "max_tokens": 1_000_000, "stream": True, "messages": [QUESTION]}


def calm(**more: Any) -> dict[str, Any]:
    """Return a model that rolls when idle, and whose streams go on until they are left."""
    endless = ["--ignore-eos", "--context-shift"]
    return smollm2("calm", update={"mode": "WhenIdle"}, extraArgs=endless, **more)


@pytest.fixture(scope="module")
def url(kube: Kubectl) -> Iterator[str]:
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")
    kube.apply(calm())
    named = [{"name": "calm", "modelRef": {"name": "calm"}}]
    kube.apply(router(models=named, routes={"default": "calm"}))
    kube.wait_ready("llamamodel/calm", "modelrouter/main")
    with kube.forwarded("service/main-router") as value:
        yield value
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")


def test_a_stream_goes_on_and_the_change_comes_when_it_has_ended(kube: Kubectl, url: str) -> None:
    before = kube.pod_uids(PODS)
    with Stream(url, STORY) as stream:
        eventually(lambda: len(stream.lines) > 3, seconds=60)
        kube.apply(calm(parallel=2))
        eventually(
            lambda: ready(kube.get("llamamodel/calm"))[1] == "Rolling",
            seconds=30,
            description="the change waits",
        )
        # Longer than a gateway that says nothing would be believed.
        eventually(lambda: stream.seconds > 40, seconds=90, description="it is told for a while")
        assert kube.pod_uids(PODS) == before
    eventually(lambda: rolled(kube, PODS, before), seconds=60, description="it rolls")
    kube.wait_ready("llamamodel/calm")
    with Stream(url, STORY) as again:
        eventually(lambda: len(again.lines) > 3, seconds=60)

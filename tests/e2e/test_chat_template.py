"""A chat template of one's own, as real llama-server takes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.api import eventually, message, ready
from tests.support.kubectl import Kubectl, rolled
from tests.support.manifests import smollm2

Json = dict[str, Any]
PODS = "llama-halo.dev/model=templated"
TOLD = "{% for each in messages %}<{{ each.role }}> {{ each.content }} {% endfor %}"
MESSAGES = {"messages": [{"role": "user", "content": "Hi"}]}


def template(text: str) -> Json:
    metadata = {"name": "templates"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"one": text}}


@pytest.fixture(scope="module")
def templated(kube: Kubectl) -> Iterator[str]:
    """A model whose template comes after it."""
    kube("delete", "llamamodels,modelrouters", "--all", "--wait=true")
    reference = {"configMapKeyRef": {"name": "templates", "key": "one"}}
    kube.apply(smollm2("templated", chatTemplate=reference))
    eventually(
        lambda: kube.get("llamamodel/templated"),
        until=lambda value: ready(value)[1] == "Retrying",
        seconds=60,
    )
    kube.apply(template(TOLD))
    kube.wait_ready("llamamodel/templated")
    yield "service/templated"
    kube("delete", "llamamodels", "--all", "--wait=true")
    kube("delete", "configmap", "templates")


def prompt(kube: Kubectl, target: str) -> str:
    """Return what the server makes of a message."""
    with kube.forwarded(target) as url:
        answer = httpx.post(f"{url}/apply-template", json=MESSAGES, timeout=30)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["prompt"])


def test_the_server_writes_its_prompts_by_it(kube: Kubectl, templated: str) -> None:
    assert prompt(kube, templated) == "<user> Hi "


def test_an_edit_reaches_the_server(kube: Kubectl, templated: str) -> None:
    before = kube.pod_uids(PODS)
    kube.apply(template(TOLD.replace("<", "[").replace(">", "]")))
    eventually(lambda: rolled(kube, PODS, before), seconds=90, description="it rolls")
    kube.wait_ready("llamamodel/templated")
    assert prompt(kube, templated) == "[user] Hi "
    value = kube("get", "configmaps", "-l", PODS, "-o", "name").split()
    assert len(value) == 1, "the old copy goes"


def test_one_that_is_no_jinja_is_told_in_the_servers_words(kube: Kubectl, templated: str) -> None:
    assert templated
    kube.apply(template("{% for each in messages %}"))
    kube("annotate", "llamamodel/templated", "reconcile.fluxcd.io/requestedAt=now")
    value = eventually(
        lambda: kube.get("llamamodel/templated"),
        until=lambda item: ready(item)[1] == "BadFlag",
        seconds=120,
    )
    assert "correct the one that spec.chatTemplate names" in message(value)

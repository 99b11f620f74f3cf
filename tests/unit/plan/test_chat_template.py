"""A model with a chat template from a ConfigMap: waiting for it, its copy, and what keeps it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract.reasons import Reason
from llama_halo.plan import children
from llama_halo.plan.chat_template import template_refusal
from llama_halo.plan.facts import (
    Assignment,
    ChatTemplateFacts,
    DeploymentFacts,
    FileFacts,
)
from llama_halo.plan.llamamodel import plan_llamamodel
from llama_halo.plan.outcome import Invalid, Plan, Ref
from tests.support.plans import BASE, demand_of, facts_of

NAMED = {"chatTemplate": {"configMapKeyRef": {"name": "templates", "key": "coder"}}}
RUNS = DeploymentFacts(children.deployment_name("coder", "n1"), "n1", "old", settled=True)


def plan(text: str = "", problem: str = "", *, mounted: tuple[str, ...] = (), **more: Any) -> Plan:
    spec = LlamaModelSpec.model_validate({**BASE, **NAMED, **more})
    files = FileFacts(chat_template=ChatTemplateFacts(text, problem))
    decided = Assignment(demand_of(spec, files), ("n1",))
    facts = facts_of(spec, decided, files=files, deployments=(RUNS,))
    outcome = plan_llamamodel(spec, replace(facts, referenced_configs=frozenset(mounted)))
    assert isinstance(outcome, Plan), outcome
    return outcome


def of_kind(value: Plan, kind: str) -> list[Any]:
    return [obj for obj in value.objects if obj["kind"] == kind]


def test_a_model_waits_for_its_template_and_what_runs_goes_on() -> None:
    outcome = plan(problem="ConfigMap llm/templates is not there: apply it, with a key coder")
    assert outcome.waiting
    assert outcome.waiting.reason is Reason.RETRYING
    assert outcome.waiting.message.startswith("spec.chatTemplate: ConfigMap llm/templates is not")
    assert Ref("Deployment", RUNS.name) in outcome.keep
    assert not of_kind(outcome, "Deployment")


def test_a_file_that_cannot_be_used_is_told_before_a_template_that_is_missing() -> None:
    spec = LlamaModelSpec.model_validate({**BASE, **NAMED, "memory": {"gpu": "10", "host": "1Gi"}})
    files = FileFacts(chat_template=ChatTemplateFacts(problem="not there"))
    outcome = plan_llamamodel(spec, facts_of(spec, files=files))
    assert isinstance(outcome, Invalid)
    assert "memory.gpu" in outcome.message


@pytest.mark.parametrize(
    ("more", "observed"),
    [
        ({"extraArgs": ["--chat-template", "chatml"]}, "spec.extraArgs has --chat-template "),
        ({"extraArgs": ["--chat_template_file=/x"]}, "spec.extraArgs has --chat-template-file "),
        ({"extraArgs": ["--no-jinja"]}, "spec.extraArgs has --no-jinja "),
        (
            {"env": [{"name": "LLAMA_ARG_CHAT_TEMPLATE", "value": "chatml"}]},
            "spec.env has LLAMA_ARG_CHAT_TEMPLATE ",
        ),
    ],
)
def test_a_second_template_is_refused(more: Any, observed: str) -> None:
    alone = LlamaModelSpec.model_validate({**BASE, **more})
    assert template_refusal(alone) is None
    value = template_refusal(LlamaModelSpec.model_validate({**BASE, **NAMED, **more}))
    assert value is not None
    assert value.message == f"{observed.strip()}, and spec.chatTemplate is set: delete one of them"


def test_a_model_that_nobody_wants_goes_though_its_template_is_missing() -> None:
    spec = LlamaModelSpec.model_validate({**BASE, **NAMED, "activation": {"onDemand": {}}})
    files = FileFacts(chat_template=ChatTemplateFacts(problem="not there"))
    decided = Assignment(demand_of(spec, files), (), idle=True)
    outcome = plan_llamamodel(spec, facts_of(spec, decided, files=files, deployments=(RUNS,)))
    assert isinstance(outcome, Plan)
    assert not outcome.keep
    assert not of_kind(outcome, "Deployment")


def test_the_pod_reads_a_copy_that_never_changes() -> None:
    outcome = plan("{{ messages }}")
    (copy,), (deployment,) = of_kind(outcome, "ConfigMap"), of_kind(outcome, "Deployment")
    assert copy["immutable"]
    pod = deployment["spec"]["template"]["spec"]
    (volume,) = [volume for volume in pod["volumes"] if "configMap" in volume]
    assert volume["configMap"]["name"] == copy["metadata"]["name"]
    (container,) = pod["containers"]
    (mount,) = [
        volume_mount
        for volume_mount in container["volumeMounts"]
        if volume_mount["name"] == volume["name"]
    ]
    flag = container["args"].index("--chat-template-file")
    assert container["args"][flag - 1] == "--jinja", "older builds want it first"
    folder, _, file = container["args"][flag + 1].rpartition("/")
    assert folder == mount["mountPath"]
    assert copy["data"] == {file: "{{ messages }}"}


@given(one=st.text(min_size=1), other=st.text(min_size=1))
def test_another_text_is_another_copy_and_another_pod(one: str, other: str) -> None:
    first, second = plan(one), plan(other)
    names = [of_kind(item, "ConfigMap")[0]["metadata"]["name"] for item in (first, second)]
    assert (names[0] == names[1]) == (one == other)
    assert (first.config_hash == second.config_hash) == (one == other)


def test_copies_that_pods_read_stay_whatever_is_decided() -> None:
    kept = Ref("ConfigMap", "coder-template-old")
    assert kept in plan("new", mounted=(kept.name,)).keep
    assert kept in plan(problem="not there", mounted=(kept.name,)).keep
    assert kept not in plan("new").keep

"""What a LlamaModel's plan decides beside rendering: refusals, waiting, rolling, staying."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract.reasons import Reason
from llama_halo.plan import children
from llama_halo.plan.facts import Assignment, DeploymentFacts
from llama_halo.plan.llamamodel import plan_llamamodel
from llama_halo.plan.outcome import Invalid, Outcome, Plan, Ref, Wait, ref_of
from tests.support.plans import BASE, OWNER, demand_of, facts_of, live


def plan(
    more: dict[str, Any] | None = None,
    *,
    nodes: tuple[str, ...] = ("n1",),
    deployments: tuple[DeploymentFacts, ...] = (),
    rolling_elsewhere: frozenset[str] = frozenset(),
    **assignment: Any,
) -> Outcome:
    spec = LlamaModelSpec.model_validate({**BASE, **(more or {})})
    decided = Assignment(demand_of(spec), nodes, **assignment)
    facts = facts_of(spec, decided, deployments=deployments, rolling_elsewhere=rolling_elsewhere)
    return plan_llamamodel(spec, facts)


def the_plan(*arguments: Any, **more: Any) -> Plan:
    outcome = plan(*arguments, **more)
    assert isinstance(outcome, Plan), outcome
    return outcome


@pytest.mark.parametrize(
    ("more", "looks"),
    [
        ({"memory": None}, True),
        ({"contextSize": None}, True),
        ({"memory": {"host": "1Gi"}}, True),
        ({"memory": {"gpu": "1Gi"}}, True),
        ({"backend": "CPU", "memory": {"host": "1Gi"}}, False),
        ({}, False),
    ],
)
def test_a_file_in_the_store_is_looked_at_unless_the_spec_says_all(more: Any, looks: bool) -> None:
    outcome = the_plan(more)
    assert (outcome.waiting is not None) is looks
    assert outcome.waiting is None or outcome.waiting.reason is Reason.WAITING_FOR_NODE


def test_memory_without_a_unit_is_refused() -> None:
    outcome = plan({"memory": {"gpu": 24, "host": "2Gi"}})
    assert isinstance(outcome, Invalid)
    assert "spec.memory.gpu: 24 is less than 16Mi" in outcome.message


def test_a_suspended_model_is_left_alone() -> None:
    outcome = plan({"suspend": True})
    assert isinstance(outcome, Wait)
    assert outcome.reason is Reason.SUSPENDED


def test_a_model_without_a_place_waits_with_the_placements_words() -> None:
    runs = live("n1", "old")
    outcome = the_plan(
        nodes=(), deployments=(runs,), reason=Reason.WAITING_FOR_MEMORY, message="needs 10Gi"
    )
    assert outcome.waiting == Wait(Reason.WAITING_FOR_MEMORY, "needs 10Gi")
    assert [obj["kind"] for obj in outcome.objects] == ["Service"]
    assert outcome.keep == {Ref("Deployment", runs.name)}


def test_one_of_two_replicas_runs_while_the_other_waits() -> None:
    outcome = the_plan(
        {"replicas": 2}, nodes=("n1",), reason=Reason.WAITING_FOR_MEMORY, message="needs 10Gi"
    )
    assert outcome.replicas == 1
    assert outcome.waiting is not None


def test_replicas_roll_one_after_another() -> None:
    more, nodes = {"replicas": 2}, ("n1", "n2")
    new = the_plan(more, nodes=nodes).config_hash
    first = the_plan(more, nodes=nodes, deployments=(live("n1", "old"), live("n2", "old")))
    names = {obj["metadata"]["name"] for obj in first.objects}
    assert children.deployment_name("coder", "n1") in names
    assert first.keep == {Ref("Deployment", children.deployment_name("coder", "n2"))}
    waiting = the_plan(
        more, nodes=nodes, deployments=(live("n1", new, settled=False), live("n2", "old"))
    )
    assert waiting.keep == first.keep, "the first has not settled yet"
    then = the_plan(more, nodes=nodes, deployments=(live("n1", new), live("n2", "old")))
    assert not then.keep


def test_a_model_keeps_its_version_while_another_rolls_on_its_node() -> None:
    old = (live("n1", "old"),)
    outcome = the_plan(deployments=old, rolling_elsewhere=frozenset({"n1"}))
    assert outcome.keep == {Ref("Deployment", old[0].name)}
    assert (outcome.awaits_turn, outcome.rolls) == ({"n1"}, frozenset())
    assert not [obj for obj in outcome.objects if obj["kind"] == "Deployment"]
    then = the_plan(deployments=old)
    assert (then.awaits_turn, then.rolls) == (frozenset(), {"n1"})
    # What is at 0 is started, not rolled, and so is what has no Deployment yet.
    for deployments in ((replace(old[0], runs=False),), ()):
        begun = the_plan(deployments=deployments, rolling_elsewhere=frozenset({"n1"}))
        assert [obj["kind"] for obj in begun.objects] == ["Service", "Deployment"]
        assert not begun.rolls | begun.awaits_turn


def test_zero_replicas_keep_the_empty_deployment_and_so_the_place() -> None:
    outcome = the_plan({"replicas": 0}, nodes=(), deployments=(live("n1", "old"),))
    deployment = next(obj for obj in outcome.objects if obj["kind"] == "Deployment")
    assert deployment["spec"]["replicas"] == 0
    assert outcome.replicas == 0


@pytest.mark.parametrize(
    "more",
    [
        {"contextSize": 8192},
        {"extraArgs": ["--temp", "0.1"]},
        {"image": "other", "command": ["llama-server"]},
        {"memory": {"gpu": "11Gi", "host": "2Gi"}},
        {"env": [{"name": "A", "value": "1"}]},
        {"backend": "ROCm"},
        {"pod": {"labels": {"team": "core"}}},
    ],
)
def test_what_the_server_sees_changes_the_hash(more: dict[str, Any]) -> None:
    assert the_plan(more).config_hash != the_plan().config_hash


@pytest.mark.parametrize(
    "more",
    [
        {"displayName": "New"},
        {"description": "New"},
        {"aliases": ["gpt-4o"]},
        {"update": {"mode": "Immediate"}},
        {"devices": {"privileged": {}}},
    ],
)
def test_what_the_server_does_not_see_changes_no_hash(more: dict[str, Any]) -> None:
    assert the_plan(more).config_hash == the_plan().config_hash


def test_the_identity_of_the_resource_changes_no_hash() -> None:
    spec = LlamaModelSpec.model_validate(BASE)
    hashes = set()
    for owner in (OWNER, replace(OWNER, uid="uid-2", generation=7)):
        decided = Assignment(demand_of(spec, owner=owner), ("n1",))
        outcome = plan_llamamodel(spec, facts_of(spec, decided, owner=owner))
        assert isinstance(outcome, Plan)
        hashes.add(outcome.config_hash)
    assert len(hashes) == 1


@given(st.permutations(list(BASE.items())))
def test_the_order_of_keys_in_the_yaml_changes_nothing(items: list[tuple[str, Any]]) -> None:
    spec = LlamaModelSpec.model_validate(dict(items))
    decided = Assignment(demand_of(spec), ("n1",))
    assert plan_llamamodel(spec, facts_of(spec, decided)) == plan()


def test_every_object_is_the_owners_and_is_named_once() -> None:
    outcome = the_plan({"replicas": 2}, nodes=("n1", "n2"))
    refs = [ref_of(obj) for obj in outcome.objects]
    assert len(set(refs)) == len(refs)
    for obj in outcome.objects:
        owner = obj["metadata"]["ownerReferences"][0]
        assert (owner["uid"], owner["controller"]) == ("uid-1", True)

"""When a change of a running model waits for its requests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.plan import labels
from llama_halo.plan.facts import (
    Assignment,
    DeploymentFacts,
    FileFacts,
    ModelFacts,
    Phase,
    Usage,
)
from llama_halo.plan.llamamodel import demand, plan_llamamodel
from llama_halo.plan.outcome import Invalid, Outcome, Plan, Ref
from tests.golden.render import DEFAULTS
from tests.unit.test_llamamodel_plan import BASE, OWNER

WHEN_IDLE = {"update": {"mode": "WhenIdle"}}
QUIET = Usage(phase=Phase.LOADED, resident_seconds=60.0)
BUSY = replace(QUIET, busy=True)


def old(node: str = "n1", **more: Any) -> DeploymentFacts:
    name = labels.deployment_name("coder", node)
    return DeploymentFacts(name, node, "old", **{"settled": True, **more})


def outcome(update: Any, usage: Usage, *running: DeploymentFacts, **more: Any) -> Outcome:
    spec = LlamaModelSpec.model_validate({**BASE, **update, "replicas": max(len(running), 1)})
    nodes = tuple(each.node for each in running) or ("n1",)
    decided = Assignment(demand(OWNER, spec, FileFacts()), nodes)
    facts = ModelFacts(OWNER, DEFAULTS, decided, running, usage=usage)
    return plan_llamamodel(spec, replace(facts, **more))


def plan(update: Any, usage: Usage, *running: DeploymentFacts, **more: Any) -> Plan:
    found = outcome(update, usage, *running, **more)
    assert isinstance(found, Plan), found
    return found


@pytest.mark.parametrize(
    ("update", "usage", "more", "waits"),
    [
        pytest.param({}, BUSY, {}, False, id="a change rolls at once unless it is told to wait"),
        pytest.param({"update": {"mode": "Immediate"}}, BUSY, {}, False, id="or told not to"),
        pytest.param(WHEN_IDLE, BUSY, {}, True, id="it waits for requests"),
        pytest.param(WHEN_IDLE, QUIET, {}, False, id="and rolls when they are done"),
        pytest.param(
            WHEN_IDLE, replace(QUIET, trusted=False), {}, True, id="deaf, it does not say idle"
        ),
        pytest.param(
            WHEN_IDLE, replace(QUIET, resident_seconds=14), {}, True, id="a new Lease says nothing"
        ),
        pytest.param(
            WHEN_IDLE, Usage(trusted=False), {}, True, id="nor does one that is not there"
        ),
        pytest.param(
            WHEN_IDLE, BUSY, {"awaited_seconds": 599.0}, True, id="ten minutes, unless told else"
        ),
        pytest.param(WHEN_IDLE, BUSY, {"awaited_seconds": 600.0}, False, id="and no longer"),
        pytest.param(
            {"update": {"mode": "WhenIdle", "timeout": "90s"}},
            BUSY,
            {"awaited_seconds": 90.0},
            False,
            id="or as long as it says",
        ),
    ],
)
def test_a_change_waits(update: Any, usage: Usage, more: Any, waits: bool) -> None:
    found = plan(update, usage, old(), **more)
    assert bool(found.awaits_idle) is waits
    assert found.rolls == (frozenset() if waits else {"n1"})
    assert (Ref("Deployment", old().name) in found.keep) is waits


def test_what_does_not_answer_is_replaced_at_once() -> None:
    """Requests are held for it, and would keep away what they wait for."""
    assert plan(WHEN_IDLE, BUSY, old(settled=False)).rolls == {"n1"}


def test_what_does_not_run_is_nobodys() -> None:
    found = plan(WHEN_IDLE, BUSY, old(runs=False))
    assert not found.awaits_idle
    assert not found.keep


def test_while_one_replica_is_on_its_way_the_other_waits_for_that() -> None:
    found = plan(WHEN_IDLE, QUIET, old("n1"), old("n2"))
    assert (found.rolls, found.awaits_idle) == ({"n1"}, "")
    assert Ref("Deployment", old("n2").name) in found.keep


def test_the_turn_of_another_model_is_told_first() -> None:
    found = plan(WHEN_IDLE, BUSY, old(), rolling_elsewhere=frozenset({"n1"}))
    assert (found.awaits_turn, found.awaits_idle) == ({"n1"}, "")


@pytest.mark.parametrize("usage", [BUSY, Usage(trusted=False), Usage(phase=Phase.IDLE)])
def test_its_lease_says_that_it_may_be_sent_to(usage: Usage) -> None:
    """A gateway that reads anything else there holds its requests."""
    found = plan(WHEN_IDLE, usage, old(), phase=usage.phase)
    (lease,) = [each for each in found.objects if each["kind"] == "Lease"]
    assert lease["metadata"]["annotations"] == {labels.PHASE: "Loaded"}
    assert not [each for each in plan({}, usage, old()).objects if each["kind"] == "Lease"]


def test_it_has_the_lease_also_while_room_or_files_are_awaited() -> None:
    found = plan(WHEN_IDLE, BUSY, old(), assignment=None)
    (lease,) = [each for each in found.objects if each["kind"] == "Lease"]
    assert lease["metadata"]["annotations"] == {labels.PHASE: "Loaded"}


def test_a_time_limit_for_what_does_not_wait_is_a_mistake() -> None:
    found = outcome({"update": {"timeout": "5m"}}, QUIET, old())
    assert isinstance(found, Invalid)
    assert found.message == (
        "spec.update.timeout is for update.mode WhenIdle: set that, or delete the timeout"
    )

"""When a change of a running model waits for its requests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llama_halo.contract import labels
from llama_halo.contract.lease import PHASE_ANNOTATION, Phase
from llama_halo.plan import children
from llama_halo.plan.facts import ModelUsage
from llama_halo.plan.outcome import Ref, ref_of
from tests.support.updates import BUSY, QUIET, WHEN_IDLE, old, plan


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
            WHEN_IDLE, ModelUsage(trusted=False), {}, True, id="nor does one that is not there"
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
def test_a_change_waits(update: Any, usage: ModelUsage, more: Any, waits: bool) -> None:
    outcome = plan(update, usage, old(), **more)
    assert bool(outcome.idle_deadline) is waits
    assert outcome.rolls == (frozenset() if waits else {"n1"})
    assert (Ref("Deployment", old().name) in outcome.keep) is waits


def test_what_does_not_answer_is_replaced_at_once() -> None:
    """Requests are held for it, and would keep away what they wait for."""
    assert plan(WHEN_IDLE, BUSY, old(settled=False, answers=False)).rolls == {"n1"}


def test_a_probe_that_was_missed_is_no_reason_to_cut_what_goes_on() -> None:
    assert plan(WHEN_IDLE, BUSY, old(settled=False)).idle_deadline


def test_what_does_not_run_is_nobodys() -> None:
    outcome = plan(WHEN_IDLE, BUSY, old(runs=False))
    assert not outcome.idle_deadline
    assert not outcome.keep


def test_while_one_replica_is_on_its_way_the_other_waits_for_that() -> None:
    outcome = plan(WHEN_IDLE, QUIET, old("n1"), old("n2"))
    assert (outcome.rolls, outcome.idle_deadline) == ({"n1"}, None)
    assert Ref("Deployment", old("n2").name) in outcome.keep


def test_the_turn_of_another_model_is_told_first() -> None:
    outcome = plan(WHEN_IDLE, BUSY, old(), rolling_elsewhere=frozenset({"n1"}))
    assert (outcome.awaits_turn, outcome.idle_deadline) == ({"n1"}, None)


def test_a_model_moves_when_its_requests_are_done() -> None:
    here, moved = old("n1"), Ref("Deployment", children.deployment_name("coder", "n2"))
    busy = plan(WHEN_IDLE, BUSY, here, nodes=("n2",))
    assert Ref("Deployment", here.name) in busy.keep
    assert busy.idle_deadline
    assert moved not in map(ref_of, busy.objects), "two copies are not there for nothing"
    for value in (plan(WHEN_IDLE, QUIET, here, nodes=("n2",)), plan({}, BUSY, here, nodes=("n2",))):
        assert moved in map(ref_of, value.objects)
        assert not value.keep
    assert not plan(WHEN_IDLE, BUSY, here, nodes=("n2",), awaited_seconds=600.0).is_rolled
    gone = plan(WHEN_IDLE, BUSY, old("n1", answers=False), nodes=("n2",))
    assert moved in map(ref_of, gone.objects), "its node may be lost"


def test_fewer_replicas_do_not_wait() -> None:
    outcome = plan(WHEN_IDLE, BUSY, old("n1"), old("n2"), nodes=("n1",))
    assert Ref("Deployment", old("n2").name) not in outcome.keep


def test_only_what_takes_the_place_of_a_busy_one_comes_later() -> None:
    dead = old("n1", answers=False)
    outcome = plan(WHEN_IDLE, BUSY, dead, old("n2"), nodes=("n3", "n4"))
    nodes = {obj["metadata"].get("annotations", {}).get(labels.NODE) for obj in outcome.objects}
    assert nodes & {"n3", "n4"} == {"n4"}
    assert {ref.name for ref in outcome.keep} == {old("n2").name}


@pytest.mark.parametrize(
    ("usage", "more", "rolled"),
    [
        (BUSY, {}, False),
        (QUIET, {}, False),
        (BUSY, {"rolling_elsewhere": frozenset({"n1"})}, False),
        (BUSY, {"assignment": None}, False),
    ],
)
def test_it_is_not_rolled_before_all_that_runs_is_new(
    usage: ModelUsage, more: Any, rolled: bool
) -> None:
    """So long the time runs for which a change waits."""
    assert plan(WHEN_IDLE, usage, old(), **more).is_rolled is rolled
    new = plan(WHEN_IDLE, usage, old()).config_hash
    assert plan(WHEN_IDLE, usage, replace(old(), config_hash=new)).is_rolled


@pytest.mark.parametrize("usage", [BUSY, ModelUsage(trusted=False), ModelUsage(phase=Phase.IDLE)])
def test_its_lease_says_that_it_may_be_sent_to(usage: ModelUsage) -> None:
    """A gateway that reads anything else there holds its requests."""
    outcome = plan(WHEN_IDLE, usage, old(), phase=usage.phase)
    (lease,) = [obj for obj in outcome.objects if obj["kind"] == "Lease"]
    assert lease["metadata"]["annotations"] == {PHASE_ANNOTATION: "Loaded"}
    assert not [obj for obj in plan({}, usage, old()).objects if obj["kind"] == "Lease"]


def test_it_has_the_lease_also_while_room_or_files_are_awaited() -> None:
    outcome = plan(WHEN_IDLE, BUSY, old(), assignment=None)
    (lease,) = [obj for obj in outcome.objects if obj["kind"] == "Lease"]
    assert lease["metadata"]["annotations"] == {PHASE_ANNOTATION: "Loaded"}

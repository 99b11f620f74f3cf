"""Models on demand: who is let in, who has to go, and when somebody counts as busy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract.lease import PHASE_ANNOTATION, Phase
from llama_halo.contract.reasons import Reason
from llama_halo.plan.facts import (
    Assignment,
    MemoryReservation,
    ModelUsage,
    OnDemandPolicy,
    ResourceDemand,
)
from llama_halo.plan.llamamodel import plan_llamamodel
from llama_halo.plan.outcome import Plan
from llama_halo.plan.placement import Decision, place
from tests.support.demands import BUSY, IDLE, node, presence, wants
from tests.support.plans import BASE, demand_of, facts_of, live

ASLEEP = ModelUsage(phase=Phase.IDLE)
WANTED = ModelUsage(phase=Phase.IDLE, busy=True, wanted_since=1)


def comes(model: str, gib: int, **more: Any) -> ResourceDemand:
    on_demand = OnDemandPolicy(idle_timeout_seconds=900, min_resident_seconds=60)
    return wants(model, gib, on_demand=replace(on_demand, **more))


def decide(*demands: ResourceDemand, **usage: ModelUsage) -> Decision:
    """Decide on one node of 112 GiB, where every loaded model is."""
    present = [
        assignment for assignment in demands if usage.get(assignment.model, IDLE).phase in LOADED
    ]
    return place(
        demands,
        [node("n1")],
        presence=presence(
            current={item.model: ["n1"] for item in present},
            running={item.model: frozenset({"n1"}) for item in present},
        ),
        held=[MemoryReservation(item.model, "n1", item.gpu_mib, item.host_mib) for item in present],
        usage=usage,
    )


LOADED = (Phase.LOADED, Phase.UNLOADING)


def test_a_model_that_nobody_wants_has_no_node_and_is_idle() -> None:
    value = decide(comes("a", 50), a=ASLEEP).assignments["a"]
    assert (value.nodes, value.idle, value.reason) == ((), True, None)


def test_one_that_is_wanted_is_placed_and_one_that_is_loaded_stays() -> None:
    assignments = decide(comes("a", 50), comes("b", 50), a=WANTED, b=IDLE)
    assert assignments.assignments["a"].nodes == assignments.assignments["b"].nodes == ("n1",)
    assert assignments.unload == frozenset()


def test_for_one_that_is_wanted_idle_ones_go_as_few_as_it_takes() -> None:
    small, large = comes("small", 10), comes("large", 60)
    assignments = decide(small, large, comes("new", 90), small=IDLE, large=IDLE, new=WANTED)
    assert assignments.unload == {"large"}
    assert assignments.assignments["new"].nodes == ()
    assert assignments.assignments["new"].reason is Reason.WAITING_FOR_MEMORY
    assert "unloading large on n1" in assignments.assignments["new"].message


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (replace(IDLE, idle_seconds=900 - 1), IDLE),
        (IDLE, replace(IDLE, idle_seconds=50)),
    ],
    ids=["the longest idle one", "whichever it is"],
)
def test_the_longest_idle_one_goes_first(first: ModelUsage, second: ModelUsage) -> None:
    demands = comes("first", 50), comes("second", 50), comes("new", 50)
    assert decide(*demands, first=first, second=second, new=WANTED).unload == {"first"}


def test_the_lowest_priority_goes_first_however_lately_it_was_used() -> None:
    demands = comes("dear", 50, priority=10), comes("cheap", 50), comes("new", 50)
    dear = replace(IDLE, idle_seconds=800)
    assert decide(*demands, dear=dear, cheap=IDLE, new=WANTED).unload == {"cheap"}


@pytest.mark.parametrize(
    "usage",
    [BUSY, replace(IDLE, resident_seconds=59), replace(IDLE, trusted=False)],
    ids=["busy", "not resident for long enough", "perhaps not heard of"],
)
def test_who_may_not_go_stays_and_the_other_one_waits(usage: ModelUsage) -> None:
    assignments = decide(comes("a", 70), comes("new", 70), a=usage, new=WANTED)
    assert assignments.unload == frozenset()
    assert assignments.assignments["a"].nodes == ("n1",)
    assert assignments.assignments["new"].reason is Reason.WAITING_FOR_MEMORY


def test_what_leaves_already_is_waited_for_and_nobody_else_told_to_go() -> None:
    leaving = replace(IDLE, phase=Phase.UNLOADING)
    demands = comes("a", 50), comes("b", 50), comes("new", 50)
    assignments = decide(*demands, a=leaving, b=IDLE, new=WANTED)
    assert assignments.unload == {"a"}


def test_the_pod_of_one_that_was_unloaded_is_waited_for_too() -> None:
    demands = [comes("gone", 50), comes("b", 50), comes("new", 50)]
    decision = place(
        demands,
        [node("n1")],
        presence=presence({"gone": ["n1"], "b": ["n1"]}, {"b": frozenset({"n1"})}),
        held=[
            MemoryReservation("gone", "n1", 50 * 1024, 1024, 50 * 1024, 1024),
            MemoryReservation("b", "n1", 50 * 1024, 0),
        ],
        usage={"gone": ASLEEP, "b": IDLE, "new": WANTED},
    )
    assert decision.unload == frozenset()
    assert "unloading gone on n1" in decision.assignments["new"].message


def test_an_always_on_model_makes_idle_ones_go() -> None:
    assignments = decide(comes("a", 70), wants("always", 70), a=IDLE, always=ModelUsage())
    assert assignments.unload == {"a"}


def test_members_of_a_group_are_never_on_a_node_together() -> None:
    demands = comes("a", 10, group="big"), comes("new", 10, group="big")
    assignments = decide(*demands, a=IDLE, new=WANTED)
    assert assignments.unload == {"a"}
    assert assignments.assignments["new"].nodes == ()
    assignments = decide(*demands, a=BUSY, new=WANTED)
    assert (assignments.unload, assignments.assignments["new"].nodes) == (frozenset(), ())


def test_after_its_timeout_an_idle_model_goes_unasked_and_that_is_looked_for_in_time() -> None:
    assert decide(comes("a", 10), a=replace(IDLE, idle_seconds=901)).unload == {"a"}
    assignments = decide(comes("a", 10), a=replace(IDLE, idle_seconds=890, resident_seconds=890))
    assert assignments.unload == frozenset()
    assert assignments.recheck_seconds == pytest.approx(10)


def test_a_model_to_be_preloaded_is_loaded_once_and_makes_nobody_go() -> None:
    new = ModelUsage(phase=Phase.NEW)
    assignments = decide(comes("a", 50, preload=True), a=new)
    assert assignments.assignments["a"].nodes == ("n1",)
    assignments = decide(comes("a", 50, preload=True), a=ASLEEP)
    assert assignments.assignments["a"].idle
    assignments = decide(comes("a", 70, preload=True), comes("b", 70), a=new, b=IDLE)
    assert (assignments.unload, assignments.assignments["a"].idle) == (frozenset(), True)


def test_two_that_are_wanted_at_once_get_room_one_after_another_the_earlier_first() -> None:
    late = replace(WANTED, wanted_since=2)
    assignments = decide(comes("late", 70), comes("early", 70), late=late, early=WANTED)
    assert assignments.assignments["early"].nodes == ("n1",)
    assert assignments.assignments["late"].nodes == ()


def planned(assignment: dict[str, Any], phase: Phase, *, deployed: bool = True) -> Plan:
    """Plan a model on demand; its Deployment is on n1."""
    spec = LlamaModelSpec.model_validate({**BASE, "activation": {"onDemand": {}}})
    model_demand = demand_of(spec)
    assert model_demand is not None
    facts = facts_of(
        spec,
        Assignment(model_demand, **{"nodes": (), **assignment}),
        deployments=(live("n1", "old"),) if deployed else (),
        phase=phase,
    )
    outcome = plan_llamamodel(spec, facts)
    assert isinstance(outcome, Plan)
    return outcome


def phase_in(value: Plan) -> str:
    lease = next(obj for obj in value.objects if obj["kind"] == "Lease")
    return str(lease["metadata"].get("annotations", {}).get(PHASE_ANNOTATION, ""))


def replicas_in(value: Plan) -> list[int]:
    return [obj["spec"]["replicas"] for obj in value.objects if obj["kind"] == "Deployment"]


@pytest.mark.parametrize(
    ("assignment", "before", "after", "replicas"),
    [
        ({"idle": True}, Phase.NEW, "Idle", [0]),
        ({"idle": True}, Phase.IDLE, "Idle", [0]),
        ({"nodes": ("n1",)}, Phase.IDLE, "Loaded", [1]),
        ({"nodes": ("n1",)}, Phase.LOADED, "Loaded", [1]),
        ({"nodes": ("n1",)}, Phase.UNLOADING, "Unloading", [1]),
    ],
    ids=["never wanted", "unloaded", "woken", "loaded", "being unloaded"],
)
def test_the_lease_says_what_the_deployment_is_told(
    assignment: dict[str, Any], before: Phase, after: str, replicas: list[int]
) -> None:
    outcome = planned(assignment, before)
    assert (phase_in(outcome), replicas_in(outcome)) == (after, replicas)
    assert outcome.idle is bool(assignment.get("idle"))

"""Placement: tables of decisions, and properties that no decision may break."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.api.pod import Toleration
from llama_halo.contract.reasons import Reason
from llama_halo.plan.facts import Assignment, MemoryReservation, NodeFacts, ResourceDemand, Taint
from llama_halo.plan.node_selection import constraints_digest
from llama_halo.plan.placement import place
from tests.support.demands import HALO, node, presence, wants


def decide(
    *demands: ResourceDemand,
    nodes: list[NodeFacts],
    current: dict[str, list[str]] | None = None,
    running: dict[str, frozenset[str]] | None = None,
    held: tuple[MemoryReservation, ...] = (),
    **more: Any,
) -> dict[str, Assignment]:
    return place(
        demands, nodes, presence=presence(current or {}, running, **more), held=held
    ).assignments


def test_a_model_goes_where_the_least_room_is_left_over() -> None:
    assignments = decide(wants("a", 20), nodes=[node("big"), node("small", 40)])
    assert assignments["a"].nodes == ("small",)


def test_equal_nodes_are_chosen_by_name() -> None:
    assert decide(wants("a", 20), nodes=[node("n2"), node("n1")])["a"].nodes == ("n1",)


def test_a_model_stays_where_it_is_though_another_node_is_fuller() -> None:
    assignments = decide(
        wants("a", 20), nodes=[node("big"), node("small", 40)], current={"a": ["big"]}
    )
    assert assignments["a"].nodes == ("big",)


def test_of_too_many_replicas_the_one_stays_that_has_a_pod() -> None:
    """The other's was drained: its Deployment alone is no reason to end what runs."""
    assignments = decide(
        wants("a", 20),
        nodes=[node("n1"), node("n2")],
        current={"a": ["n1", "n2"]},
        running={"a": frozenset({"n2"})},
    )
    assert assignments["a"].nodes == ("n2",)


def test_replicas_are_spread_over_nodes() -> None:
    assert set(decide(wants("a", 20, 2), nodes=[node("n1"), node("n2")])["a"].nodes) == {"n1", "n2"}


def test_a_model_that_fits_nowhere_waits_and_is_told_the_numbers() -> None:
    value = decide(
        wants("llm/big", 71),
        nodes=[node("halo-1", 112)],
        held=(
            MemoryReservation("llm/coder", "halo-1", 46182, 1024),
            MemoryReservation("llm/small", "halo-1", 21401, 1024),
        ),
    )["llm/big"]
    assert value.nodes == ()
    assert value.reason is Reason.WAITING_FOR_MEMORY
    assert "needs 71.0Gi of GPU memory, halo-1 has 38.0Gi free" in value.message
    assert "llm/coder 45.1Gi, llm/small 20.9Gi" in value.message


def test_memory_of_a_terminating_pod_is_not_given_twice() -> None:
    assignments = decide(
        wants("b", 80), nodes=[node("n1")], held=(MemoryReservation("gone", "n1", 60 * 1024, 0),)
    )
    assert assignments["b"].reason is Reason.WAITING_FOR_MEMORY


def test_a_model_that_outgrows_its_node_moves() -> None:
    assignments = decide(
        wants("a", 60),
        nodes=[node("small", 40), node("big")],
        current={"a": ["small"]},
        held=(MemoryReservation("a", "small", 20 * 1024, 1024),),
    )
    assert assignments["a"].nodes == ("big",)


def test_the_first_that_came_is_served_first() -> None:
    assignments = decide(wants("old", 70), wants("new", 70), nodes=[node("n1")])
    assert assignments["old"].nodes == ("n1",)
    assert assignments["new"].reason is Reason.WAITING_FOR_MEMORY


def test_what_runs_is_not_displaced_by_an_older_model() -> None:
    assignments = decide(
        wants("old", 70), wants("runs", 70), nodes=[node("n1")], current={"runs": ["n1"]}
    )
    assert assignments["runs"].nodes == ("n1",)
    assert assignments["old"].reason is Reason.WAITING_FOR_MEMORY


@pytest.mark.parametrize(
    ("facts", "demand", "placed"),
    [
        pytest.param({"labels": {}}, {}, False, id="a GPU model needs a Strix Halo label"),
        pytest.param({"labels": {}}, {"needs_gpu": False}, True, id="a CPU model needs no label"),
        pytest.param(
            {"labels": {"feature.node.kubernetes.io/pci-0380_1002.present": "true"}},
            {},
            True,
            id="node feature discovery's label is enough",
        ),
        pytest.param(
            {"labels": {"amd.com/gpu.device-id": "1586"}}, {}, True, id="AMD's label is enough"
        ),
        pytest.param(
            {"labels": {"disk": "fast"}},
            {"node_selector": (("disk", "fast"),)},
            True,
            id="a selector replaces the usual labels",
        ),
        pytest.param({}, {"node_selector": (("disk", "fast"),)}, False, id="a selector must match"),
        pytest.param(
            {"accepts_new_pods": False}, {}, False, id="a cordoned node takes nothing new"
        ),
        pytest.param(
            {"taints": (Taint("ai", "yes", "NoSchedule"),)}, {}, False, id="a taint keeps out"
        ),
        pytest.param(
            {"taints": (Taint("ai", "yes", "NoSchedule"),)},
            {"tolerations": (Toleration(key="ai", operator="Exists"),)},
            True,
            id="a toleration lets in",
        ),
        pytest.param(
            {"taints": (Taint("ai", "yes", "NoSchedule"),)},
            {"tolerations": (Toleration(key="ai", value="no"),)},
            False,
            id="a toleration of another value does not",
        ),
        pytest.param(
            {"taints": (Taint("ai", "yes", "PreferNoSchedule"),)}, {}, True, id="a wish is no bar"
        ),
    ],
)
def test_which_node_may_take_a_model(
    facts: dict[str, object], demand: dict[str, object], placed: bool
) -> None:
    value = decide(wants("a", 10, **demand), nodes=[node("n1", **facts)])["a"]
    assert bool(value.nodes) is placed
    assert placed or value.reason is Reason.WAITING_FOR_NODE


def test_a_cordoned_node_keeps_what_it_has() -> None:
    assignments = decide(
        wants("a", 10),
        nodes=[node("n1", accepts_new_pods=False), node("n2")],
        current={"a": ["n1"]},
        running={"a": frozenset({"n1"})},
    )
    assert assignments["a"].nodes == ("n1",)


def test_what_was_evicted_from_a_cordoned_node_is_placed_elsewhere() -> None:
    assignments = decide(
        wants("a", 10),
        nodes=[node("n1", accepts_new_pods=False), node("n2")],
        current={"a": ["n1"]},
    )
    assert assignments["a"].nodes == ("n2",)


def test_a_model_that_shrinks_holds_what_it_held_until_its_old_pod_is_gone() -> None:
    assignments = decide(
        wants("a", 20),
        wants("b", 70),
        nodes=[node("n1", 112)],
        current={"a": ["n1"]},
        held=(MemoryReservation("a", "n1", 70 * 1024, 1024),),
    )
    assert assignments["a"].nodes == ("n1",)
    assert assignments["b"].reason is Reason.WAITING_FOR_MEMORY


def test_a_lost_node_is_left_at_once() -> None:
    assert decide(wants("a", 10), nodes=[node("n2")], current={"a": ["n1"]})["a"].nodes == ("n2",)


nodes_ = st.lists(
    st.builds(
        node,
        name=st.sampled_from(["n1", "n2", "n3"]),
        gib=st.integers(16, 128),
        accepts_new_pods=st.booleans(),
    ),
    max_size=3,
    unique_by=lambda item: item.name,
)
demands_ = st.lists(
    st.builds(
        wants,
        model=st.sampled_from(["a", "b", "c", "d"]),
        gib=st.integers(1, 100),
        replicas=st.integers(0, 3),
    ),
    max_size=4,
    unique_by=lambda item: item.model,
)
current_ = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]),
    st.lists(st.sampled_from(["n1", "n2", "n3"]), unique=True, max_size=3),
)


@given(demands_, nodes_, current_)
def test_no_node_is_ever_given_more_than_it_has(
    demands: list[ResourceDemand], nodes: list[NodeFacts], current: dict[str, list[str]]
) -> None:
    assignments = place(demands, nodes, presence=presence(current), held=()).assignments
    by_name = {demand.model: demand for demand in demands}
    for facts in nodes:
        present = [
            by_name[model]
            for model, assignment in assignments.items()
            if facts.name in assignment.nodes
        ]
        assert sum(item.gpu_mib for item in present) <= facts.gpu_budget_mib
        assert sum(item.total_mib for item in present) <= facts.allocatable_mib


@given(demands_, nodes_, current_)
def test_the_same_input_gives_the_same_decision_in_any_order_of_nodes(
    demands: list[ResourceDemand], nodes: list[NodeFacts], current: dict[str, list[str]]
) -> None:
    once = place(demands, nodes, presence=presence(current), held=()).assignments
    turned = list(reversed(nodes))
    again = place(demands, turned, presence=presence(current), held=()).assignments
    assert again == once


@given(demands_, nodes_)
def test_a_decision_that_is_carried_out_is_made_again(
    demands: list[ResourceDemand], nodes: list[NodeFacts]
) -> None:
    once = place(demands, nodes, presence={}, held=()).assignments
    carried_out = {model: demand.nodes for model, demand in once.items()}
    again = place(demands, nodes, presence=presence(carried_out), held=()).assignments
    assert {model: set(demand.nodes) for model, demand in again.items()} == {
        model: set(demand.nodes) for model, demand in once.items()
    }


@given(demands_, nodes_, current_)
def test_every_model_has_its_replicas_or_a_reason(
    demands: list[ResourceDemand], nodes: list[NodeFacts], current: dict[str, list[str]]
) -> None:
    for demand in demands:
        decided = place(demands, nodes, presence=presence(current), held=())
        assignments = decided.assignments[demand.model]
        assert len(assignments.nodes) == demand.replicas or assignments.message


def stored(model: str, gib: int, *nodes: str, **more: object) -> ResourceDemand:
    """Return a demand whose files are on these nodes, and can be fetched to others."""
    facts = {"stored_on": frozenset(nodes), "fetchable_to": None, **more}
    return wants(model, gib, **facts)  # type: ignore[arg-type]


def test_a_node_that_has_the_files_is_chosen_before_a_fuller_one() -> None:
    assignments = decide(stored("a", 20, "big"), nodes=[node("big"), node("small", 40)])
    assert (assignments["a"].nodes, assignments["a"].fetch_to) == (("big",), ())


def test_files_that_are_nowhere_are_fetched_and_hold_no_memory() -> None:
    assignments = decide(stored("a", 70), wants("b", 70), nodes=[node("n1")])
    assert (assignments["a"].nodes, assignments["a"].fetch_to) == ((), ("n1",))
    assert assignments["a"].reason is Reason.DOWNLOADING
    assert assignments["b"].nodes == ("n1",)


def test_a_download_goes_on_where_it_began_though_the_node_filled_up() -> None:
    held = (MemoryReservation("other", "n1", 100 * 1024, 0),)
    demand = stored("a", 70, fetching_on=frozenset({"n1"}))
    assignments = decide(demand, nodes=[node("n1"), node("n2")], held=held)
    assert assignments["a"].fetch_to == ("n1",)


def test_with_room_nowhere_files_are_fetched_where_the_model_could_run_one_day() -> None:
    held = (MemoryReservation("other", "n1", 100 * 1024, 0),)
    assignments = decide(stored("a", 70), nodes=[node("n1"), node("small", 40)], held=held)
    assert assignments["a"].fetch_to == ("n1",)


def test_what_is_in_the_way_of_a_model_whose_files_are_there_is_told() -> None:
    held = (MemoryReservation("other", "n1", 100 * 1024, 0),)
    assignments = decide(stored("a", 70, "n1"), nodes=[node("n1")], held=held)
    assert (assignments["a"].fetch_to, assignments["a"].reason) == ((), Reason.WAITING_FOR_MEMORY)


def test_a_node_with_room_gets_the_files_when_the_one_that_has_them_is_full() -> None:
    held = (MemoryReservation("other", "n1", 100 * 1024, 0),)
    assignments = decide(stored("a", 70, "n1"), nodes=[node("n1"), node("n2")], held=held)
    assert assignments["a"].fetch_to == ("n2",)


def test_new_files_are_fetched_to_where_the_old_ones_serve() -> None:
    assignments = decide(
        stored("a", 20),
        nodes=[node("n1"), node("small", 40)],
        current={"a": ["n1"]},
        held=(MemoryReservation("a", "n1", 20 * 1024, 1024),),
    )
    assert (assignments["a"].nodes, assignments["a"].fetch_to) == ((), ("n1",))


def test_a_file_that_cannot_be_fetched_is_served_where_it_is() -> None:
    assignments = decide(
        stored("a", 20, "big", fetchable_to=frozenset()), nodes=[node("big"), node("small", 40)]
    )
    assert assignments["a"].nodes == ("big",)
    assignments = decide(stored("a", 20, "gone", fetchable_to=frozenset()), nodes=[node("n1")])
    assert assignments["a"].reason is Reason.SOURCE_NOT_FOUND


def test_a_node_whose_memory_others_use_is_left_for_one_that_has_room() -> None:
    """The scheduler counts pods that are not ours."""
    demands, nodes, current = [wants("a", 20)], [node("n1"), node("n2")], {"a": ["n1"]}
    refused = {"a": frozenset({"n1"})}
    held = [MemoryReservation("a", "n1", 20 * 1024, 1024)]
    decision = place(demands, nodes, presence=presence(current, refused=refused), held=held)
    assert decision.assignments["a"].nodes == ("n2",)
    decision = place(demands, nodes[:1], presence=presence(current, refused=refused), held=held)
    assert decision.assignments["a"].nodes == ("n1",), "the scheduler lets it in when it can"


def test_what_no_node_could_hold_even_empty_is_too_large() -> None:
    assignments = decide(wants("a", 200), nodes=[node("n1"), node("n2", 64)])
    assert assignments["a"].reason is Reason.MODEL_TOO_LARGE
    assert "needs 200.0Gi of GPU memory" in assignments["a"].message
    assert "n1, has 112.0Gi" in assignments["a"].message


AGENT_TAINT = Taint("node.cilium.io/agent-not-ready", "", "NoSchedule")
EVICTS = Taint("out-of-service", "", "NoExecute")
SELECTED = {"node_selector": (("pool", "gpu"),)}
POOL = {"labels": {**HALO, "pool": "gpu"}}


def on_n1(demand: ResourceDemand, *, chosen_for: ResourceDemand | None = None) -> dict[str, Any]:
    """Return what placement knows of a model that runs on n1, which was chosen for a demand."""
    return {
        "current": {demand.model: ["n1"]},
        "running": {demand.model: frozenset({"n1"})},
        "chosen_by": {demand.model: {"n1": constraints_digest(chosen_for or demand)}},
    }


@pytest.mark.parametrize(
    ("changed", "constraints", "stays"),
    [
        pytest.param({"labels": {}}, {}, True, id="node-feature-discovery restarts"),
        pytest.param({"labels": HALO}, SELECTED, True, id="a label of the selector is away"),
        pytest.param({"taints": (AGENT_TAINT,)}, {}, True, id="an agent restarts"),
        pytest.param({"taints": (EVICTS,)}, {}, False, id="NoExecute ends it"),
        pytest.param(
            {"taints": (EVICTS,)},
            {"tolerations": (Toleration(key="out-of-service", operator="Exists"),)},
            True,
            id="a NoExecute that it tolerates",
        ),
    ],
)
def test_what_runs_stays_whatever_labels_and_taints_its_node_has(
    changed: dict[str, Any], constraints: dict[str, Any], stays: bool
) -> None:
    demand = wants("a", 20, **constraints)
    nodes = [replace(node("n1", **POOL), **changed), node("n2", **POOL)]
    chosen = decide(demand, nodes=nodes, **on_n1(demand))["a"].nodes
    assert chosen == (("n1",) if stays else ("n2",))
    new = decide(demand, nodes=[replace(node("n1", **POOL), taints=(AGENT_TAINT,)), nodes[1]])
    assert new["a"].nodes == ("n2",), "labels and taints count for what is new"


def test_a_model_whose_own_constraints_changed_moves() -> None:
    before, after = wants("a", 20), wants("a", 20, **SELECTED)
    nodes = [node("n1"), node("n2", **POOL)]
    assert decide(after, nodes=nodes, **on_n1(after, chosen_for=before))["a"].nodes == ("n2",)


def test_a_model_without_a_pod_on_its_node_is_placed_anew() -> None:
    demand = wants("a", 20)
    nodes = [node("n1", taints=(AGENT_TAINT,)), node("n2")]
    facts = on_n1(demand) | {"running": {}}
    assert decide(demand, nodes=nodes, **facts)["a"].nodes == ("n2",)


names_ = st.sampled_from(["n1", "n2"])
flapping_ = st.builds(
    node,
    names_,
    labels=st.sampled_from([{}, HALO, POOL["labels"]]),
    taints=st.sampled_from([(), (AGENT_TAINT,)]),
)


@given(
    st.dictionaries(st.sampled_from("abcd"), names_),
    st.lists(flapping_, min_size=2, max_size=2, unique_by=lambda facts: facts.name),
)
def test_labels_and_taints_that_come_and_go_move_nothing(
    homes: dict[str, str], nodes: list[NodeFacts]
) -> None:
    demands = {model: wants(model, 20, **SELECTED) for model in homes}
    assignments = decide(
        *demands.values(),
        nodes=nodes,
        current={model: [home] for model, home in homes.items()},
        running={model: frozenset({home}) for model, home in homes.items()},
        chosen_by={
            model: {home: constraints_digest(demands[model])} for model, home in homes.items()
        },
    )
    for model, home in homes.items():
        assert assignments[model].nodes == (home,)
        assert not assignments[model].fetch_to


def test_two_nodes_that_refuse_a_model_do_not_get_it_in_turn() -> None:
    demand = wants("a", 20)
    nodes = [node("n1"), node("n2")]
    now = {"current": {"a": ["n1"]}, "refused": {"a": frozenset({"n1"})}}
    assert decide(demand, nodes=nodes, **now)["a"].nodes == ("n2",)
    then = {
        "current": {"a": ["n2"]},
        "refused": {"a": frozenset({"n2"})},
        "avoided": {"a": frozenset({"n1", "n2"})},
    }
    assert decide(demand, nodes=nodes, **then)["a"].nodes == ("n2",)

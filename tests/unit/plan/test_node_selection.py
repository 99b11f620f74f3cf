"""Node affinity: what the scheduler would say, and what the placement prefers."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from llama_halo.api.affinity import Affinity, NodeAffinity
from llama_halo.kube.diff import difference
from llama_halo.plan.node_selection import meets_affinity, placed_on, pod_affinity, preference
from llama_halo.plan.placement import place
from tests.support.demands import HALO, node, presence, wants

Json = dict[str, Any]
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
NODE = node("n1", labels={**HALO, "disk": "nvme", "gib": "128", "word": "x"})


def required(*terms: Json) -> NodeAffinity:
    return NodeAffinity.model_validate({REQUIRED: {"nodeSelectorTerms": terms}})


def expression(key: str, operator: str, *values: str) -> Json:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def named(operator: str, name: str) -> Json:
    return {"matchFields": [{"key": "metadata.name", "operator": operator, "values": [name]}]}


@pytest.mark.parametrize(
    ("term", "meets"),
    [
        (expression("disk", "In", "ssd", "nvme"), True),
        (expression("disk", "In", "ssd"), False),
        (expression("absent", "In", "nvme"), False),
        (expression("disk", "NotIn", "ssd"), True),
        (expression("disk", "NotIn", "nvme"), False),
        (expression("absent", "NotIn", "nvme"), True),
        (expression("disk", "Exists"), True),
        (expression("absent", "Exists"), False),
        (expression("absent", "DoesNotExist"), True),
        (expression("disk", "DoesNotExist"), False),
        (expression("gib", "Gt", "96"), True),
        (expression("gib", "Gt", "128"), False),
        (expression("gib", "Lt", "129"), True),
        (expression("gib", "Lt", "128"), False),
        (expression("word", "Gt", "1"), False),
        (expression("absent", "Lt", "1"), False),
        (named("In", "n1"), True),
        (named("In", "n2"), False),
        (named("NotIn", "n2"), True),
        (named("NotIn", "n1"), False),
        ({**expression("disk", "Exists"), **named("In", "n2")}, False),
        ({}, False),
    ],
)
def test_a_term_means_what_it_means_to_the_scheduler(term: Json, meets: bool) -> None:
    assert meets_affinity(required(term), NODE) is meets


def test_one_of_the_terms_suffices_and_none_is_no_bar() -> None:
    terms = required(expression("disk", "In", "ssd"), expression("gib", "Exists"))
    assert meets_affinity(terms, NODE)
    assert meets_affinity(None, NODE)
    assert meets_affinity(NodeAffinity(), NODE)


def test_a_model_goes_only_where_its_terms_are_met_and_the_message_names_them() -> None:
    nodes = [node("n1"), node("n2", labels={**HALO, "disk": "nvme"})]
    affinity = required(expression("disk", "In", "nvme"))

    def decide(running: str = "") -> Any:
        current = {"a": [running]} if running else {}
        return place(
            [wants("a", 20, node_affinity=affinity)], nodes, presence=presence(current), held=()
        ).assignments["a"]

    assert decide().nodes == ("n2",)
    assert decide(running="n1").nodes == ("n2",), "an edit of the affinity moves the model"
    nodes = [node("n1")]
    assert decide().nodes == ()
    assert "spec.pod.affinity" in decide().message


def test_a_node_that_is_preferred_comes_before_one_that_is_fuller() -> None:
    affinity = NodeAffinity.model_validate(
        {
            PREFERRED: [
                {"weight": 1, "preference": expression("disk", "Exists")},
                {"weight": 5, "preference": expression("zone", "In", "b")},
            ]
        }
    )
    small, disk = node("small", 40), node("disk", labels={**HALO, "disk": "nvme"})
    zone = node("zone", labels={**HALO, "zone": "b"})
    assert [preference(affinity, entry) for entry in (small, disk, zone)] == [0, 1, 5]

    def place_on(*nodes: Any) -> tuple[str, ...]:
        demand = wants("a", 20, node_affinity=affinity)
        decided = place([demand], list(nodes), presence={}, held=())
        return decided.assignments["a"].nodes

    assert place_on(small, disk, zone) == ("zone",)
    assert place_on(small, disk) == ("disk",)
    assert place_on(small) == ("small",)


def test_the_node_is_in_each_term_of_the_pod_and_can_be_read_again() -> None:
    affinity = Affinity.model_validate(
        {
            "nodeAffinity": {
                REQUIRED: {"nodeSelectorTerms": [expression("a", "Exists"), named("NotIn", "x")]}
            },
            "podAntiAffinity": {REQUIRED: [{"topologyKey": "zone"}]},
        }
    )
    merged = pod_affinity(affinity, "n1")
    terms = merged["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    here = {"key": "metadata.name", "operator": "In", "values": ["n1"]}
    assert [term["matchFields"][0] for term in terms] == [here, here]
    assert terms[1]["matchFields"][1]["operator"] == "NotIn"
    assert merged["podAntiAffinity"] == {REQUIRED: [{"topologyKey": "zone"}]}
    assert placed_on({"affinity": merged}) == "n1"
    live = {**merged, "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": copy.deepcopy(terms)}}}
    del live["nodeAffinity"][REQUIRED]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"]
    assert difference(merged, live) is None, "the API server omits a list without values"
    assert placed_on({"affinity": pod_affinity(None, "n2")}) == "n2"
    assert placed_on({}) == ""
    assert placed_on({"affinity": {"nodeAffinity": {PREFERRED: []}}}) == ""

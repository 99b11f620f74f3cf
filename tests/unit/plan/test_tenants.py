"""Groups, priorities and messages of models on demand end at the namespace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.contract.lease import Phase
from llama_halo.plan.facts import (
    FileFacts,
    MemoryReservation,
    ModelUsage,
    OnDemandPolicy,
    Owner,
    PlacementScope,
    ResourceDemand,
)
from llama_halo.plan.llamamodel import demand
from llama_halo.plan.placement import Decision, place
from llama_halo.plan.sizing import sizing_of
from llama_halo.plan.tenants import ordered
from tests.support.demands import BUSY, IDLE, node, presence, wants
from tests.support.plans import BASE

WANTED = ModelUsage(phase=Phase.IDLE, busy=True, wanted_since=5)
ITEMS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(0, 5)))


@given(ITEMS)
def test_what_a_tenant_says_moves_its_own_items_alone(items: list[tuple[str, int, int]]) -> None:
    result = ordered(
        items,
        tenant=lambda item: item[0],
        key=lambda item: item[1],
        own_key=lambda item: (item[2], item[1]),
    )
    assert sorted(result) == sorted(items)
    by_key = sorted(items, key=lambda item: item[1])
    assert [item[0] for item in result] == [item[0] for item in by_key]
    for tenant in "abc":
        own = [item[2] for item in result if item[0] == tenant]
        assert own == sorted(own)


def comes(model: str, gib: int, tenant: str | None = None, **policy: Any) -> ResourceDemand:
    """Return the demand of a model on demand; its tenant is its namespace unless it is given."""
    on_demand = OnDemandPolicy(idle_timeout_seconds=900, min_resident_seconds=60)
    tenant = model.partition("/")[0] if tenant is None else tenant
    return wants(model, gib, on_demand=replace(on_demand, **policy), tenant=tenant)


def decide(*demands: ResourceDemand, **usage: ModelUsage) -> Decision:
    """Decide on one node of 112 GiB, where every loaded model is; `usage` is by the model's name
    without its namespace."""
    uses = {item.model: usage[item.model.partition("/")[2]] for item in demands}
    present = [item for item in demands if uses[item.model].phase is Phase.LOADED]
    return place(
        demands,
        [node("n1")],
        presence=presence(
            current={item.model: ["n1"] for item in present},
            running={item.model: frozenset({"n1"}) for item in present},
        ),
        held=[MemoryReservation(item.model, "n1", item.gpu_mib, item.host_mib) for item in present],
        usage=uses,
    )


def test_a_group_of_another_namespace_is_another_group() -> None:
    one, other = comes("a/one", 10, group="big"), comes("b/other", 10, group="big")
    decision = decide(one, other, one=BUSY, other=WANTED)
    assert decision.assignments["b/other"].nodes == ("n1",)
    shared = (replace(one, tenant=""), replace(other, tenant=""))
    decision = decide(*shared, one=BUSY, other=WANTED)
    assert decision.assignments["b/other"].nodes == ()


def test_a_priority_keeps_no_model_at_another_namespaces_cost() -> None:
    dear, other = comes("a/dear", 50, priority=1000), comes("b/other", 50)
    new = comes("a/new", 50)
    usage = {"dear": replace(IDLE, idle_seconds=800), "other": IDLE, "new": WANTED}
    assert decide(dear, other, new, **usage).unload == {"a/dear"}
    everywhere = [replace(item, tenant="") for item in (dear, other, new)]
    assert decide(*everywhere, **usage).unload == {"b/other"}


def test_a_namespaces_own_models_leave_by_priority() -> None:
    dear, cheap = comes("a/dear", 30, priority=9), comes("a/cheap", 30)
    other, new = comes("b/other", 30), comes("b/new", 30)
    usage = {
        "dear": replace(IDLE, idle_seconds=800),
        "cheap": IDLE,
        "other": replace(IDLE, idle_seconds=500),
        "new": WANTED,
    }
    assert decide(dear, cheap, other, new, **usage).unload == {"a/cheap"}


def test_a_priority_gets_no_memory_before_another_namespace_that_waited_longer() -> None:
    first, urgent = comes("b/first", 90), comes("a/urgent", 90, priority=1000)
    usage = {"first": replace(WANTED, wanted_since=1), "urgent": replace(WANTED, wanted_since=2)}
    assert decide(first, urgent, **usage).assignments["b/first"].nodes == ("n1",)
    shared = [replace(item, tenant="") for item in (first, urgent)]
    assert decide(*shared, **usage).assignments["a/urgent"].nodes == ("n1",)


@pytest.mark.parametrize(("tenant", "is_named"), [(None, False), ("", True)])
def test_a_message_names_the_models_of_ones_own_namespace(
    tenant: str | None, is_named: bool
) -> None:
    own, foreign = comes("a/own", 30, tenant), comes("b/secret", 60, tenant)
    decision = decide(own, foreign, comes("a/new", 90, tenant), own=BUSY, secret=BUSY, new=WANTED)
    message = decision.assignments["a/new"].message
    assert "a/own 30.0Gi busy" in message
    assert ("b/secret 60.0Gi busy" in message) is is_named
    assert ("other namespaces 60.0Gi" in message) is not is_named
    decision = decide(own, foreign, comes("a/new", 50, tenant), own=BUSY, secret=IDLE, new=WANTED)
    message = decision.assignments["a/new"].message
    assert ("unloading b/secret on n1" in message) is is_named
    assert ("unloading 1 model of other namespaces on n1" in message) is not is_named


@pytest.mark.parametrize(
    ("scope", "tenant"), [(PlacementScope.NAMESPACE, "llm"), (PlacementScope.CLUSTER, "")]
)
def test_the_setting_says_what_a_tenant_is(scope: PlacementScope, tenant: str) -> None:
    spec, owner = LlamaModelSpec.model_validate(BASE), Owner("LlamaModel", "llm", "m", "uid", 1)
    sizing = sizing_of(spec, FileFacts())
    value = demand(owner, spec, FileFacts(), sizing, scope=scope)
    assert value is not None
    assert value.tenant == tenant

"""A model as the gateway reads it, and the URLs of its servers."""

from __future__ import annotations

from typing import Any

import pytest

from llama_halo.gateway.models.model import Model, model_of, servers, urls


@pytest.mark.parametrize(
    ("spec", "on_demand", "has_lease"),
    [
        ({}, False, False),
        ({"update": {"mode": "Immediate"}}, False, False),
        ({"update": {"mode": "WhenIdle"}}, False, True),
        ({"activation": {"onDemand": {}}}, True, True),
    ],
)
def test_it_is_said_of_these_models_what_is_in_flight(
    spec: Any, on_demand: bool, has_lease: bool
) -> None:
    value = model_of({"metadata": {"name": "m"}, "spec": spec})
    assert (value.on_demand, value.has_lease) == (on_demand, has_lease)


def with_replicas(*placements: tuple[str, str], available: bool = True) -> Model:
    conditions = [
        {"type": "Available", "status": str(available)},
        {"type": "Ready", "status": str(available), "reason": "Serving"},
    ]
    status = {
        "endpoint": "http://service",
        "conditions": conditions,
        "placements": [
            {"node": f"n{index}", "reason": reason, **({"address": address} if address else {})}
            for index, (reason, address) in enumerate(placements)
        ],
    }
    return model_of({"metadata": {"name": "m"}, "status": status})


@pytest.mark.parametrize(
    ("placements", "available", "value"),
    [
        ((("Serving", "a:8080"),), True, ["http://a:8080", "http://service"]),
        ((("Serving", "a:8080"), ("Loading", "b:8080")), True, ["http://a:8080", "http://service"]),
        ((("Loading", "b:8080"),), False, ["http://b:8080", "http://service"]),
        ((("Scheduling", ""),), False, ["http://service"]),
        ((), True, ["http://service"]),
    ],
)
def test_servers_that_answer_are_asked_themselves_and_the_service_is_the_way_out(
    placements: Any, available: bool, value: list[str]
) -> None:
    model = with_replicas(*placements, available=available)
    assert urls(model, servers(model, "s")[0]) == value


def test_a_session_stays_with_its_replica_whatever_becomes_of_the_others() -> None:
    three = [("Serving", f"{name}:8080") for name in "abc"]
    sessions = [f"session {number}" for number in range(300)]
    first = {session: servers(with_replicas(*three), session)[0] for session in sessions}
    shares = [list(first.values()).count(f"http://{name}:8080") for name in "abc"]
    assert min(shares) > 60
    without_a = {session: servers(with_replicas(*three[1:]), session)[0] for session in sessions}
    moved = [session for session in sessions if first[session] != without_a[session]]
    assert {first[entry] for entry in moved} == {"http://a:8080"}

"""One model at a time rolls on a node."""

from __future__ import annotations

from typing import Any

import pytest

from llama_halo.contract import labels
from llama_halo.controllers.placement.rollout_turns import (
    CLAIM_SECONDS,
    MAX_TURN_SECONDS,
    RolloutTurns,
    is_rolling_out,
)
from llama_halo.kube.cache import Key, ObjectCache

ONE, TWO = (Key("LlamaModel", "llm", name) for name in ("one", "two"))
Json = dict[str, Any]


def deployment(
    model: Key, *, ready: int = 0, expected: int = 1, observed: int | None = 1, generation: int = 1
) -> Json:
    status: Json = {"updatedReplicas": 1, "availableReplicas": ready}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": f"{model.name}-x",
            "namespace": "llm",
            "generation": generation,
            "labels": {labels.MODEL: model.name},
            "annotations": {labels.NODE: "n1"},
        },
        "spec": {"replicas": expected},
        "status": status | ({} if observed is None else {"observedGeneration": observed}),
    }


def cr(model: Key, reason: str) -> Json:
    conditions = [{"type": "Ready", "status": "False", "reason": reason}]
    metadata = {"name": model.name, "namespace": "llm", "uid": model.name, "resourceVersion": "1"}
    return {
        "apiVersion": "llama-halo.dev/v1alpha1",
        "kind": "LlamaModel",
        "metadata": metadata,
        "status": {"conditions": conditions},
    }


class World:
    """Two models on one node, and a clock."""

    def __init__(self, reason: str = "Loading") -> None:
        self.now = 100.0
        self.rolls = RolloutTurns(lambda: self.now)
        self.store = ObjectCache()
        for model in (ONE, TWO):
            self.store.observe(cr(model, reason))

    def note(self, model: Key, **state: Any) -> set[Key]:
        key = Key("Deployment", "llm", f"{model.name}-x")
        return set(self.rolls.note(key, deployment(model, **state)))

    def taken(self, model: Key) -> bool:
        return bool(self.rolls.nodes_taken(model, ["n1"], self.store))


@pytest.mark.parametrize(
    ("state", "is_on_its_way"),
    [
        ({}, True),
        ({"ready": 1}, False),
        ({"ready": 1, "observed": 0}, True),
        ({"expected": 0}, False),
        ({"observed": None}, False),
    ],
    ids=["loading", "settled", "its change is not seen yet", "at 0", "no controller"],
)
def test_a_deployment_is_on_its_way_until_its_pods_are_what_it_says(
    state: Any, is_on_its_way: bool
) -> None:
    assert is_rolling_out(deployment(ONE, **state)) is is_on_its_way


def test_while_one_is_on_its_way_the_other_waits_and_is_woken_when_it_may() -> None:
    world = World()
    world.note(ONE)
    assert world.taken(TWO)
    assert not world.taken(ONE), "its own roll goes on"
    world.rolls.request(TWO, rolls=(), waits=("n1",))
    assert world.note(ONE, ready=1) == {TWO}
    assert not world.taken(TWO)


def test_of_two_that_begin_at_once_one_has_the_turn() -> None:
    world = World()
    assert not world.taken(ONE)
    world.rolls.request(ONE, rolls=("n1",), waits=())
    assert world.taken(TWO), "before the first one's Deployment is there"
    assert not world.taken(ONE)
    world.now += CLAIM_SECONDS
    assert not world.taken(TWO), "it never came"


def test_what_fails_or_takes_very_long_gives_its_turn_away() -> None:
    failing = World("CrashLooping")
    failing.note(ONE)
    assert not failing.taken(TWO)
    slow = World()
    slow.note(ONE)
    slow.now += MAX_TURN_SECONDS
    assert not slow.taken(TWO)


def test_what_is_deleted_gives_its_turn_away() -> None:
    world = World()
    world.note(ONE)
    world.rolls.request(TWO, rolls=(), waits=("n1",))
    assert world.rolls.note(Key("Deployment", "llm", "one-x"), None) == {TWO}


def test_a_roll_that_is_refused_again_and_again_starves_nobody() -> None:
    """One that tries every ten seconds beside one that looks every fifteen."""
    world, turns = World(), 0
    for second in range(3600):
        world.now += 1
        if second % 10 == 0 and not world.taken(ONE):
            world.rolls.request(ONE, rolls=("n1",), waits=())
        turns += second % 15 == 0 and not world.taken(TWO)
    assert turns > 60


def test_without_a_controller_a_roll_is_over_as_soon_as_it_is_written() -> None:
    """As in a control plane that has none: nothing would ever settle."""
    world = World()
    world.note(ONE, observed=None)
    world.rolls.request(ONE, rolls=("n1",), waits=())
    world.rolls.request(TWO, rolls=(), waits=("n1",))
    assert world.note(ONE, observed=None) == set(), "only its status changed"
    assert world.taken(TWO)
    assert world.note(ONE, observed=None, generation=2) == {TWO}
    assert not world.taken(TWO)


def test_a_deployment_without_an_owner_changes_no_turn() -> None:
    orphan = deployment(ONE)
    del orphan["metadata"]["labels"]
    key = Key("Deployment", "llm", "one-x")
    turns = RolloutTurns()
    assert not turns.note(key, orphan)
    turns.request(TWO, rolls=["n1"], waits=[])
    orphan["metadata"]["generation"] = 2
    turns.note(key, orphan)
    assert turns.nodes_taken(ONE, ["n1"], ObjectCache()) == {"n1"}, "the claim of TWO stays"

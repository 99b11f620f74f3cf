"""The entries of gateways on a Lease: when a model counts as busy, idle, and resident."""

from __future__ import annotations

from typing import Any

import pytest

from llama_halo.contract.lease import GATEWAY_PREFIX, PHASE_ANNOTATION, Phase
from llama_halo.controllers.placement.lease_activity import LeaseActivity
from llama_halo.kube.cache import Key

KEY = Key("LlamaModel", "llm", "coder")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def activity(clock: Clock) -> LeaseActivity:
    lease_activity = LeaseActivity(clock)
    lease_activity.record_watch(None, healthy=True)
    clock.now += 20
    return lease_activity


def lease(phase: str = "Loaded", **gateways: str) -> dict[str, Any]:
    text = {f"{GATEWAY_PREFIX}{name}": text for name, text in gateways.items()}
    return {"metadata": {"annotations": {PHASE_ANNOTATION: phase, **text}}}


def test_a_gateway_with_requests_in_flight_is_busy_for_15_seconds_after_each_word(
    activity: LeaseActivity, clock: Clock
) -> None:
    assert activity.note(KEY, lease(a="1/2"))
    assert activity.usage(KEY).busy
    clock.now += 14
    assert not activity.note(KEY, lease(a="2/2")), "the same is no news"
    clock.now += 14
    assert activity.usage(KEY).busy
    assert activity.usage(KEY).next_change_seconds == pytest.approx(1)
    clock.now += 2
    usage = activity.usage(KEY)
    assert (usage.busy, usage.idle_seconds) == (False, pytest.approx(16))


def test_its_last_word_ends_it_at_once_unless_another_gateway_is_busy(
    activity: LeaseActivity, clock: Clock
) -> None:
    activity.note(KEY, lease(a="1/1", b="1/1"))
    assert not activity.note(KEY, lease(a="2/0", b="1/1"))
    assert activity.usage(KEY).busy
    assert activity.note(KEY, lease(a="2/0", b="2/0"))
    clock.now += 3
    assert activity.usage(KEY).idle_seconds == pytest.approx(3)


def test_a_word_that_is_none_makes_nobody_busy(activity: LeaseActivity) -> None:
    activity.note(KEY, lease(a="", b="x/y", c="5", d="1/-3"))
    assert activity.usage(KEY).busy is True, "a bare number is a count of requests"
    activity.note(KEY, lease(a="", b="x/y", d="1/-3"))
    assert not activity.usage(KEY).busy


def test_nobody_is_judged_until_the_watch_was_healthy_for_15_seconds(clock: Clock) -> None:
    activity = LeaseActivity(clock)
    activity.note(KEY, lease(a="1/0"))
    assert not activity.usage(KEY).trusted
    activity.record_watch(None, healthy=True)
    clock.now += 14
    assert not activity.usage(KEY).trusted
    clock.now += 1
    assert activity.usage(KEY).trusted
    activity.record_watch(None, healthy=False)
    assert not activity.usage(KEY).trusted
    activity.record_watch(None, healthy=True)
    assert not activity.usage(KEY).trusted


def test_who_goes_past_the_gateways_counts(activity: LeaseActivity, clock: Clock) -> None:
    activity.note(KEY, lease(a="1/0"))
    activity.record_busy(KEY)
    assert activity.usage(KEY).busy
    clock.now += 16
    assert not activity.usage(KEY).busy


def test_residence_begins_with_the_load(activity: LeaseActivity, clock: Clock) -> None:
    activity.note(KEY, lease("Idle"))
    clock.now += 100
    activity.note(KEY, lease("Loaded", a="1/1"))
    clock.now += 5
    activity.note(KEY, lease("Unloading", a="2/0"))
    activity.note(KEY, lease("Loaded", a="2/0"))
    assert activity.usage(KEY).resident_seconds == pytest.approx(5)


def test_a_model_whose_lease_is_gone_is_forgotten(activity: LeaseActivity) -> None:
    activity.note(KEY, lease(a="1/1"))
    assert activity.note(KEY, None)
    assert activity.phase(KEY) is Phase.NEW
    assert not activity.usage(KEY).busy


def test_a_number_that_is_too_long_is_none(activity: LeaseActivity) -> None:
    activity.note(KEY, lease(a="1/" + "9" * 5000, b="9" * 5000))
    assert not activity.usage(KEY).busy

"""How long a change of a model has waited."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from llama_halo.contract.reasons import Reason
from llama_halo.controllers.model import note_waiting
from llama_halo.controllers.placement.nodes import NodeIndex
from llama_halo.controllers.state import PlacementState
from llama_halo.plan.outcome import Invalid
from tests.support.updates import BUSY, HUB, WHEN_IDLE, old, plan


def test_the_time_runs_from_the_first_wait_until_the_change_is_there() -> None:
    """Neither another model's turn nor a write that failed begins it anew."""
    state: Any = SimpleNamespace(placement=PlacementState(NodeIndex(gpu_reserve_mib=0)))
    cr = {"kind": "LlamaModel", "metadata": {"namespace": "llm", "name": "coder"}}
    note_waiting(state, cr, plan(WHEN_IDLE, BUSY, old()))
    ((key, since),) = state.placement.awaiting_idle.items()
    for detour in (
        plan(WHEN_IDLE, BUSY, old(), rolling_elsewhere=frozenset({"n1"})),
        plan(WHEN_IDLE, BUSY, old(), assignment=None),
        plan(WHEN_IDLE, BUSY, old(), awaited_seconds=600.0),
        plan(WHEN_IDLE, BUSY, old(), awaited_seconds=600.0, nodes=("n2",)),
        plan(WHEN_IDLE, BUSY, old()),
    ):
        note_waiting(state, cr, detour)
        assert state.placement.awaiting_idle == {key: since}
    new = replace(old(), config_hash=plan(WHEN_IDLE, BUSY, old()).config_hash)
    other_file = plan(
        {**WHEN_IDLE, "contextSize": None, "memory": None, "source": HUB},
        BUSY,
        old(),
        nodes=("n1",),
    )
    for end in (
        plan(WHEN_IDLE, BUSY, new),
        Invalid(Reason.INVALID_SPEC, "a mistake"),
        other_file,  # which is another change, once it is known
    ):
        note_waiting(state, cr, plan(WHEN_IDLE, BUSY, old()))
        note_waiting(state, cr, end)
        assert not state.placement.awaiting_idle

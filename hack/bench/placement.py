"""How long one placement decision takes: a thousand models on forty nodes, JSON in the last line.

`python -m hack.bench.placement`. Small models that all fit, large ones of which a tenth fits;
always on and on demand; with everything still to be placed, and with everything in its place.
"""

from __future__ import annotations

import json
import random
import statistics
import time

from llama_halo.contract import labels
from llama_halo.contract.lease import Phase
from llama_halo.plan.facts import (
    MemoryReservation,
    ModelUsage,
    NodeFacts,
    OnDemandPolicy,
    ResourceDemand,
)
from llama_halo.plan.placement import place

GIB = 1024
MODELS, NODES, ROUNDS = 1000, 40, 7
HALO = {labels.STRIX_HALO: "true"}


def main() -> None:
    """Print the median of each case in milliseconds."""
    timings = {}
    for name, sizes in (("small", (1, 3)), ("large", (2, 40))):
        for on_demand in (False, True):
            case = f"{name} models, {'on demand' if on_demand else 'always on'}"
            first, again = _decide(sizes, on_demand=on_demand)
            timings[case] = {"first_ms": first, "again_ms": again}
            print(f"{case:<28} first {first:6.1f} ms   again {again:6.1f} ms")
    print(json.dumps({"models": MODELS, "nodes": NODES, "cases": timings}))


def _decide(sizes: tuple[int, int], *, on_demand: bool) -> tuple[float, float]:
    chance = random.Random(1)  # noqa: S311
    nodes = [
        NodeFacts(f"n{number:02}", allocatable_mib=120 * GIB, gpu_budget_mib=104 * GIB, labels=HALO)
        for number in range(NODES)
    ]
    stored = frozenset(node.name for node in nodes[: NODES // 2])
    activation = (
        OnDemandPolicy(idle_timeout_seconds=900, min_resident_seconds=0) if on_demand else None
    )
    demands = [
        ResourceDemand(
            model=f"llm/m{number:04}",
            replicas=1,
            gpu_mib=chance.randint(*sizes) * GIB,
            host_mib=512,
            needs_gpu=True,
            on_demand=activation,
            stored_on=stored,
            fetchable_to=None,
        )
        for number in range(MODELS)
    ]
    usage = {
        demand.model: ModelUsage(phase=Phase.IDLE, busy=chance.random() < 0.3) for demand in demands
    }
    times, decision = [], None
    for _ in range(ROUNDS):
        started = time.perf_counter()
        decision = place(demands, nodes, current={}, running={}, held=(), usage=usage)
        times.append(time.perf_counter() - started)
    assert decision is not None  # noqa: S101
    placed = {
        model: assignment.nodes
        for model, assignment in decision.assignments.items()
        if assignment.nodes
    }
    held = [
        MemoryReservation(demand.model, placed[demand.model][0], demand.gpu_mib, demand.host_mib)
        for demand in demands
        if demand.model in placed
    ]
    usage = {
        demand.model: ModelUsage(
            phase=Phase.LOADED if demand.model in placed else Phase.IDLE,
            busy=chance.random() < 0.5,
            idle_seconds=chance.random() * 100,
            resident_seconds=100,
        )
        for demand in demands
    }
    again = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        place(
            demands,
            nodes,
            current=placed,
            running={model: frozenset(names) for model, names in placed.items()},
            held=held,
            usage=usage,
        )
        again.append(time.perf_counter() - started)
    return statistics.median(times) * 1000, statistics.median(again) * 1000


if __name__ == "__main__":
    main()

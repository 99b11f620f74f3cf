"""Which node runs which model: one decision over all models and nodes, sticky and deterministic.

Order of choice: fits, stays where it is, has the files, spreads replicas, leaves least room over,
node name. A node that lacks the files gets them first, and holds no memory for that meanwhile.
A pod is never asked for where it does not fit: overcommit can wedge such a machine's kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llama_halo.api.reasons import Reason
from llama_halo.plan import labels
from llama_halo.plan.facts import Assignment, Demand, Held, NodeFacts, Taint, Wishes
from llama_halo.plan.quantity import human_gib

# What tells a Strix Halo node where spec.pod.nodeSelector says nothing; any one suffices. Most of
# these machines have PCI class 0380, not 0300.
GPU_NODE_LABELS = (
    (labels.STRIX_HALO, "true"),
    ("feature.node.kubernetes.io/pci-0380_1002.present", "true"),
    ("feature.node.kubernetes.io/pci-0300_1002.present", "true"),
    ("amd.com/gpu.device-id", "1586"),
)


NODES_TOLD = 3


@dataclass
class _Ledger:
    """Memory held on one node, by model, MiB; the sums are kept, for there are many models."""

    node: NodeFacts
    gpu: dict[str, int] = field(default_factory=dict)
    host: dict[str, int] = field(default_factory=dict)
    gpu_sum: int = 0
    host_sum: int = 0

    def charge(self, demand: Demand) -> None:
        """Charge a demand; a larger old pod of the model counts until it is gone."""
        gpu, host = self.gpu.get(demand.model, 0), self.host.get(demand.model, 0)
        self.hold(demand.model, max(demand.gpu_mib - gpu, 0), max(demand.host_mib - host, 0))

    def hold(self, model: str, gpu_mib: int, host_mib: int) -> None:
        """Count what pods of a model hold, beside what is counted already."""
        self.gpu[model] = self.gpu.get(model, 0) + gpu_mib
        self.host[model] = self.host.get(model, 0) + host_mib
        self.gpu_sum += gpu_mib
        self.host_sum += host_mib

    def gpu_free(self, besides: str) -> int:
        return self.node.gpu_budget_mib - self.gpu_sum + self.gpu.get(besides, 0)

    def total_free(self, besides: str) -> int:
        own = self.gpu.get(besides, 0) + self.host.get(besides, 0)
        return self.node.allocatable_mib - self.gpu_sum - self.host_sum + own

    def fits(self, demand: Demand) -> bool:
        return demand.gpu_mib <= self.gpu_free(
            demand.model
        ) and demand.total_mib <= self.total_free(demand.model)


def place(
    demands: Sequence[Demand],
    nodes: Sequence[NodeFacts],
    *,
    current: Mapping[str, Sequence[str]],
    running: Mapping[str, frozenset[str]],
    held: Sequence[Held],
) -> dict[str, Assignment]:
    """Assign nodes to models.

    `current` is where each model's Deployments are, the best to keep first, `running` where it
    has pods that are not ending, `held` what pods and Deployments hold now.
    Demands are served in order; a model that runs keeps its place as long as it fits there.
    """
    ledgers = {node.name: _Ledger(node) for node in sorted(nodes, key=lambda node: node.name)}
    for each in held:
        if each.node in ledgers:
            ledgers[each.node].hold(each.model, each.gpu_mib, each.host_mib)
    kept = {
        demand.model: _keep(
            demand,
            ledgers,
            current.get(demand.model, ()),
            running.get(demand.model, frozenset()),
        )
        for demand in demands
    }
    return {
        demand.model: _assign(
            demand, ledgers, kept[demand.model], frozenset(current.get(demand.model, ()))
        )
        for demand in demands
    }


def matches(demand: Wishes, node: NodeFacts) -> bool:
    """Tell whether a model may run on a node at all, room aside."""
    if demand.node_selector:
        chosen = all(node.labels.get(key) == value for key, value in demand.node_selector)
    else:
        chosen = not demand.needs_gpu or any(
            node.labels.get(key) == value for key, value in GPU_NODE_LABELS
        )
    return chosen and all(_tolerated(demand, taint) for taint in node.taints)


def _keep(
    demand: Demand,
    ledgers: Mapping[str, _Ledger],
    current: Sequence[str],
    running: frozenset[str],
) -> tuple[str, ...]:
    """Charge the nodes where a model is and still fits, up to its replicas."""
    kept: list[str] = []
    for name in current:
        ledger = ledgers.get(name)
        if ledger is None or len(kept) == demand.replicas or not matches(demand, ledger.node):
            continue
        if not ledger.node.takes_new and name not in running:
            continue  # what was evicted from there is placed elsewhere
        if not _has_files(demand, name):
            continue
        if ledger.fits(demand):
            ledger.charge(demand)
            kept.append(name)
    return tuple(kept)


def _assign(
    demand: Demand,
    ledgers: Mapping[str, _Ledger],
    kept: tuple[str, ...],
    current: frozenset[str],
) -> Assignment:
    chosen, fetch_to = list(kept), list[str]()
    while len(chosen) + len(fetch_to) < demand.replicas:
        open_nodes = [
            ledger
            for name, ledger in ledgers.items()
            if name not in (*chosen, *fetch_to)
            and ledger.node.takes_new
            and matches(demand, ledger.node)
        ]
        best = _best(demand, open_nodes, current)
        if best is None:
            reason, message = _why(demand, ledgers, open_nodes, chosen)
            return Assignment(demand, tuple(chosen), reason, message, tuple(fetch_to))
        if _has_files(demand, best.node.name):
            best.charge(demand)
            chosen.append(best.node.name)
        else:
            fetch_to.append(best.node.name)
    if fetch_to:
        where = f"the model's files are being fetched to {', '.join(fetch_to)}"
        return Assignment(demand, tuple(chosen), Reason.DOWNLOADING, where, tuple(sorted(fetch_to)))
    return Assignment(demand, tuple(chosen))


def _best(demand: Demand, open_nodes: Sequence[_Ledger], current: frozenset[str]) -> _Ledger | None:
    """Return the best node for one more replica, to run it or to get its files first."""
    ready = [each for each in open_nodes if _has_files(demand, each.node.name)]
    fitting = [each for each in ready if each.fits(demand)]
    if not fitting and demand.fetchable:
        lacking = [each for each in open_nodes if each not in ready]
        # A download goes on where it began, and begins where the model could run one day: room
        # may come before it ends.
        fitting = [each for each in lacking if each.node.name in demand.fetching_on] or [
            each for each in lacking if each.fits(demand)
        ]
        if not fitting and not ready:
            fitting = [each for each in lacking if _could_fit(demand, each.node)]
    return min(
        fitting,
        key=lambda each: (
            each.node.name not in current,
            not each.fits(demand),
            _room(each, demand),
            each.node.name,
        ),
        default=None,
    )


def _has_files(demand: Demand, node: str) -> bool:
    return demand.stored_on is None or node in demand.stored_on


def _could_fit(demand: Demand, node: NodeFacts) -> bool:
    """Tell whether an empty node would hold the model."""
    return demand.gpu_mib <= node.gpu_budget_mib and demand.total_mib <= node.allocatable_mib


def _room(ledger: _Ledger, demand: Demand) -> int:
    if demand.needs_gpu:
        return ledger.gpu_free(demand.model) - demand.gpu_mib
    return ledger.total_free(demand.model) - demand.total_mib


def _why(
    demand: Demand,
    ledgers: Mapping[str, _Ledger],
    open_nodes: Sequence[_Ledger],
    chosen: Sequence[str],
) -> tuple[Reason, str]:
    have = f"{len(chosen)} of {demand.replicas} replicas have a node; " if chosen else ""
    if open_nodes and not any(_could_fit(demand, each.node) for each in open_nodes):
        largest = max(open_nodes, key=lambda each: (each.node.gpu_budget_mib, each.node.name))
        return Reason.MODEL_TOO_LARGE, have + _too_large(demand, largest.node)
    if open_nodes and not demand.fetchable:
        open_nodes = [each for each in open_nodes if _has_files(demand, each.node.name)]
        if not open_nodes:
            return Reason.SOURCE_NOT_FOUND, (
                f"{have}no free node has the file in its store: copy it there, or use"
                " source.huggingFace or source.http"
            )
    if open_nodes:
        shortages = "; ".join(_shortage(demand, ledger) for ledger in open_nodes[:NODES_TOLD])
        if len(open_nodes) > NODES_TOLD:
            shortages += f"; and {len(open_nodes) - NODES_TOLD} more nodes without room"
        return Reason.WAITING_FOR_MEMORY, (
            f"{have}{shortages}: lower contextSize and memory, stop another model"
            " (replicas: 0), or add a node"
        )
    if demand.node_selector:
        wanted = ",".join(f"{key}={value}" for key, value in demand.node_selector)
    elif demand.needs_gpu:
        wanted = " or ".join(f"{key}={value}" for key, value in GPU_NODE_LABELS)
    else:
        wanted = "no label"
    matching = sum(matches(demand, ledger.node) for ledger in ledgers.values())
    return Reason.WAITING_FOR_NODE, (
        f"{have}of {len(ledgers)} nodes {matching} match (wanted: {wanted}; taints tolerated) and"
        f" {len(open_nodes)} of them are free to take another replica: label a node"
        f" (kubectl label node NAME {labels.STRIX_HALO}=true), uncordon one, or change"
        " spec.pod.nodeSelector or spec.pod.tolerations"
    )


def _too_large(demand: Demand, node: NodeFacts) -> str:
    if demand.gpu_mib > node.gpu_budget_mib:
        need, have, what = demand.gpu_mib, node.gpu_budget_mib, "of GPU memory"
    else:
        need, have, what = demand.total_mib, node.allocatable_mib, "of memory"
    return (
        f"needs {human_gib(need)} {what}, and the largest node that may run it, {node.name}, has"
        f" {human_gib(have)} even when it is empty: lower contextSize, use cacheType q8_0, or take"
        " a smaller quantization (llama-halo estimate tells what fits)"
    )


def _shortage(demand: Demand, ledger: _Ledger) -> str:
    gpu_free = ledger.gpu_free(demand.model)
    if demand.gpu_mib > gpu_free:
        what, need, free = "GPU memory", demand.gpu_mib, gpu_free
        budget, users = ledger.node.gpu_budget_mib, ledger.gpu
    else:
        what, need, free = "memory", demand.total_mib, ledger.total_free(demand.model)
        budget = ledger.node.allocatable_mib
        users = {name: ledger.gpu[name] + ledger.host[name] for name in ledger.gpu}
    others = ", ".join(
        f"{name} {human_gib(mib)}"
        for name, mib in sorted(users.items())
        if mib and name != demand.model
    )
    return (
        f"needs {human_gib(need)} of {what}, {ledger.node.name} has {human_gib(max(free, 0))} free"
        f" (budget {human_gib(budget)}{'; ' + others if others else ''})"
    )


def _tolerated(demand: Wishes, taint: Taint) -> bool:
    if taint.effect == "PreferNoSchedule":
        return True
    return any(
        (not each.effect or each.effect == taint.effect)
        and (
            (each.operator == "Exists" and (each.key is None or each.key == taint.key))
            or (
                each.operator in (None, "Equal")
                and each.key == taint.key
                and (each.value or "") == taint.value
            )
        )
        for each in demand.tolerations
    )

"""Explains why a model has no node: the amounts, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llama_halo.contract import labels
from llama_halo.contract.reasons import Reason
from llama_halo.plan.facts import ModelUsage, NodeFacts, ResourceDemand
from llama_halo.plan.ledger import Ledger
from llama_halo.plan.node_selection import GPU_NODE_LABELS, matches
from llama_halo.plan.quantity import counted, human_gib
from llama_halo.plan.tenants import is_of_tenant

MAX_LISTED_NODES = 3


def why_unplaced(
    demand: ResourceDemand,
    ledgers: Mapping[str, Ledger],
    open_nodes: Sequence[Ledger],
    chosen: Sequence[str],
    usage: Mapping[str, ModelUsage],
) -> tuple[Reason, str]:
    """Return reason and message for a replica that no open node can take now."""
    verb = "has" if len(chosen) == 1 else "have"
    replicas = counted(demand.replicas, "replica")
    have = f"{len(chosen)} of {replicas} {verb} a node; " if chosen else ""
    if open_nodes and not any(ledger.could_hold(demand) for ledger in open_nodes):
        largest = max(open_nodes, key=lambda ledger: (ledger.node.gpu_budget_mib, ledger.name))
        return Reason.MODEL_TOO_LARGE, have + _too_large(demand, largest.node)
    if open_nodes and demand.stored_on is not None:
        open_nodes = [
            ledger
            for ledger in open_nodes
            if demand.has_files(ledger.name) or demand.can_get_files(ledger.name)
        ]
        if not open_nodes:
            nodes = demand.stored_on | (demand.fetchable_to or frozenset())
            return Reason.SOURCE_NOT_FOUND, (
                f"{have}no available node has all of the files that cannot be fetched (nodes that"
                f" have them: {', '.join(sorted(nodes)) or 'none'}): copy them to a node's store,"
                " or use source.huggingFace or source.http with a store on the nodes"
            )
    if open_nodes:
        shortages = "; ".join(
            _shortage(demand, ledger, usage) for ledger in open_nodes[:MAX_LISTED_NODES]
        )
        if len(open_nodes) > MAX_LISTED_NODES:
            more = counted(len(open_nodes) - MAX_LISTED_NODES, "more node")
            shortages += f"; and {more} without enough memory"
        return Reason.WAITING_FOR_MEMORY, (
            f"{have}{shortages}: lower contextSize and memory, stop another model"
            " (replicas: 0) or make one onDemand, or add a node"
        )
    return Reason.WAITING_FOR_NODE, have + _no_node(demand, ledgers)


def _no_node(demand: ResourceDemand, ledgers: Mapping[str, Ledger]) -> str:
    if demand.node_selector:
        selector = ",".join(f"{key}={value}" for key, value in demand.node_selector)
    elif demand.needs_gpu:
        selector = " or ".join(f"{key}={value}" for key, value in GPU_NODE_LABELS)
    else:
        selector = "any label"
    if demand.node_affinity and demand.node_affinity.required:
        selector += " and the terms of spec.pod.affinity"
    matching = sum(matches(demand, ledger.node) for ledger in ledgers.values())
    return (
        f"no node can take a replica; nodes with {selector} whose taints the model tolerates:"
        f" {matching} of {len(ledgers)}; label a node"
        f" (kubectl label node NAME {labels.STRIX_HALO}=true), uncordon one, or change"
        " spec.pod.nodeSelector, spec.pod.affinity or spec.pod.tolerations"
    )


def _too_large(demand: ResourceDemand, node: NodeFacts) -> str:
    if demand.gpu_mib > node.gpu_budget_mib:
        need, have, memory = demand.gpu_mib, node.gpu_budget_mib, "of GPU memory"
    else:
        need, have, memory = demand.total_mib, node.allocatable_mib, "of memory"
    return (
        f"needs {human_gib(need)} {memory}, and the largest node that may run it, {node.name}, has"
        f" {human_gib(have)} even when it is empty: lower contextSize, use cacheType q8_0, or take"
        " a smaller quantization (`llama-halo estimate` shows what fits)"
    )


def _shortage(demand: ResourceDemand, ledger: Ledger, usage: Mapping[str, ModelUsage]) -> str:
    gpu_free = ledger.gpu_free(demand.model)
    if demand.gpu_mib > gpu_free:
        memory, need, free = "GPU memory", demand.gpu_mib, gpu_free
        budget, users = ledger.node.gpu_budget_mib, ledger.gpu
    else:
        memory, need, free = "memory", demand.total_mib, ledger.total_free(demand.model)
        budget = ledger.node.allocatable_mib
        users = {name: ledger.gpu[name] + ledger.host[name] for name in ledger.gpu}
    used = {name: mib for name, mib in sorted(users.items()) if mib and name != demand.model}
    parts = [
        f"{name} {human_gib(mib)}{_doing(name, ledger, usage)}"
        for name, mib in used.items()
        if is_of_tenant(demand, name)
    ]
    foreign_mib = sum(mib for name, mib in used.items() if not is_of_tenant(demand, name))
    if foreign_mib:
        parts.append(f"other namespaces {human_gib(foreign_mib)}")
    others = ", ".join(parts)
    return (
        f"needs {human_gib(need)} of {memory}, {ledger.name} has {human_gib(max(free, 0))} free"
        f" (budget {human_gib(budget)}{'; ' + others if others else ''})"
    )


def _doing(model: str, ledger: Ledger, usage: Mapping[str, ModelUsage]) -> str:
    if model in ledger.leaving:
        return ", being unloaded"
    return " busy" if model in usage and usage[model].busy else ""

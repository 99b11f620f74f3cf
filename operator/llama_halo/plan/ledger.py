"""The memory held on one node, by model."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from llama_halo.plan.facts import NodeFacts, ResourceDemand


@dataclass(eq=False)
class Ledger:
    """Memory held on one node, by model, in MiB. It keeps the sums, because models are many."""

    node: NodeFacts
    gpu: dict[str, int] = field(default_factory=dict)
    host: dict[str, int] = field(default_factory=dict)
    gpu_sum: int = 0
    host_sum: int = 0
    ending: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By model: the GPU and host memory that only terminating pods hold."""
    leaving: set[str] = field(default_factory=set)
    """Models that leave the node; they hold their memory until their pods are gone."""

    @property
    def name(self) -> str:
        return self.node.name

    def charge(self, demand: ResourceDemand) -> None:
        """Reserve memory for a demand; a larger old pod of the model counts until it is gone."""
        gpu, host = self.gpu.get(demand.model, 0), self.host.get(demand.model, 0)
        self.reserve(demand.model, max(demand.gpu_mib - gpu, 0), max(demand.host_mib - host, 0))

    def reserve(self, model: str, gpu_mib: int, host_mib: int) -> None:
        """Add memory to what the node already holds for a model."""
        self.gpu[model] = self.gpu.get(model, 0) + gpu_mib
        self.host[model] = self.host.get(model, 0) + host_mib
        self.gpu_sum += gpu_mib
        self.host_sum += host_mib

    def gpu_free(self, besides: str) -> int:
        """Return the free GPU memory in MiB; what the model `besides` holds counts as free."""
        return self.node.gpu_budget_mib - self.gpu_sum + self.gpu.get(besides, 0)

    def total_free(self, besides: str) -> int:
        """Return all free memory in MiB; what the model `besides` holds counts as free."""
        own = self.gpu.get(besides, 0) + self.host.get(besides, 0)
        return self.node.allocatable_mib - self.gpu_sum - self.host_sum + own

    def fits(self, demand: ResourceDemand) -> bool:
        """Tell whether a demand fits into the memory that is free now."""
        return demand.gpu_mib <= self.gpu_free(
            demand.model
        ) and demand.total_mib <= self.total_free(demand.model)

    def keeps(self, demand: ResourceDemand) -> bool:
        """Tell whether a model that runs here may stay.

        Memory of other models' terminating pods does not evict it. It may grow only if it fits.
        """
        if self.fits(demand):
            return True
        gpu, host = self.ending.get(demand.model, (0, 0))
        grows = (
            demand.gpu_mib > self.gpu.get(demand.model, 0) - gpu
            or demand.host_mib > self.host.get(demand.model, 0) - host
        )
        if grows:
            return False
        others = [amounts for model, amounts in self.ending.items() if model != demand.model]
        gpu, host = sum(gpu for gpu, _ in others), sum(host for _, host in others)
        return (
            demand.gpu_mib <= self.gpu_free(demand.model) + gpu
            and demand.total_mib <= self.total_free(demand.model) + gpu + host
        )

    def would_fit(self, demand: ResourceDemand, without: Set[str]) -> bool:
        """Tell whether a demand would fit if the models in `without` were gone."""
        gone = without - {demand.model}
        gpu = sum(self.gpu.get(model, 0) for model in gone)
        host = sum(self.host.get(model, 0) for model in gone)
        return (
            demand.gpu_mib <= self.gpu_free(demand.model) + gpu
            and demand.total_mib <= self.total_free(demand.model) + gpu + host
        )

    def could_hold(self, demand: ResourceDemand) -> bool:
        """Tell whether a demand would fit on the empty node."""
        return (
            demand.gpu_mib <= self.node.gpu_budget_mib
            and demand.total_mib <= self.node.allocatable_mib
        )

"""Decides which node runs which model: one decision over all models and nodes.

A model keeps its nodes while it fits there. Each further replica gets a node of its own that has
the files and enough memory: first one where the model has a Deployment, then by node preference,
least memory left over, and name. If there is none, a node without the files fetches them first; no
memory is reserved there meanwhile. No pod is planned where it does not fit, because overcommit can
hang the kernel of such a machine.

Models on demand run while somebody wants them. If a wanted model does not fit, idle ones are
unloaded: the lowest priority first, then the longest idle, never a busy one. A model that leaves
holds its memory until its pods are gone, and only then the wanted one gets the node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from llama_halo.contract.lease import Phase
from llama_halo.contract.reasons import Reason
from llama_halo.plan.eviction import Eviction
from llama_halo.plan.facts import (
    Assignment,
    MemoryReservation,
    ModelUsage,
    NodeConstraints,
    NodeFacts,
    Presence,
    ResourceDemand,
)
from llama_halo.plan.ledger import Ledger
from llama_halo.plan.node_selection import constraints_digest, matches, may_stay, preference
from llama_halo.plan.shortage import why_unplaced
from llama_halo.plan.tenants import ordered


@dataclass(frozen=True)
class Decision:
    """Where every model runs, and which models on demand are unloaded."""

    assignments: dict[str, Assignment]
    unload: frozenset[str] = frozenset()
    """Models to unload, including those that are being unloaded already."""
    recheck_seconds: float | None = None
    """The time after which the decision may differ without any change of its inputs."""


def place(
    demands: Sequence[ResourceDemand],
    nodes: Sequence[NodeFacts],
    *,
    presence: Mapping[str, Presence],
    held: Sequence[MemoryReservation],
    usage: Mapping[str, ModelUsage] | None = None,
) -> Decision:
    """Assign nodes to models.

    `held` is the memory that pods and Deployments hold now. The mappings are by model: `presence`
    says where it is, `usage` how a model on demand is used.

    Demands are served in order, models on demand after the others.
    """
    ledgers = {node.name: Ledger(node) for node in sorted(nodes, key=lambda node: node.name)}
    for reservation in held:
        if reservation.node in ledgers:
            ledgers[reservation.node].reserve(
                reservation.model, reservation.gpu_mib, reservation.host_mib
            )
            if reservation.ending_gpu_mib or reservation.ending_host_mib:
                ending = reservation.ending_gpu_mib, reservation.ending_host_mib
                ledgers[reservation.node].ending[reservation.model] = ending
    return _PlacementRun(demands, ledgers, presence, usage or {}).decide()


_NOWHERE = Presence()


class _PlacementRun:
    """The working state of one decision."""

    def __init__(
        self,
        demands: Sequence[ResourceDemand],
        ledgers: Mapping[str, Ledger],
        presence: Mapping[str, Presence],
        usage: Mapping[str, ModelUsage],
    ) -> None:
        self._demands = demands
        self._ledgers = ledgers
        self._presence = presence
        self._usage = usage
        self._eviction = Eviction(demands, ledgers, presence, usage)
        self._matching: dict[NodeConstraints, list[Ledger]] = {}
        """By constraints: the nodes that may take new pods; filled when needed."""

    def decide(self) -> Decision:
        assignments: dict[str, Assignment] = {}
        self._eviction.mark_departing()
        kept = {
            demand.model: self._keep(demand)
            for demand in self._demands
            if self._eviction.stays(demand)
        }
        self._eviction.unload_finished()
        for demand in self._in_order():
            model = demand.model
            if demand.on_demand is None or self._eviction.usage_of(model).busy:
                assignments[model] = self._assign(demand, kept.get(model, ()))
            elif kept.get(model):
                assignments[model] = Assignment(demand, kept[model])
            elif self._eviction.stays(demand) and self._presence_of(demand).running:
                assignments[model] = self._leave(demand)
            else:
                assignments[model] = self._rest(demand)
        assignments = {
            model: replace(assignment, phase=self._eviction.usage_of(model).phase)
            for model, assignment in assignments.items()
        }
        return Decision(
            assignments, frozenset(self._eviction.unload), self._eviction.recheck_seconds()
        )

    def _presence_of(self, demand: ResourceDemand) -> Presence:
        return self._presence.get(demand.model, _NOWHERE)

    def _in_order(self) -> list[ResourceDemand]:
        """Return the demands in the order in which they are served.

        Models that are always on come first. Then come busy models on demand, by how long they have
        been wanted, and last the other models on demand. A tenant's places go to its models by
        priority.
        """

        def rank(demand: ResourceDemand) -> tuple[int, float]:
            usage = self._eviction.usage_of(demand.model)
            if demand.on_demand is None:
                return 0, 0.0
            return (1, usage.wanted_since) if usage.busy else (2, 0.0)  # a preload comes last

        def own_rank(demand: ResourceDemand) -> tuple[int, int, float]:
            kind, since = rank(demand)
            return kind, -demand.on_demand.priority if demand.on_demand else 0, since

        return ordered(
            self._demands, tenant=lambda demand: demand.tenant, key=rank, own_key=own_rank
        )

    def _keep(self, demand: ResourceDemand) -> tuple[str, ...]:
        """Charge and return the nodes that a model keeps, at most one for each replica."""
        kept: list[str] = []
        presence = self._presence_of(demand)
        running = presence.running
        # If there are too many nodes, drop those without a running pod first.
        for name in sorted(presence.current, key=lambda name: name not in running):
            ledger = self._ledgers.get(name)
            if ledger is None or len(kept) == demand.replicas:
                continue
            if not matches(demand, ledger.node) and not (
                name in running and self._outlives_change(demand, ledger)
            ):
                continue
            if not ledger.node.accepts_new_pods and name not in running:
                continue  # the pod was evicted from there, so place it elsewhere
            if name in presence.refused and self._fits_elsewhere(demand):
                continue
            if demand.has_files(name) and ledger.keeps(demand):
                ledger.charge(demand)
                kept.append(name)
                if demand.on_demand:
                    self._eviction.record_resident(demand, name)
        return tuple(kept)

    def _outlives_change(self, demand: ResourceDemand, ledger: Ledger) -> bool:
        """Tell whether a running model stays on a node that no longer matches it: the node has
        changed, and not the model's own constraints."""
        chosen_by = self._presence_of(demand).chosen_by.get(ledger.name)
        return chosen_by == constraints_digest(demand) and may_stay(demand, ledger.node)

    def _fits_elsewhere(self, demand: ResourceDemand) -> bool:
        """Tell whether another node has the files and the memory for a model that was refused."""
        presence = self._presence_of(demand)
        taken = (*presence.refused, *presence.avoided, *presence.current)
        return any(
            demand.has_files(ledger.name) and self._fits_now(demand, ledger)
            for ledger in self._open(demand, taken)
        )

    def _assign(self, demand: ResourceDemand, kept: tuple[str, ...]) -> Assignment:
        chosen, fetch_to, awaited = list(kept), list[str](), list[str]()
        presence = self._presence_of(demand)
        while len(chosen) + len(fetch_to) + len(awaited) < demand.replicas:
            taken = (*chosen, *fetch_to, *awaited)
            refused = (*presence.refused, *presence.avoided)
            open_nodes = self._open(demand, (*taken, *refused)) or self._open(demand, taken)
            best = self._best(demand, open_nodes)
            if best is not None and demand.has_files(best.name):
                best.charge(demand)
                chosen.append(best.name)
            elif best is not None:
                fetch_to.append(best.name)
            elif (cleared := self._eviction.make_room(demand, open_nodes)) is not None:
                # Charge it now, so that no other model gets the memory that becomes free.
                cleared.charge(demand)
                awaited.append(cleared.name)
            else:
                shortage = why_unplaced(demand, self._ledgers, open_nodes, chosen, self._usage)
                return Assignment(demand, tuple(chosen), *shortage, tuple(fetch_to))
        nodes = tuple(chosen)
        if awaited:
            return Assignment(
                demand, nodes, *self._eviction.awaits(demand, awaited), tuple(fetch_to)
            )
        if fetch_to:
            where = f"the model's files are being fetched to {', '.join(sorted(fetch_to))}"
            return Assignment(demand, nodes, Reason.DOWNLOADING, where, tuple(sorted(fetch_to)))
        if demand.on_demand and nodes:
            self._eviction.record_resident(demand, nodes[0])
        return Assignment(demand, nodes)

    def _leave(self, demand: ResourceDemand) -> Assignment:
        """Unload a model that lost its node; the unloader checks first whether it is wanted."""
        if (
            self._eviction.may_leave(demand)
            or self._eviction.usage_of(demand.model).phase is Phase.UNLOADING
        ):
            self._eviction.unload.add(demand.model)
        message = (
            "the model can no longer stay on its node (its memory, a NoExecute taint, or the spec's"
            " own constraints): it is unloaded when idle"
        )
        return Assignment(demand, (), Reason.ROLLING, message)

    def _rest(self, demand: ResourceDemand) -> Assignment:
        """Return the assignment of a model on demand that nobody wants.

        Its files are fetched. A model to preload is loaded once, if a node has room for it.
        """
        on_demand = demand.on_demand
        assert on_demand is not None  # noqa: S101  (the others are always wanted)
        preload = on_demand.preload and self._eviction.usage_of(demand.model).phase is Phase.NEW
        if not preload and any(demand.has_files(name) for name in self._ledgers):
            return Assignment(demand, (), idle=True)
        best = self._best(demand, self._open(demand))
        if best is not None and not demand.has_files(best.name):
            where = f"the model's files are being fetched to {best.name}"
            return Assignment(demand, (), Reason.DOWNLOADING, where, (best.name,))
        if best is not None and preload:
            best.charge(demand)
            self._eviction.record_resident(demand, best.name)
            return Assignment(demand, (best.name,))
        return Assignment(demand, (), idle=True)

    def _open(self, demand: ResourceDemand, taken: Sequence[str] = ()) -> list[Ledger]:
        """Return the nodes that may take a model, regardless of memory, except those in `taken`."""
        node_constraints = NodeConstraints(
            needs_gpu=demand.needs_gpu,
            node_selector=demand.node_selector,
            tolerations=demand.tolerations,
            node_affinity=demand.node_affinity,
        )
        matching = self._matching.get(node_constraints)
        if matching is None:
            ledgers = self._ledgers.values()
            matching = [
                ledger
                for ledger in ledgers
                if ledger.node.accepts_new_pods and matches(node_constraints, ledger.node)
            ]
            self._matching[node_constraints] = matching
        return [ledger for ledger in matching if ledger.name not in taken] if taken else matching

    def _best(self, demand: ResourceDemand, open_nodes: Sequence[Ledger]) -> Ledger | None:
        """Return the best node for one more replica, None without one; it may lack the files."""
        ready = [ledger for ledger in open_nodes if demand.has_files(ledger.name)]
        fitting = [ledger for ledger in ready if self._fits_now(demand, ledger)]
        if not fitting and not self._can_make_room(demand, ready):
            lacking = [
                ledger
                for ledger in open_nodes
                if not demand.has_files(ledger.name) and demand.can_get_files(ledger.name)
            ]
            # A download continues where it began. It starts where the model fits, else where it
            # could fit one day: memory may become free before the download ends.
            fitting = [ledger for ledger in lacking if ledger.name in demand.fetching_on] or [
                ledger for ledger in lacking if ledger.fits(demand)
            ]
            if not fitting and not ready:
                fitting = [ledger for ledger in lacking if ledger.could_hold(demand)]
        current, affinity = self._presence_of(demand).current, demand.node_affinity
        return min(
            fitting,
            key=lambda ledger: (
                ledger.name not in current,
                not ledger.fits(demand),
                -preference(affinity, ledger.node) if affinity else 0,
                _memory_left(ledger, demand),
                ledger.name,
            ),
            default=None,
        )

    def _can_make_room(self, demand: ResourceDemand, ready: Sequence[Ledger]) -> bool:
        """Tell whether unloading idle models makes room on a node that has the files."""
        return demand.on_demand is not None and any(
            self._eviction.victims(demand, ledger) is not None for ledger in ready
        )

    def _fits_now(self, demand: ResourceDemand, ledger: Ledger) -> bool:
        ending = (
            demand.on_demand is not None
            and (ledger.gpu.get(demand.model, 0) or ledger.host.get(demand.model, 0))
            and ledger.name not in self._presence_of(demand).running
            and self._eviction.usage_of(demand.model).phase in (Phase.NEW, Phase.IDLE)
        )
        return (
            not ending
            and ledger.fits(demand)
            and not self._eviction.group_members_on(demand, ledger)
        )


def _memory_left(ledger: Ledger, demand: ResourceDemand) -> int:
    if demand.needs_gpu:
        return ledger.gpu_free(demand.model) - demand.gpu_mib
    return ledger.total_free(demand.model) - demand.total_mib

"""Chooses the models on demand that leave a node to make room for one that is wanted.

The longest idle leaves first, and of one tenant's models the lowest priority; a busy model never
leaves. No more models leave than necessary. A model that leaves holds its memory until its pods are
gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set

from llama_halo.contract.lease import Phase
from llama_halo.contract.reasons import Reason
from llama_halo.plan.facts import ModelUsage, Presence, ResourceDemand
from llama_halo.plan.ledger import Ledger
from llama_halo.plan.quantity import counted
from llama_halo.plan.tenants import is_of_tenant, ordered

_Rank = tuple[int, float, str]
_UNUSED = ModelUsage()


class Eviction:
    """The models on demand in one decision: where they are, and which of them have to leave."""

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
        self.unload: set[str] = set()
        """Models to unload, including those that are being unloaded already."""
        self._resident: dict[str, tuple[ResourceDemand, str]] = {}
        """By model: its demand and its node, for models on demand that have a node."""
        self._present: dict[str, dict[str, ResourceDemand]] = {name: {} for name in ledgers}
        """By node: the models on demand that have it or still hold memory there."""
        self._movable: dict[str, tuple[int, int]] = {}
        """By node: GPU and total memory of the models that could leave, in MiB; a cache."""

    def usage_of(self, model: str) -> ModelUsage:
        return self._usage.get(model, _UNUSED)

    def stays(self, demand: ResourceDemand) -> bool:
        """Tell whether a model keeps its node: a model on demand does only while it is loaded."""
        phase = self.usage_of(demand.model).phase
        if demand.on_demand is None or phase in (Phase.LOADED, Phase.UNLOADING):
            return True
        # It was always on until now, or somebody deleted its Lease.
        presence = self._presence.get(demand.model)
        return phase is Phase.NEW and presence is not None and bool(presence.running)

    def mark_departing(self) -> None:
        """Mark as leaving the models that still hold memory but do not keep their node."""
        for demand in self._demands:
            if demand.on_demand is None:
                continue
            for name, ledger in self._ledgers.items():
                if demand.model in ledger.gpu:
                    self._present[name][demand.model] = demand
                    if not self.stays(demand) and not self.usage_of(demand.model).busy:
                        ledger.leaving.add(demand.model)

    def record_resident(self, demand: ResourceDemand, node: str) -> None:
        self._resident[demand.model] = (demand, node)
        self._present[node][demand.model] = demand
        self._movable.pop(node, None)

    def group_members_on(self, demand: ResourceDemand, ledger: Ledger) -> set[str]:
        """Return the other members of a model's group on a node, including those that leave it."""
        group = demand.on_demand.group if demand.on_demand else ""
        if not group:
            return set()
        return {
            model
            for model, other in self._present[ledger.name].items()
            if model != demand.model
            and other.on_demand
            and other.on_demand.group == group
            and other.tenant == demand.tenant
        }

    def may_leave(self, demand: ResourceDemand) -> bool:
        on_demand, usage = demand.on_demand, self.usage_of(demand.model)
        if on_demand is None or usage.busy or not usage.trusted:
            return False
        return usage.resident_seconds >= on_demand.min_resident_seconds

    def unload_finished(self) -> None:
        """Unload the models whose idle timeout is over, and those that are unloading already."""
        for model, (demand, name) in self._resident.items():
            usage = self.usage_of(model)
            assert demand.on_demand is not None  # noqa: S101  (only models on demand are resident)
            done = usage.idle_seconds >= demand.on_demand.idle_timeout_seconds
            if usage.phase is Phase.UNLOADING or (done and self.may_leave(demand)):
                self._mark_for_unload(model, name)

    def make_room(self, demand: ResourceDemand, open_nodes: Sequence[Ledger]) -> Ledger | None:
        """Choose a node where idle models can make room, and unload them; None without one."""
        options = [
            (victims, ledger)
            for ledger in open_nodes
            if demand.has_files(ledger.name)
            and (victims := self.victims(demand, ledger)) is not None
        ]
        if not options:
            return None
        # Priorities of two tenants are not compared.
        is_own = all(is_of_tenant(demand, victim) for victims, _ in options for victim in victims)
        key = self._own_rank if is_own else self._rank
        victims, ledger = min(options, key=lambda option: (_cost(option[0], key), option[1].name))
        for model in victims:
            self._mark_for_unload(model, ledger.name)
        return ledger

    def victims(self, demand: ResourceDemand, ledger: Ledger) -> tuple[str, ...] | None:
        """Return which further models have to leave a node for a demand, no more than necessary.

        Other members of the demand's group always have to. None if it would not fit even then.
        """
        leaving = frozenset(ledger.leaving)
        if not self._could_clear(demand, ledger):
            return None
        idle = self._idle_on(ledger) - {demand.model}
        members = self.group_members_on(demand, ledger)
        chosen = sorted(members - leaving)
        if not set(chosen) <= idle:
            return None
        for model in self._in_eviction_order(idle - set(chosen)):
            if ledger.would_fit(demand, leaving | set(chosen)):
                break
            chosen.append(model)
        if not ledger.would_fit(demand, leaving | set(chosen)):
            return None
        for model in reversed(self._in_eviction_order(set(chosen) - members)):
            rest = frozenset(chosen) - {model}
            if ledger.would_fit(demand, leaving | rest):
                chosen.remove(model)
        return tuple(chosen)

    def awaits(self, demand: ResourceDemand, names: Sequence[str]) -> tuple[Reason, str]:
        """Return reason and message of a demand that gets memory on the named nodes soon."""
        parts = [
            f"unloading {_names_for(demand, self._ledgers[name].leaving)} on {name}"
            if self._ledgers[name].leaving
            else f"the model's own last pod ends on {name}"
            for name in names
        ]
        return Reason.WAITING_FOR_MEMORY, f"waiting for memory: {'; '.join(parts)}"

    def recheck_seconds(self) -> float | None:
        """Return the seconds until a model stops being busy, reaches its idle timeout, or may
        leave; None if there is no such model."""
        times = [
            use.next_change_seconds
            for use in self._usage.values()
            if use.next_change_seconds is not None
        ]
        for model, (demand, _) in self._resident.items():
            on_demand, usage = demand.on_demand, self.usage_of(model)
            if on_demand is None or usage.busy or model in self.unload:
                continue
            times += [
                on_demand.idle_timeout_seconds - usage.idle_seconds,
                on_demand.min_resident_seconds - usage.resident_seconds,
            ]
        return min((time for time in times if time > 0), default=None)

    def _mark_for_unload(self, model: str, node: str) -> None:
        self.unload.add(model)
        self._ledgers[node].leaving.add(model)
        self._movable.pop(node, None)

    def _idle_on(self, ledger: Ledger) -> set[str]:
        """Return the models that may be unloaded from a node."""
        return {
            model
            for model, other in self._present[ledger.name].items()
            if self._resident.get(model, (None, ""))[1] == ledger.name
            and model not in ledger.leaving
            and self.may_leave(other)
        }

    def _could_clear(self, demand: ResourceDemand, ledger: Ledger) -> bool:
        """Tell from sums alone whether a demand would fit without the models that may leave."""
        if ledger.name not in self._movable:
            gone = self._idle_on(ledger) | ledger.leaving
            gpu = sum(ledger.gpu.get(model, 0) for model in gone)
            self._movable[ledger.name] = gpu, gpu + sum(ledger.host.get(model, 0) for model in gone)
        gpu, total = self._movable[ledger.name]
        return (
            demand.gpu_mib <= ledger.gpu_free(demand.model) + gpu
            and demand.total_mib <= ledger.total_free(demand.model) + total
        )

    def _in_eviction_order(self, models: Set[str]) -> list[str]:
        """Sort models: the longest idle comes first, and in each tenant the lowest priority."""
        return ordered(
            models,
            tenant=lambda model: self._resident[model][0].tenant,
            key=self._rank,
            own_key=self._own_rank,
        )

    def _rank(self, model: str) -> _Rank:
        return 0, -self.usage_of(model).idle_seconds, model

    def _own_rank(self, model: str) -> _Rank:
        on_demand = self._resident[model][0].on_demand
        return on_demand.priority if on_demand else 0, *self._rank(model)[1:]


def _cost(victims: Sequence[str], key: Callable[[str], _Rank]) -> tuple[int, tuple[_Rank, ...]]:
    return len(victims), tuple(sorted(map(key, victims), reverse=True))


def _names_for(demand: ResourceDemand, models: Set[str]) -> str:
    """Return the names of models, those of other tenants as a number only."""
    names = sorted(model for model in models if is_of_tenant(demand, model))
    others = len(models) - len(names)
    if others:
        names.append(f"{counted(others, 'model')} of other namespaces")
    return ", ".join(names)

"""Ten thousand random steps of a made-up cluster under real placement and its real bookkeeping.

The cluster does what the real one does: pods come after their Deployments and go slowly, lost
nodes keep theirs, gateways want models and stop wanting them while those are being unloaded, the
operator forgets all it knew. At no step may a node hold more than it has, a busy model be told to
leave, or anything move without cause; and once all is quiet nobody waits for room that is there.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest

from llama_halo.contract.lease import Phase
from llama_halo.controllers.placement.reservations import ReservationIndex
from llama_halo.kube.cache import Key
from llama_halo.plan.facts import ModelUsage, NodeFacts, OnDemandPolicy, Presence, ResourceDemand
from llama_halo.plan.node_selection import matches
from llama_halo.plan.placement import Decision, place

HALO = {"llama-halo.dev/strix-halo": "true"}
GIB = 1024
STEPS = 10_000


@dataclass
class Pod:
    """One pod, on its way in, there, or on its way out."""

    name: str
    model: str
    node: str
    gpu_mib: int
    ending: bool = False
    refused: bool = False
    """By the scheduler: it is on no node yet."""


@dataclass
class Model:
    """One LlamaModel, its Lease and its Deployments."""

    demand: ResourceDemand
    deployments: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Replicas and GPU memory by node."""
    phase: Phase = Phase.NEW
    busy: bool = False
    wanted_since: float = 0.0
    idle_since: float = 0.0
    loaded_at: float = 0.0


class World:
    """The cluster, and the operator's view of it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311
        self.now = 0.0
        self.trusted_at = 0.0
        self.nodes = {name: node(name, gib) for name, gib in NODES.items()}
        self.lost: set[str] = set()
        self.models: dict[str, Model] = {}
        self.pods: list[Pod] = []
        self.count = 0
        self.unloads = self.moves = self.loads = 0

    def demands(self) -> list[ResourceDemand]:
        return [model.demand for model in self.models.values()]

    def usage(self) -> dict[str, ModelUsage]:
        return {
            name: ModelUsage(
                phase=model.phase,
                busy=model.busy,
                wanted_since=model.wanted_since,
                idle_seconds=0.0 if model.busy else self.now - model.idle_since,
                resident_seconds=self.now - model.loaded_at,
                trusted=self.now >= self.trusted_at,
            )
            for name, model in self.models.items()
            if model.demand.on_demand
        }

    def reservations(self) -> ReservationIndex:
        index = ReservationIndex()
        for pod in self.pods:
            index.note(Key("Pod", "ns", pod.name), pod_object(pod))
        for name, model in self.models.items():
            for on, (replicas, gpu) in model.deployments.items():
                key = Key("Deployment", "ns", f"{name}-{on}")
                index.note(key, deployment_object(name, on, replicas, gpu))
        return index

    def decide(self) -> Decision:
        reservations, keys = (
            self.reservations(),
            {name: Key("LlamaModel", "ns", name) for name in self.models},
        )
        return place(
            self.demands(),
            list(self.nodes.values()),
            presence={
                f"ns/{name}": Presence(
                    current=reservations.current_nodes(key),
                    running=reservations.running_nodes(key),
                )
                for name, key in keys.items()
            },
            held=reservations.held(),
            usage={f"ns/{name}": item for name, item in self.usage().items()},
        )

    # What the operator does with a decision.

    def apply_and_prune(self, decision: Decision) -> None:
        for name, model in self.models.items():
            assignments = decision.assignments[model.demand.model]
            was_on = {on for on, (replicas, _) in model.deployments.items() if replicas}
            if model.demand.on_demand and assignments.idle:
                model.phase = Phase.IDLE
                model.deployments = {on: (0, gpu) for on, (_, gpu) in model.deployments.items()}
            elif assignments.nodes or not assignments.reason:
                if assignments.nodes and not was_on:
                    self.loads += 1
                asleep = model.phase in (Phase.NEW, Phase.IDLE)
                if model.demand.on_demand and assignments.nodes and asleep:
                    model.phase = Phase.LOADED
                    model.loaded_at = model.idle_since = self.now
                size = model.demand.gpu_mib
                model.deployments = {on: (1, size) for on in assignments.nodes}
            self.end_pods_without_deployment(name)
        for full_name in sorted(decision.unload):
            self.unload(self.models[full_name.removeprefix("ns/")])

    def unload(self, model: Model) -> None:
        """Take the steps of an unload; a gateway may want the model between any two of them."""
        if model.phase is Phase.LOADED and not model.busy:
            model.phase = Phase.UNLOADING
        if model.phase is not Phase.UNLOADING or self.chance.random() < 0.3:
            return  # the rest another time
        if self.chance.random() < 0.1:
            self.want(model)
        model.phase = Phase.LOADED if model.busy else Phase.IDLE
        self.unloads += model.phase is Phase.IDLE

    def end_pods_without_deployment(self, name: str) -> None:
        present = {on for on, (replicas, _) in self.models[name].deployments.items() if replicas}
        for pod in self.pods:
            if pod.model == name and pod.node not in present:
                pod.ending = True

    # What the cluster does by itself.

    def progress(self, *, all_of_it: bool = False) -> None:
        for pod in list(self.pods):
            stuck = pod.node in self.lost
            if pod.ending and not stuck and (all_of_it or self.chance.random() < 0.5):
                self.pods.remove(pod)
            elif pod.refused and (all_of_it or self.chance.random() < 0.3):
                pod.refused = not self.schedulable(pod.node, pod.gpu_mib)
        for name, model in self.models.items():
            for on, (replicas, gpu) in model.deployments.items():
                mine = [pod for pod in self.pods if (pod.model, pod.node) == (name, on)]
                old = [pod for pod in mine if not pod.ending and pod.gpu_mib != gpu]
                for pod in old:
                    pod.ending = True  # Recreate: the old one goes first
                if replicas and on not in self.lost and not [p for p in mine if not p.ending]:
                    if old:
                        continue
                    self.count += 1
                    refused = not self.schedulable(on, gpu) or (
                        not all_of_it and self.chance.random() < 0.1
                    )
                    self.pods.append(Pod(f"p{self.count}", name, on, gpu, refused=refused))

    def schedulable(self, on: str, gpu_mib: int) -> bool:
        """Tell what the scheduler would: whether a pod that is pinned to a node can go there."""
        held = sum(pod.gpu_mib for pod in self.pods if pod.node == on and not pod.refused)
        facts = self.nodes[on]
        return facts.accepts_new_pods and held + gpu_mib <= facts.allocatable_mib

    # What people, gateways and machines do.

    def act(self) -> None:
        acts = (
            *(self.create, self.create, self.delete, self.edit, self.scale, self.wake, self.wake),
            *(self.wake, self.sleep, self.sleep, self.lose_node, self.find_node, self.grow),
            *(self.cordon, self.uncordon, self.restart_operator, self.finish_deletion),
        )
        self.chance.choice(acts)()

    def create(self) -> None:
        if len(self.models) >= 14:
            return
        self.count += 1
        name, gib = f"m{self.count}", self.chance.choice([4, 8, 16, 30, 50, 70])
        on_demand = None
        if self.chance.random() < 0.7:
            on_demand = OnDemandPolicy(
                idle_timeout_seconds=self.chance.choice([5, 60, 900]),
                min_resident_seconds=self.chance.choice([0, 10]),
                priority=self.chance.choice([0, 0, 10]),
                preload=self.chance.random() < 0.2,
                group=self.chance.choice(["", "", "big"]),
            )
        demand = ResourceDemand(
            model=f"ns/{name}",
            replicas=1 if on_demand else self.chance.choice([1, 1, 2]),
            gpu_mib=gib * GIB,
            host_mib=0,
            needs_gpu=True,
            on_demand=on_demand,
        )
        self.models[name] = Model(demand)

    def delete(self) -> None:
        if self.models and self.chance.random() < 0.5:
            name = self.chance.choice(list(self.models))
            del self.models[name]
            for pod in self.pods:
                pod.ending = pod.ending or pod.model == name

    def edit(self) -> None:
        if self.models:
            model = self.chance.choice(list(self.models.values()))
            gib = self.chance.choice([4, 8, 16, 30, 50])
            model.demand = replace(model.demand, gpu_mib=gib * GIB)

    def scale(self) -> None:
        always = [model for model in self.models.values() if not model.demand.on_demand]
        if always:
            model = self.chance.choice(always)
            model.demand = replace(model.demand, replicas=self.chance.choice([0, 1, 2]))

    def want(self, model: Model) -> None:
        if not model.busy:
            model.busy, model.wanted_since = True, self.now

    def wake(self) -> None:
        sleepers = [model for model in self.models.values() if model.demand.on_demand]
        if sleepers:
            self.want(self.chance.choice(sleepers))

    def sleep(self) -> None:
        awake = [model for model in self.models.values() if model.busy]
        if awake:
            model = self.chance.choice(awake)
            model.busy, model.idle_since = False, self.now

    def lose_node(self) -> None:
        """A node whose kubelet is gone: its pods hang in their ending."""
        if self.chance.random() < 0.3:
            name = self.chance.choice(list(NODES))
            self.lost.add(name)
            self.nodes[name] = replace(self.nodes[name], accepts_new_pods=False)
            for pod in self.pods:
                pod.ending = pod.ending or pod.node == name

    def find_node(self) -> None:
        for name in sorted(self.lost):
            self.lost.discard(name)
            self.nodes[name] = replace(self.nodes[name], accepts_new_pods=True)

    def grow(self) -> None:
        name = self.chance.choice(list(NODES))
        size = min(self.nodes[name].allocatable_mib + 8 * GIB, 160 * GIB)
        grown = replace(self.nodes[name], allocatable_mib=size, gpu_budget_mib=size)
        self.nodes[name] = grown

    def cordon(self) -> None:
        name = self.chance.choice(list(NODES))
        self.nodes[name] = replace(self.nodes[name], accepts_new_pods=False)
        if self.chance.random() < 0.5:  # drained, too
            for pod in self.pods:
                pod.ending = pod.ending or pod.node == name

    def uncordon(self) -> None:
        for name in NODES:
            if name not in self.lost:
                self.nodes[name] = replace(self.nodes[name], accepts_new_pods=True)

    def restart_operator(self) -> None:
        """All that it knew by heart is gone: nobody is judged idle for a while."""
        self.trusted_at = self.now + 15
        for model in self.models.values():
            model.idle_since = model.loaded_at = self.now

    def finish_deletion(self) -> None:
        for pod in list(self.pods):
            if pod.ending and pod.model not in self.models and pod.node not in self.lost:
                self.pods.remove(pod)


NODES = {"n1": 64, "n2": 96, "n3": 112}


def node(name: str, gib: int) -> NodeFacts:
    return NodeFacts(name, allocatable_mib=gib * GIB, gpu_budget_mib=gib * GIB, labels=HALO)


def marks(model: str, on: str, gpu_mib: int) -> dict[str, object]:
    return {
        "namespace": "ns",
        "labels": {"llama-halo.dev/model": model, "llama-halo.dev/deployment": f"{model}-{on}"},
        "annotations": {"llama-halo.dev/gpu-mib": str(gpu_mib), "llama-halo.dev/host-mib": "0"},
    }


def server(gpu_mib: int) -> dict[str, object]:
    return {"containers": [{"resources": {"requests": {"memory": f"{gpu_mib}Mi"}}}]}


def pod_object(pod: Pod) -> dict[str, object]:
    metadata: dict[str, object] = {"name": pod.name, **marks(pod.model, pod.node, pod.gpu_mib)}
    if pod.ending:
        metadata["deletionTimestamp"] = "now"
    spec = {**server(pod.gpu_mib), **({} if pod.refused else {"nodeName": pod.node})}
    return {"kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Running"}}


def deployment_object(model: str, on: str, replicas: int, gpu_mib: int) -> dict[str, object]:
    return {
        "kind": "Deployment",
        "metadata": {
            **marks(model, on, gpu_mib),
            "annotations": {"llama-halo.dev/node": on},
        },
        "spec": {
            "replicas": replicas,
            "template": {"metadata": marks(model, on, gpu_mib), "spec": server(gpu_mib)},
        },
    }


def check_budgets(world: World, step: int) -> None:
    """Pods that are on a node, whatever they are about to do."""
    for name, facts in world.nodes.items():
        pods = [pod for pod in world.pods if pod.node == name and not pod.refused]
        assert sum(pod.gpu_mib for pod in pods) <= facts.gpu_budget_mib, (step, name, pods)


def check_unloads(world: World, decision: Decision, step: int) -> None:
    for full_name in decision.unload:
        model = world.models[full_name.removeprefix("ns/")]
        assert model.phase in (Phase.LOADED, Phase.UNLOADING), (step, full_name, model)
        if model.phase is Phase.LOADED:
            assert not model.busy, (step, full_name)
            assert world.now >= world.trusted_at, (step, full_name)
            assert model.demand.on_demand is not None
            resident = world.now - model.loaded_at
            assert resident >= model.demand.on_demand.min_resident_seconds, (step, full_name)


def check_moves(world: World, decision: Decision, step: int) -> None:
    """A model that runs on a node where it may be and fits has no cause to move."""
    for name, model in world.models.items():
        assignments = decision.assignments[model.demand.model]
        if model.demand.on_demand and model.phase is Phase.IDLE:
            continue  # it has no place any more, only a pod that goes
        for pod in world.pods:
            if pod.model != name or pod.ending or pod.refused or pod.node in assignments.nodes:
                continue
            facts = world.nodes[pod.node]
            stayed = model.demand.gpu_mib == pod.gpu_mib and matches(model.demand, facts)
            asked = model.demand.replicas == 0 or len(assignments.nodes) >= model.demand.replicas
            if stayed and not assignments.idle and pod.node in model.deployments:
                assert asked, (step, name, pod, assignments)
                others = [
                    other
                    for other in world.pods
                    if other.model == name and other.node in assignments.nodes and not other.ending
                ]
                assert others or model.demand.replicas == 0, (step, name, pod, assignments)


def check_nobody_starves(world: World, decision: Decision, step: int) -> None:
    """All is quiet: whoever is wanted and has no node would fit on none, idle models aside."""
    for model in world.models.values():
        demand = model.demand
        assignments = decision.assignments[demand.model]
        if len(assignments.nodes) >= demand.replicas or (demand.on_demand and not model.busy):
            continue
        for name, facts in world.nodes.items():
            if name in assignments.nodes or not facts.accepts_new_pods:
                continue
            fixed = [pod for pod in world.pods if pod.node == name and not may_go(world, pod)]
            held = sum(pod.gpu_mib for pod in fixed if f"ns/{pod.model}" != demand.model)
            if mate_of(world, demand, {pod.model for pod in fixed}):
                continue
            room = facts.gpu_budget_mib - held
            assert demand.gpu_mib > room, (step, demand.model, name, room, assignments, world.pods)


def may_go(world: World, pod: Pod) -> bool:
    model = world.models.get(pod.model)
    return bool(model and model.demand.on_demand and not model.busy)


def mate_of(world: World, demand: ResourceDemand, models: set[str]) -> bool:
    group = demand.on_demand.group if demand.on_demand else ""
    others = [world.models[model].demand for model in models if model in world.models]
    return any(
        group and other.model != demand.model and other.on_demand and other.on_demand.group == group
        for other in others
    )


def settle(world: World, step: int) -> Decision:
    """Let everything come to rest, with nobody asking for anything."""
    world.now += 20  # whatever had to be resident or trusted first
    for _ in range(60):
        world.progress(all_of_it=True)
        decision = world.decide()
        check_unloads(world, decision, step)
        world.apply_and_prune(decision)
        check_budgets(world, step)
        world.now += 1
    return world.decide()


@pytest.mark.parametrize("seed", [1, 2])
def test_ten_thousand_steps_break_no_rule(seed: int) -> None:
    world = World(seed)
    for step in range(STEPS // 2):
        world.now += world.chance.uniform(0, 3)
        for _ in range(world.chance.choice([1, 1, 1, 2, 4])):
            world.act()
        world.progress()
        decision = world.decide()
        check_unloads(world, decision, step)
        check_moves(world, decision, step)
        world.apply_and_prune(decision)
        check_budgets(world, step)
        if step % 100 == 99:
            world.find_node()
            world.uncordon()
            check_nobody_starves(world, settle(world, step), step)
    print(f"{world.loads} loads, {world.unloads} unloads")
    assert world.unloads > 100
    assert world.loads > 500

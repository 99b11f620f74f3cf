"""What a plan may know, frozen: gathered by `reconcile.gather`, read by `plan` and `status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llama_halo.api.llamamodel import Backend
from llama_halo.api.pod import Toleration
from llama_halo.api.reasons import Reason


@dataclass(frozen=True)
class Identity:
    """Which resource is planned for."""

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int


@dataclass(frozen=True)
class ImageProfile:
    """An image and the command that starts llama-server in it."""

    image: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Defaults:
    """The operator's settings that enter plans; changing one rolls what it enters."""

    images: Mapping[Backend, ImageProfile]
    store_path: str
    gateway_image: str
    startup_seconds: int = 3600
    """A 100 GB model read from a slow disk takes most of an hour."""
    cluster_domain: str = "cluster.local"


@dataclass(frozen=True)
class Demand:
    """What one model asks of the nodes."""

    model: str
    """namespace/name"""
    replicas: int
    gpu_mib: int
    host_mib: int
    needs_gpu: bool
    node_selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()

    @property
    def total_mib(self) -> int:
        return self.gpu_mib + self.host_mib


@dataclass(frozen=True)
class Held:
    """Memory that pods of a model hold on a node now, whatever the spec says meanwhile."""

    model: str
    node: str
    gpu_mib: int
    host_mib: int


@dataclass(frozen=True)
class Taint:
    """A node's taint."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True)
class NodeFacts:
    """What a node can take."""

    name: str
    allocatable_mib: int
    gpu_budget_mib: int
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    takes_new: bool = True
    """Neither cordoned nor NotReady for long."""


@dataclass(frozen=True)
class Assignment:
    """Where a model runs, by the placement's decision for one demand."""

    demand: Demand
    nodes: tuple[str, ...]
    reason: Reason | None = None
    message: str = ""
    """Why fewer nodes than replicas."""


@dataclass(frozen=True)
class DeploymentFacts:
    """One Deployment of ours as the store has it."""

    name: str
    node: str
    config_hash: str
    settled: bool
    """Its pods are those of this template, and ready."""


@dataclass(frozen=True)
class ModelFacts:
    """All that a LlamaModel's plan depends on beside its spec."""

    owner: Identity
    defaults: Defaults
    assignment: Assignment | None
    deployments: tuple[DeploymentFacts, ...] = ()


@dataclass(frozen=True)
class RouterFacts:
    """All that a ModelRouter's plan depends on beside its spec."""

    owner: Identity
    defaults: Defaults
    referenced_configs: frozenset[str] = frozenset()
    """ConfigMaps that ReplicaSets of the router with pods still mount."""

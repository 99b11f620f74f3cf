"""The inputs of a plan, frozen. `controllers.facts` builds them; `plan` and `status` read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from llama_halo.api.affinity import NodeAffinity
from llama_halo.api.llamamodel import Backend
from llama_halo.api.pod import Toleration
from llama_halo.contract.lease import Phase
from llama_halo.contract.reasons import Reason
from llama_halo.gguf.companions import Companion
from llama_halo.gguf.memory import Estimate
from llama_halo.gguf.profile import Profile
from llama_halo.plan.outcome import Invalid

INSPECT, FETCH = "inspect", "fetch"
"""The work of a Job: read the header of a source, or download it."""


@dataclass(frozen=True)
class Owner:
    """The identity of the resource that owns the planned children."""

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
    """The operator's settings that plans use; a change rolls the pods that contain it."""

    images: Mapping[Backend, ImageProfile]
    store_path: str
    gateway_image: str
    whisper_images: Mapping[Backend, ImageProfile]
    """For mode Transcription."""
    engine_images: Mapping[str, str]
    """By the engine's name; `{version}` in one stands for the spec's version."""
    startup_seconds: int = 3600
    """A 100 GB model read from a slow disk takes most of an hour."""
    cluster_domain: str = "cluster.local"
    store_reserve: str = "15%"
    """Of a node's disk that downloads leave free: a share, or a size."""
    hub_endpoint: str = ""
    """A mirror of the Hugging Face Hub; empty: the Hub itself."""


@dataclass(frozen=True)
class Inspection:
    """The result of reading a source: which file it is, and what its header says."""

    role: str
    source: str
    """The hash of the source in the spec."""
    file: str
    """The path below `folder`; of a sharded model, that of the first shard."""
    bytes: int
    shards: int
    folder: str = ""
    """Below the store, named by the content; empty for a file that was in the store already."""
    sha256: str = ""
    revision: str = ""
    version: str = ""
    requested_at: str = ""
    """The reconcile request that this answers; empty for none."""
    profile: Profile | None = None
    """For a model or a draft model."""
    companion: Companion | None = None
    """For a projector, an adapter or a whisper model."""

    @property
    def path(self) -> str:
        """The first file's path below the store."""
        return f"{self.folder}/{self.file}" if self.folder else self.file


@dataclass(frozen=True)
class StoredAt:
    """A verified file of a model on a node; `node` may be empty for a file on a claim."""

    node: str
    path: str
    bytes: int
    sha256: str = ""
    requested_at: str = ""
    """The reconcile request for which it was verified; empty for none."""


@dataclass(frozen=True)
class Problem:
    """Why a Job has no usable answer (yet)."""

    reason: Reason
    message: str
    final: bool = False
    """Whether the Job has ended with this problem and does not try again."""


@dataclass(frozen=True)
class JobFacts:
    """One Job that inspects or fetches a source, as the cache has it."""

    name: str
    work: str
    """inspect or fetch."""
    role: str
    node: str
    """Where it has to run; empty for any node."""
    source: str
    """The hash of the source that it inspects, or the path of the file that it fetches."""
    failed: bool = False
    """Whether it ended without an answer, so that it is deleted and created again."""
    answer: Inspection | StoredAt | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class ClaimFacts:
    """How a PersistentVolumeClaim with model files can be used."""

    once_pod: bool = False
    """ReadWriteOncePod: a download and a server cannot both use it."""
    nodes: frozenset[str] | None = None
    """The nodes where its volume can be used; None for any node."""


@dataclass(frozen=True)
class ChatTemplateFacts:
    """A model's chat template, from the user's ConfigMap."""

    text: str = ""
    problem: str = ""
    """Why there is no text (yet)."""


@dataclass(frozen=True)
class FileFacts:
    """The facts about a model's files, including answers of Jobs that the status lacks."""

    inspections: tuple[Inspection, ...] = ()
    stored: tuple[StoredAt, ...] = ()
    jobs: tuple[JobFacts, ...] = ()
    claim: ClaimFacts = ClaimFacts()
    chat_template: ChatTemplateFacts = ChatTemplateFacts()
    """Empty if the spec names no template."""
    recorded: bool = True
    """Whether the status has all of it; until then the Jobs with the answers are kept."""


@dataclass(frozen=True)
class OnDemandPolicy:
    """When a model on demand loads and unloads."""

    idle_timeout_seconds: float
    min_resident_seconds: float
    priority: int = 0
    preload: bool = False
    group: str = ""


@dataclass(frozen=True)
class ModelUsage:
    """How a model with a Lease is used now."""

    phase: Phase = Phase.NEW
    busy: bool = False
    """Whether a gateway reported requests, or its server was seen busy, in the last seconds."""
    wanted_since: float = 0.0
    """When it became busy, by one clock for all models; the earliest is served first."""
    idle_seconds: float = 0.0
    """Since its last activity; 0 while it is busy."""
    resident_seconds: float = 0.0
    """Since it was loaded."""
    trusted: bool = True
    """Whether the watches have worked long enough that no busy gateway was missed."""
    next_change_seconds: float | None = None
    """After this time it stops being busy, or becomes trusted, if no entry changes."""


class PlacementScope(StrEnum):
    """Which models the group and the priority of a model on demand concern."""

    NAMESPACE = "Namespace"
    CLUSTER = "Cluster"


@dataclass(frozen=True, kw_only=True)
class NodeConstraints:
    """Which nodes a model may run on, regardless of memory."""

    needs_gpu: bool
    node_selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    node_affinity: NodeAffinity | None = None


@dataclass(frozen=True, kw_only=True)
class ResourceDemand(NodeConstraints):
    """The memory, files and node constraints that one model needs."""

    model: str
    """namespace/name"""
    tenant: str = ""
    """Its namespace, if groups and priorities end there; empty if they are the cluster's."""
    replicas: int
    gpu_mib: int
    host_mib: int
    stored_on: frozenset[str] | None = None
    """Nodes that have the files; None when files do not restrict the nodes."""
    fetching_on: frozenset[str] = frozenset()
    """Nodes to which Jobs fetch the files now."""
    fetchable_to: frozenset[str] | None = frozenset()
    """Nodes to which missing files can be fetched; None: any."""
    on_demand: OnDemandPolicy | None = None
    """None: always on."""

    @property
    def total_mib(self) -> int:
        return self.gpu_mib + self.host_mib

    def has_files(self, node: str) -> bool:
        """Tell whether a node has all files."""
        return self.stored_on is None or node in self.stored_on

    def can_get_files(self, node: str) -> bool:
        """Tell whether the files that a node lacks can be fetched to it."""
        return self.fetchable_to is None or node in self.fetchable_to


@dataclass(frozen=True)
class Presence:
    """Where one model is, and which nodes the scheduler refuses its pods."""

    current: Sequence[str] = ()
    """Nodes of its Deployments, the best to keep first."""
    running: frozenset[str] = frozenset()
    """Nodes where it has pods that are not terminating."""
    refused: frozenset[str] = frozenset()
    """Nodes that the scheduler refuses its pod now."""
    avoided: frozenset[str] = frozenset()
    """Nodes that the scheduler refused of late: the model goes there only if there is no other."""
    chosen_by: Mapping[str, str] = field(default_factory=dict)
    """By node: the digest of the constraints (`node_selection`) by which it was chosen."""


@dataclass(frozen=True)
class MemoryReservation:
    """Memory that pods of a model hold on a node now, regardless of a newer spec."""

    model: str
    node: str
    gpu_mib: int
    host_mib: int
    ending_gpu_mib: int = 0
    """The part of it that only terminating pods hold."""
    ending_host_mib: int = 0


@dataclass(frozen=True)
class Taint:
    """A node's taint."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True)
class NodeFacts:
    """A node's capacity, labels and taints."""

    name: str
    allocatable_mib: int
    gpu_budget_mib: int
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    accepts_new_pods: bool = True
    """Whether it is neither cordoned nor NotReady for long."""


@dataclass(frozen=True)
class Assignment:
    """The nodes that placement gave to one demand."""

    demand: ResourceDemand
    nodes: tuple[str, ...]
    reason: Reason | None = None
    message: str = ""
    """Why it has fewer nodes than replicas."""
    fetch_to: tuple[str, ...] = ()
    """Nodes that get the files next; no memory is held there meanwhile."""
    idle: bool = False
    """Whether the model is on demand and nobody wants it."""
    phase: Phase = Phase.NEW
    """The phase of the model on demand when placement decided."""


@dataclass(frozen=True)
class DeploymentFacts:
    """One Deployment of ours as the cache has it."""

    name: str
    node: str
    config_hash: str
    settled: bool
    """Whether all of its pods have the current template and are available."""
    runs: bool = True
    """Whether it is above 0 replicas."""
    answers: bool = True
    """Whether its pods answer, or did so until a moment ago."""


@dataclass(frozen=True)
class Sizing:
    """The context and the memory of one replica."""

    context_size: int
    gpu_mib: int
    host_mib: int
    draft_type: str = ""
    """llama-server's `--spec-type`; empty where none is needed."""
    estimate: Estimate | None = None
    """None when the spec gives all sizes."""
    overridden: bool = False
    """Whether the spec gives GPU or host memory in place of the estimate."""

    @property
    def method(self) -> str:
        """How the memory was determined: `Override`, or the method of the estimate."""
        return "Override" if self.overridden or self.estimate is None else self.estimate.method


@dataclass(frozen=True)
class ModelFacts:
    """All that a LlamaModel's plan depends on besides its spec."""

    owner: Owner
    defaults: Defaults
    assignment: Assignment | None
    deployments: tuple[DeploymentFacts, ...] = ()
    files: FileFacts = FileFacts()
    sizing: Sizing | Invalid | None = None
    """None until every required header has been read."""
    requested_at: str = ""
    """Flux's reconcile request: inspect the sources again."""
    rolling_elsewhere: frozenset[str] = frozenset()
    """Those of the model's nodes where another model holds the rollout turn."""
    phase: Phase = Phase.NEW
    """The phase on its Lease; NEW without a Lease."""
    usage: ModelUsage = ModelUsage()
    """The usage of a model that has a Lease."""
    awaited_seconds: float = 0.0
    """For how long a change has waited for the model to be idle."""
    candidates: tuple[str, ...] = ()
    """Nodes that may run the model, regardless of memory; empty if no Job inspects on nodes."""
    referenced_configs: frozenset[str] = frozenset()
    """ConfigMaps that its Deployments and pods mount."""


@dataclass(frozen=True)
class RouterFacts:
    """All that a ModelRouter's plan depends on besides its spec."""

    owner: Owner
    defaults: Defaults
    models: frozenset[str] = frozenset()
    """LlamaModels that the router serves, whether they exist or not."""
    referenced_configs: frozenset[str] = frozenset()
    """ConfigMaps that the router's pods mount."""

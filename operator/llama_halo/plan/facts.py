"""What a plan may know, frozen: gathered by `controllers.facts`, read by `plan` and `status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
"""What a Job does about a file."""


@dataclass(frozen=True)
class Owner:
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
    whisper_images: Mapping[Backend, ImageProfile]
    """For mode Transcription."""
    engine_images: Mapping[str, str]
    """By the engine's name; `{version}` in one stands for the spec's version."""
    startup_seconds: int = 3600
    """A 100 GB model read from a slow disk takes most of an hour."""
    cluster_domain: str = "cluster.local"
    hub_endpoint: str = ""
    """A mirror of the Hugging Face Hub; empty: the Hub itself."""


@dataclass(frozen=True)
class Inspection:
    """What a source was found to be: which bytes are meant, and what their header says."""

    role: str
    source: str
    """The hash of the source in the spec."""
    file: str
    """Below the folder; of a sharded model, the first file."""
    bytes: int
    shards: int
    folder: str = ""
    """Below the store, named by the bytes; empty for what is in the store already."""
    sha256: str = ""
    revision: str = ""
    version: str = ""
    requested_at: str = ""
    """The request to look again that this answers."""
    profile: Profile | None = None
    """Of a model, or of one that drafts."""
    companion: Companion | None = None
    """Of a projector or an adapter."""

    @property
    def path(self) -> str:
        """The first file's path below the store."""
        return f"{self.folder}/{self.file}" if self.folder else self.file


@dataclass(frozen=True)
class StoredAt:
    """A model's verified files on a node; on no node in particular when a claim has them."""

    node: str
    path: str
    bytes: int
    sha256: str = ""
    requested_at: str = ""
    """The request to look again at which it was verified."""


@dataclass(frozen=True)
class Problem:
    """Why a Job has no good answer (yet)."""

    reason: Reason
    message: str
    final: bool = False
    """It is the Job's answer: it is not tried again."""


@dataclass(frozen=True)
class JobFacts:
    """One Job that looks at a source or fetches it, as the cache has it."""

    name: str
    work: str
    """inspect or fetch."""
    role: str
    node: str
    """Where it has to run; empty: anywhere."""
    source: str
    """The hash of the source, or the path of what is fetched."""
    failed: bool = False
    """Given up by the cluster: it is made anew."""
    answer: Inspection | StoredAt | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class ClaimFacts:
    """What a PersistentVolumeClaim with model files allows."""

    once_pod: bool = False
    """ReadWriteOncePod: a download and a server could never both use it."""
    nodes: frozenset[str] | None = None
    """Where its volume can be used; None: anywhere."""


@dataclass(frozen=True)
class ChatTemplateFacts:
    """The text that a ConfigMap has for a model's prompts."""

    text: str = ""
    problem: str = ""
    """Why there is none (yet)."""


@dataclass(frozen=True)
class FileFacts:
    """What is known of a model's files; what Jobs answered just now is among it."""

    inspections: tuple[Inspection, ...] = ()
    stored: tuple[StoredAt, ...] = ()
    jobs: tuple[JobFacts, ...] = ()
    claim: ClaimFacts = ClaimFacts()
    chat_template: ChatTemplateFacts = ChatTemplateFacts()
    """Of a spec that names one."""
    recorded: bool = True
    """Whether the status has all of it: until then the Jobs that say so stay."""


@dataclass(frozen=True)
class OnDemand:
    """How a model comes and goes."""

    idle_timeout_seconds: float
    min_resident_seconds: float
    priority: int = 0
    preload: bool = False
    group: str = ""


@dataclass(frozen=True)
class ModelUsage:
    """What a model with a Lease is used for now."""

    phase: Phase = Phase.NEW
    busy: bool = False
    """A gateway has said within some seconds that it has requests for it."""
    wanted_since: float = 0.0
    """When it became busy, by any clock: who came first."""
    idle_seconds: float = 0.0
    """Since anybody last said anything of it."""
    resident_seconds: float = 0.0
    trusted: bool = True
    """Whether a gateway that wanted it would have been heard."""
    next_change_seconds: float | None = None
    """After what time it is no longer busy, should nobody say anything."""


@dataclass(frozen=True, kw_only=True)
class NodeConstraints:
    """Which nodes a model may run on, room aside."""

    needs_gpu: bool
    node_selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    node_affinity: NodeAffinity | None = None


@dataclass(frozen=True, kw_only=True)
class ResourceDemand(NodeConstraints):
    """What one model asks of the nodes."""

    model: str
    """namespace/name"""
    replicas: int
    gpu_mib: int
    host_mib: int
    stored_on: frozenset[str] | None = None
    """Nodes that have the files; None: every node has, or they are part of no decision."""
    fetching_on: frozenset[str] = frozenset()
    """Nodes to which the files are on their way."""
    fetchable_to: frozenset[str] | None = frozenset()
    """Nodes to which missing files can be fetched; None: any."""
    on_demand: OnDemand | None = None
    """None: always on."""

    @property
    def total_mib(self) -> int:
        return self.gpu_mib + self.host_mib

    def has_files(self, node: str) -> bool:
        """Tell whether a node has all files."""
        return self.stored_on is None or node in self.stored_on

    def can_get_files(self, node: str) -> bool:
        """Tell whether what a node lacks can be fetched to it."""
        return self.fetchable_to is None or node in self.fetchable_to


@dataclass(frozen=True)
class MemoryReservation:
    """Memory that pods of a model hold on a node now, whatever the spec says meanwhile."""

    model: str
    node: str
    gpu_mib: int
    host_mib: int
    ending_gpu_mib: int = 0
    """What of it only pods hold that are on their way out."""
    ending_host_mib: int = 0


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

    demand: ResourceDemand
    nodes: tuple[str, ...]
    reason: Reason | None = None
    message: str = ""
    """Why fewer nodes than replicas."""
    fetch_to: tuple[str, ...] = ()
    """Nodes that get the files next; no memory is held there meanwhile."""
    idle: bool = False
    """On demand, and wanted by nobody."""
    phase: Phase = Phase.NEW
    """Of a model on demand, as it was when this was decided."""


@dataclass(frozen=True)
class DeploymentFacts:
    """One Deployment of ours as the cache has it."""

    name: str
    node: str
    config_hash: str
    settled: bool
    """Its pods are those of this template, and ready."""
    runs: bool = True
    """Is not at 0."""
    answers: bool = True
    """Its pods answer, or have until a moment ago."""


@dataclass(frozen=True)
class Sizing:
    """What one replica gets, and holds."""

    context_size: int
    gpu_mib: int
    host_mib: int
    draft_type: str = ""
    """llama-server's `--spec-type`; empty where none is needed."""
    estimate: Estimate | None = None
    """None when the spec says all."""
    overridden: bool = False
    """Whether the spec's own memory counts, and not the estimate's."""

    @property
    def method(self) -> str:
        """How far the sum can be trusted."""
        return "Override" if self.overridden or self.estimate is None else self.estimate.method


@dataclass(frozen=True)
class ModelFacts:
    """All that a LlamaModel's plan depends on beside its spec."""

    owner: Owner
    defaults: Defaults
    assignment: Assignment | None
    deployments: tuple[DeploymentFacts, ...] = ()
    files: FileFacts = FileFacts()
    sizing: Sizing | Invalid | None = None
    """None until every header that has to be read was."""
    requested_at: str = ""
    """Flux's request to look again at the source."""
    rolling_elsewhere: frozenset[str] = frozenset()
    """Its nodes where another model has its turn to roll."""
    phase: Phase = Phase.NEW
    """As its Lease has it, if it has one."""
    usage: ModelUsage = ModelUsage()
    """Of a model that has a Lease."""
    awaited_seconds: float = 0.0
    """For how long a change has waited for the model to be idle."""
    candidates: tuple[str, ...] = ()
    """Nodes that may run the model, room aside."""
    referenced_configs: frozenset[str] = frozenset()
    """ConfigMaps that its Deployments and pods mount."""


@dataclass(frozen=True)
class RouterFacts:
    """All that a ModelRouter's plan depends on beside its spec."""

    owner: Owner
    defaults: Defaults
    referenced_configs: frozenset[str] = frozenset()
    """ConfigMaps that ReplicaSets of the router with pods still mount."""

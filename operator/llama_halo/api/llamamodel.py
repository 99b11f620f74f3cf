"""LlamaModel: which GGUF, how much context, which backend, where."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from llama_halo.api.pod import Command, Env, PodOptions
from llama_halo.api.schema import (
    SET,
    DecimalText,
    DnsLabel,
    DnsName,
    Duration,
    KeyReference,
    LocalReference,
    LongText,
    ModelName,
    Quantity,
    Schema,
    Sha256,
    Text,
    exactly_one,
    list_map,
    rule,
    rules,
)
from llama_halo.api.server_flags import ENV_RULES, EXTRA_ARGS_RULES
from llama_halo.contract.labels import LLAMAMODELS
from llama_halo.contract.model import Mode

KIND = "LlamaModel"
PLURAL = LLAMAMODELS


class Backend(StrEnum):
    """What computes: the GPU through Vulkan or ROCm, or the CPU alone."""

    VULKAN = "Vulkan"
    ROCM = "ROCm"
    CPU = "CPU"


CacheTypeName = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
Switch = Literal["Auto", "On", "Off"]


_HUB_FILE = r"^[^\x00-\x1f\x7f@\\$]+\.([gG][gG][uU][fF]|bin)$"
_STORE_PATH = r"^[^\x00-\x1f\x7f\s]([^\x00-\x1f\x7f]*[^\x00-\x1f\x7f\s])?$"
"""Any letters and signs, and blanks inside."""


class HuggingFaceSource(Schema):
    """A file of a Hugging Face repository."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!self.file.startsWith('/') && !self.file.split('/').exists(p, p == '..')",
                "huggingFace.file is relative to the repository and never leaves it",
            )
        )
    )

    repo: Annotated[str, Field(pattern=r"^[-\w][-.\w]*/[-\w][-.\w]*$", max_length=200)]
    file: Annotated[str, Field(pattern=_HUB_FILE, max_length=500)]
    revision: Text | None = None
    token_secret_ref: KeyReference | None = None


class HttpSource(Schema):
    """A file behind a URL."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/]+/\S+$", max_length=2048)]
    sha256: Sha256 | None = None
    headers_secret_ref: LocalReference | None = None


class LocalSource(Schema):
    """A file that is in the store already."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!self.path.startsWith('/') && !self.path.split('/').exists(p, p == '..')",
                "local.path is relative to the store's root and never leaves it",
            )
        )
    )

    path: Annotated[str, Field(max_length=500, pattern=_STORE_PATH)]
    """Relative to the store's root; of a sharded model, the first shard."""


class Source(Schema):
    """Where the GGUF comes from; exactly one member."""

    model_config = ConfigDict(
        json_schema_extra=rules(exactly_one("source", "huggingFace", "http", "local"))
    )

    hugging_face: HuggingFaceSource | None = None
    http: HttpSource | None = None
    local: LocalSource | None = None


class HostPathStore(Schema):
    """A directory of the node."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!self.path.contains('//') && !self.path.split('/').exists(p, p in ['.', '..'])",
                "hostPath.path is an absolute path without //, . and ..",
            )
        )
    )

    path: Annotated[str, Field(pattern=r"^/[^\s]+$", max_length=500)]


class ClaimStore(Schema):
    """A PersistentVolumeClaim in the same namespace."""

    claim_name: DnsName


class Store(Schema):
    """Where model files are kept; exactly one member."""

    model_config = ConfigDict(
        json_schema_extra=rules(exactly_one("store", "hostPath", "persistentVolumeClaim"))
    )

    host_path: HostPathStore | None = None
    persistent_volume_claim: ClaimStore | None = None


class CacheType(Schema):
    """Types of the KV cache, by llama.cpp's own names."""

    k: CacheTypeName | None = None
    v: CacheTypeName | None = None


class Projector(Schema):
    """The vision projector (mmproj)."""

    source: Source


class DraftModel(Schema):
    """A small model that drafts tokens."""

    source: Source
    max_tokens: Annotated[int, Field(ge=1, le=64)] | None = None


class DraftMtp(Schema):
    """The model's own multi-token-prediction head drafts."""

    max_tokens: Annotated[int, Field(ge=1, le=64)] | None = None


class Draft(Schema):
    """Speculative decoding; exactly one member."""

    model_config = ConfigDict(json_schema_extra=rules(exactly_one("draft", "model", "mtp")))

    model: DraftModel | None = None
    mtp: DraftMtp | None = None


class Adapter(Schema):
    """One LoRA adapter."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "(!has(self.source.local) || !self.source.local.path.matches('[:,\"]')) &&"
                " (!has(self.source.huggingFace) ||"
                " !self.source.huggingFace.file.matches('[:,\"]'))",
                "adapters: llama-server takes no path with a colon, comma or quote: rename it",
            )
        )
    )

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=40)]
    source: Source
    scale: DecimalText | None = None


class ChatTemplate(Schema):
    """A Jinja template that replaces the model's own."""

    config_map_key_ref: KeyReference


class Reasoning(Schema):
    """How thoughts are told from the answer, and how long they may get."""

    format: Literal["Auto", "None", "DeepSeek"] | None = None
    budget_tokens: Annotated[int, Field(ge=-1, le=1048576)] | None = None
    """-1 is unlimited, 0 ends thinking at once."""


class PrivilegedDevices(Schema):
    """hostPath /dev/dri, and for ROCm /dev/kfd, in a privileged container."""


class ResourceDevices(Schema):
    """An extended resource of a device plugin."""

    name: Annotated[str, Field(pattern=r"^[-.a-z0-9]+/[-._a-zA-Z0-9]+$", max_length=253)]
    count: Annotated[int, Field(ge=1, le=16)] | None = None


class ClaimDevices(Schema):
    """A ResourceClaim (dynamic resource allocation), by name or from a template."""

    model_config = ConfigDict(
        json_schema_extra=rules(exactly_one("devices.claim", "name", "templateName"))
    )

    name: DnsName | None = None
    template_name: DnsName | None = None


class Devices(Schema):
    """How the pod reaches the GPU; exactly one member."""

    model_config = ConfigDict(
        json_schema_extra=rules(exactly_one("devices", "privileged", "resource", "claim"))
    )

    privileged: PrivilegedDevices | None = None
    resource: ResourceDevices | None = None
    claim: ClaimDevices | None = None


class Memory(Schema):
    """Memory that the model needs, in place of the estimate."""

    gpu: Quantity | None = None
    """Weights, KV cache and compute buffers on the GPU; none with backend CPU."""
    host: Quantity | None = None
    """What the server process itself needs in ordinary memory."""


class OnDemand(Schema):
    """Run only while somebody wants the model."""

    idle_timeout: Duration | None = None
    min_resident: Duration | None = None
    priority: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    preload: bool | None = None
    group: DnsLabel | None = None


class Activation(Schema):
    """When the model runs; absent: always."""

    on_demand: OnDemand


class Update(Schema):
    """How a change reaches the running model."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.timeout) || (has(self.mode) && self.mode == 'WhenIdle')",
                "update.timeout is for update.mode WhenIdle: set that, or delete the timeout",
            )
        )
    )

    mode: Literal["WhenIdle", "Immediate"] | None = None
    timeout: Duration | None = None


class Verify(Schema):
    """Checks after the model serves."""

    tool_calling: Literal["Auto", "Off"] | None = None


_POD_RULES = rules(
    rule(
        "!has(self.resources) || (!(has(self.resources.requests) && 'memory' in"
        " self.resources.requests) && !(has(self.resources.limits) && 'memory' in"
        " self.resources.limits))",
        "pod.resources: memory is set from spec.memory: set that and delete it here",
    )
)
_SPEC_RULES = rules(
    rule(
        "has(self.image) == has(self.command)",
        "image and command go together: give both, for example command: [llama-server]",
    ),
    rule(
        "!has(self.cacheType) || !has(self.cacheType.v) || self.cacheType.v in"
        " ['f32', 'f16', 'bf16'] || !has(self.flashAttention) || self.flashAttention != 'Off'",
        "cacheType.v is quantized, which needs flash attention: leave flashAttention at Auto or On",
    ),
    rule(
        "!has(self.microBatchSize) || self.microBatchSize <="
        " (has(self.batchSize) ? self.batchSize : 2048)",
        "microBatchSize must not exceed batchSize (2048 when absent)",
    ),
    rule(
        "!has(self.backend) || self.backend != 'CPU' || !has(self.devices)",
        "backend CPU takes no devices: delete devices",
    ),
    rule(
        "!has(self.backend) || self.backend != 'CPU' || !has(self.gpuLayers) ||"
        " self.gpuLayers == 0",
        "backend CPU has no GPU layers: delete gpuLayers",
    ),
    rule(
        "!has(self.backend) || self.backend != 'CPU' || !has(self.memory) || !has(self.memory.gpu)",
        "backend CPU uses no GPU memory: put all of it into memory.host and delete memory.gpu",
    ),
    rule(
        "!has(self.activation) || !has(self.replicas) || self.replicas <= 1",
        "activation.onDemand runs at most one replica: delete replicas",
    ),
)


class LlamaModelSpec(Schema):
    """What a person asks for."""

    model_config = ConfigDict(json_schema_extra=_SPEC_RULES)

    display_name: Text | None = None
    """For UIs and model lists."""
    description: LongText | None = None
    source: Source
    store: Store | None = None
    mode: Mode | None = None
    pooling: Literal["Mean", "Cls", "Last"] | None = None
    """In mode Embedding: how one vector is made of a text, if the file does not say."""
    context_size: Annotated[int, Field(ge=256, le=16777216)] | None = None
    """Tokens in the server's KV cache, shared by all parallel requests."""
    parallel: Annotated[int, Field(ge=1, le=256)] | None = None
    """Requests at once; they share contextSize."""
    cache_type: CacheType | None = None
    gpu_layers: Annotated[int, Field(ge=0, le=1024)] | Literal["All"] | None = None
    """All, or how many layers the GPU holds."""
    batch_size: Annotated[int, Field(ge=32, le=65536)] | None = None
    micro_batch_size: Annotated[int, Field(ge=16, le=65536)] | None = None
    threads: Annotated[int, Field(ge=1, le=512)] | None = None
    prompt_cache_mib: Annotated[int, Field(ge=0, le=1048576)] | None = None
    """llama-server's prompt cache in host memory, MiB."""
    flash_attention: Switch | None = None
    projector: Projector | None = None
    draft: Draft | None = None
    adapters: (
        Annotated[list[Adapter], Field(max_length=8, json_schema_extra=list_map("name"))] | None
    ) = None
    chat_template: ChatTemplate | None = None
    reasoning: Reasoning | None = None
    extra_args: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=1024)]],
            Field(max_length=64, json_schema_extra=EXTRA_ARGS_RULES),
        ]
        | None
    ) = None
    """Last on llama-server's command line, so they win."""
    env: Annotated[Env, Field(json_schema_extra=ENV_RULES)] | None = None
    backend: Backend | None = None
    image: LongText | None = None
    command: Command | None = None
    devices: Devices | None = None
    memory: Memory | None = None
    replicas: Annotated[int, Field(ge=0, le=64)] | None = None
    """0 unloads; more than 1: each on a node of its own."""
    activation: Activation | None = None
    update: Update | None = None
    aliases: Annotated[list[ModelName], Field(max_length=32, json_schema_extra=SET)] | None = None
    """Other names that routers answer to."""
    verify: Verify | None = None
    suspend: bool | None = None
    """true: the operator touches no child."""
    pod: Annotated[PodOptions, Field(json_schema_extra=_POD_RULES)] | None = None

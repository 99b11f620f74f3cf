"""The status of a LlamaModel: what the operator observed and did."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from llama_halo.api.schema import Condition, OpenObject, Schema, list_map


class PlacementStatus(Schema):
    """One replica and its node."""

    node: str
    reason: str
    address: str | None = None
    """Where its server listens, for gateways: they need not wait for the Service to know it."""


class ModelStatus(Schema):
    """What is known of the model itself."""

    summary: str | None = None
    architecture: str | None = None
    parameters: str | None = None
    quantization: str | None = None
    trained_context: int | None = None
    context_size: int | None = None
    size_mib: int | None = None
    sha256: str | None = None
    revision: str | None = None
    capabilities: list[str] | None = None


class MemoryStatus(Schema):
    """Memory of one replica, MiB."""

    weights_mib: int | None = None
    kv_cache_mib: int | None = None
    state_mib: int | None = None
    compute_mib: int | None = None
    projector_mib: int | None = None
    draft_mib: int | None = None
    adapters_mib: int | None = None
    gpu_mib: int | None = None
    host_mib: int | None = None
    total_mib: int | None = None
    method: str | None = None
    summary: str | None = None


class FileStatus(Schema):
    """One verified file on a node."""

    node: str
    path: str
    sha256: str | None = None
    bytes: int | None = None
    requested_at: str | None = None
    """The request to look again at which it was verified."""


class InspectedStatus(Schema):
    """What a source was found to be; kept so that it is looked at once."""

    role: str
    """What the file is for: model, projector, draft, or adapter-NAME."""
    source: str
    """The hash of the source in the spec."""
    requested_at: str | None = None
    """The request to look again that this answers."""
    folder: str | None = None
    """Below the store, named by the bytes; absent for what is in the store already."""
    file: str
    bytes: int
    shards: int
    sha256: str | None = None
    """Of the file; of shards, one for all of their checksums."""
    revision: str | None = None
    """The commit."""
    version: str | None = None
    """ETag or Last-Modified, where there is no checksum."""
    profile: OpenObject | None = None
    """What the arithmetic of memory needs of a model's header."""
    companion: OpenObject | None = None
    """The same of a projector's or an adapter's."""


class DownloadStatus(Schema):
    """A download under way."""

    bytes: int | None = None
    total_bytes: int | None = None
    percent: int | None = None
    bytes_per_second: int | None = None
    remaining_seconds: int | None = None


class SpeedStatus(Schema):
    """Speed in the verification request, as decimal text."""

    prompt_tokens_per_second: str | None = None
    tokens_per_second: str | None = None


class LlamaModelStatus(Schema):
    """What the operator saw and did."""

    observed_generation: int | None = None
    conditions: (
        Annotated[list[Condition], Field(max_length=16, json_schema_extra=list_map("type"))] | None
    ) = None
    replicas: int | None = None
    ready_replicas: int | None = None
    selector: str | None = None
    placements: (
        Annotated[list[PlacementStatus], Field(max_length=64, json_schema_extra=list_map("node"))]
        | None
    ) = None
    node_summary: str | None = None
    endpoint: str | None = None
    config_hash: str | None = None
    model: ModelStatus | None = None
    memory: MemoryStatus | None = None
    files: Annotated[list[FileStatus], Field(max_length=256)] | None = None
    inspected: (
        Annotated[list[InspectedStatus], Field(max_length=16, json_schema_extra=list_map("role"))]
        | None
    ) = None
    download: DownloadStatus | None = None
    speed: SpeedStatus | None = None
    verified_config_hash: str | None = None
    """Of the configuration that ToolCalling and speed are of."""
    last_handled_reconcile_at: str | None = None

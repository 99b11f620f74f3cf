"""The closed sets of condition types and reasons, on which people and tools match."""

from __future__ import annotations

from enum import StrEnum


class ConditionType(StrEnum):
    """The types of conditions.

    Reconciling and Stalled are present only while they are true. Only models have the last three.
    """

    READY = "Ready"
    AVAILABLE = "Available"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    FILES_VERIFIED = "FilesVerified"
    MEMORY_RESERVED = "MemoryReserved"
    TOOL_CALLING = "ToolCalling"


class Reason(StrEnum):
    """The reason of the Ready condition, which the STATE column shows."""

    # Ready is True.
    SERVING = "Serving"
    IDLE = "Idle"
    STOPPED = "Stopped"
    SUSPENDED = "Suspended"
    # Ready is False, and the operator or the cluster is at work.
    INSPECTING = "Inspecting"
    DOWNLOADING = "Downloading"
    WAITING_FOR_MEMORY = "WaitingForMemory"
    WAITING_FOR_NODE = "WaitingForNode"
    SCHEDULING = "Scheduling"
    PULLING_IMAGE = "PullingImage"
    LOADING = "Loading"
    ROLLING = "Rolling"
    DRAINING = "Draining"
    STARTING = "Starting"
    RETRYING = "Retrying"
    # Ready is False, and a person may have to act.
    INVALID_SPEC = "InvalidSpec"
    NAME_CONFLICT = "NameConflict"
    BAD_FLAG = "BadFlag"
    SOURCE_NOT_FOUND = "SourceNotFound"
    SOURCE_UNREACHABLE = "SourceUnreachable"
    UNAUTHORIZED = "Unauthorized"
    CHECKSUM_MISMATCH = "ChecksumMismatch"
    STORE_FULL = "StoreFull"
    STORE_UNUSABLE = "StoreUnusable"
    MODEL_TOO_LARGE = "ModelTooLarge"
    NOT_A_GGUF = "NotAGGUF"
    UNSUPPORTED_MODEL = "UnsupportedModel"
    DEVICE_UNAVAILABLE = "DeviceUnavailable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CANNOT_START = "CannotStart"
    OUT_OF_MEMORY = "OutOfMemory"
    CRASH_LOOPING = "CrashLooping"


READY_REASONS = frozenset({Reason.SERVING, Reason.IDLE, Reason.STOPPED, Reason.SUSPENDED})
# The steps of an ordinary start or rollout.
STEP_REASONS = frozenset(
    {
        Reason.INSPECTING,
        Reason.DOWNLOADING,
        Reason.SCHEDULING,
        Reason.PULLING_IMAGE,
        Reason.LOADING,
        Reason.ROLLING,
        Reason.STARTING,
    }
)
# Stalled at once, because only a person can help: mistakes in the YAML, or the wrong file.
STALLED_REASONS = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.NAME_CONFLICT,
        Reason.BAD_FLAG,
        Reason.NOT_A_GGUF,
        Reason.UNSUPPORTED_MODEL,
        Reason.CHECKSUM_MISMATCH,
    }
)
# Failures that may pass; Stalled after some restarts or minutes.
FAILED_REASONS = frozenset(
    {
        Reason.SOURCE_NOT_FOUND,
        Reason.SOURCE_UNREACHABLE,
        Reason.UNAUTHORIZED,
        Reason.STORE_FULL,
        Reason.STORE_UNUSABLE,
        Reason.MODEL_TOO_LARGE,
        Reason.DEVICE_UNAVAILABLE,
        Reason.IMAGE_PULL_FAILED,
        Reason.CANNOT_START,
        Reason.OUT_OF_MEMORY,
        Reason.CRASH_LOOPING,
    }
)

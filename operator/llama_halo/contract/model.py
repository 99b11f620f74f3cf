"""Values of a LlamaModel's fields, and paths of its processes, that several processes use."""

from __future__ import annotations

from enum import StrEnum

WHEN_IDLE = "WhenIdle"
"""`spec.update.mode` of a model whose changes wait for its requests."""
VISION = "Vision"
"""The entry of `status.model.capabilities` of a model that takes images."""
JOB_PORT, PROGRESS_PATH = 8080, "/progress"
"""Where a fetch Job reports its progress to the operator."""
DRAINED_PATH = "/drained"
"""The gateway sidecar's preStop hook: it answers once no request is in flight."""


class Mode(StrEnum):
    """What the server is for."""

    CHAT = "Chat"
    EMBEDDING = "Embedding"
    RERANK = "Rerank"
    TRANSCRIPTION = "Transcription"

"""A Job's termination message: its result or its error, as one JSON object."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from llama_halo.contract.reasons import Reason
from llama_halo.errors import (
    DamagedGGUF,
    GGUFError,
    LlamaHaloError,
    NotAGGUF,
    NotAllowed,
    SourceChanged,
    SourceError,
    SourceMissing,
    StoreError,
    StoreFull,
)

log = logging.getLogger(__name__)

Json = dict[str, Any]
MAX_BYTES = 4096
"""Kubernetes truncates a longer termination message, which would break the JSON."""
MAX_MESSAGE_CHARACTERS = 800
_REASONS: tuple[tuple[type[LlamaHaloError], Reason], ...] = (
    (NotAGGUF, Reason.NOT_A_GGUF),
    (DamagedGGUF, Reason.NOT_A_GGUF),
    (GGUFError, Reason.UNSUPPORTED_MODEL),
    (SourceChanged, Reason.CHECKSUM_MISMATCH),
    (SourceMissing, Reason.SOURCE_NOT_FOUND),
    (NotAllowed, Reason.UNAUTHORIZED),
    (SourceError, Reason.SOURCE_UNREACHABLE),
    (StoreFull, Reason.STORE_FULL),
    (StoreError, Reason.STORE_UNUSABLE),
)
FINAL_ERRORS = (GGUFError, SourceChanged)
"""Errors that a retry would only repeat: the Job succeeds with them."""


def result(fields: Json) -> bytes:
    """Return a result as JSON; one that is too long becomes an error."""
    data = json.dumps(fields, separators=(",", ":")).encode()
    if len(data) > MAX_BYTES:
        return failure(
            LlamaHaloError(
                f"the result has {len(data)} bytes; a termination message holds at most {MAX_BYTES}"
            )
        )
    return data


def failure(error: LlamaHaloError) -> bytes:
    """Return an error as JSON, with the reason that the status shows; a long message is cut."""
    reasons = (reason for kind, reason in _REASONS if isinstance(error, kind))
    reason = next(reasons, Reason.RETRYING)
    message = str(error)[:MAX_MESSAGE_CHARACTERS]
    while True:
        report = {"error": {"reason": reason, "message": message}}
        data = json.dumps(report, separators=(",", ":")).encode()
        if len(data) <= MAX_BYTES:
            return data
        message = message[: len(message) * 3 // 4]  # one character may take six bytes


def write_report(data: bytes, path: Path) -> None:
    """Write the termination message for the kubelet, and print it."""
    print(data.decode(), flush=True)
    try:
        path.write_bytes(data)
    except OSError as error:
        log.warning(
            "termination message not written", extra={"path": str(path), "reason": str(error)}
        )

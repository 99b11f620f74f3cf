"""Counts requests in the API server's audit log, for tests and benchmarks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

OPERATOR_USER = "system:serviceaccount:llama-halo-system:llama-halo-operator"
_WRITES = {"create", "update", "patch", "delete", "deletecollection"}
_READS = {"get", "list"}


def timestamp(time: datetime) -> str:
    """Return a time as the audit log writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def now() -> str:
    """Return the current time as the audit log writes it, to count requests from here on."""
    return timestamp(datetime.now(UTC))


def entries(log: Path, *, user: str = OPERATOR_USER, since: str = "") -> Iterator[dict[str, Any]]:
    """Yield a user's requests for objects, from a time on; a line still being written is left."""
    with log.open() as lines:
        for line in lines:
            # Most lines are other users': looking costs a tenth of parsing.
            if user not in line or not line.endswith("\n"):
                continue
            entry = json.loads(line)
            ours = entry["user"]["username"] == user and "objectRef" in entry
            if ours and entry["requestReceivedTimestamp"] >= since:
                yield entry


def is_write(entry: dict[str, Any]) -> bool:
    """Tell whether a request writes; reviews of authorization store nothing."""
    group = entry["objectRef"].get("apiGroup")
    return entry["verb"] in _WRITES and group != "authorization.k8s.io"


def is_read(entry: dict[str, Any]) -> bool:
    """Tell whether a request reads; a watch is one long request and does not count."""
    return entry["verb"] in _READS


def name_of(entry: dict[str, Any]) -> str:
    """Return what a request did, like `patch llamamodels/status`."""
    target = entry["objectRef"]
    below = f"/{target['subresource']}" if "subresource" in target else ""
    return f"{entry['verb']} {target['resource']}{below}"


def writes(
    log: Path, *, user: str = OPERATOR_USER, since: str = "", namespace: str = ""
) -> Counter[str]:
    """Count a user's writes by verb and resource, in one namespace or in all."""
    return Counter(
        name_of(entry)
        for entry in entries(log, user=user, since=since)
        if is_write(entry) and namespace in ("", entry["objectRef"].get("namespace"))
    )


def reads(log: Path, *, user: str = OPERATOR_USER, since: str = "") -> Counter[str]:
    """Count a user's reads by verb and resource."""
    return Counter(
        name_of(entry) for entry in entries(log, user=user, since=since) if is_read(entry)
    )

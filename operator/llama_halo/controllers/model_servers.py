"""Finds a model's ready server pods, and tells whether a server is busy."""

from __future__ import annotations

from typing import Any

from llama_halo.contract import labels
from llama_halo.kube.cache import Object
from llama_halo.kube.pods import PodAnswer

NO_SUCH_PAGE = (404, 501)
"""HTTP statuses of a server that was started without `/slots`."""


def is_server(pod: Object) -> bool:
    """Tell whether a pod is a ready server of a model and is not being deleted."""
    metadata, status = pod["metadata"], pod.get("status", {})
    ready = any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in status.get("conditions", ())
    )
    ours = labels.MODEL in (metadata.get("labels") or {})
    return ours and ready and "deletionTimestamp" not in metadata


def is_busy(answer: PodAnswer | None) -> bool:
    """Tell from a server's answer to `GET /slots` whether it is busy.

    No answer, or a malformed one, counts as busy. A server without `/slots` counts as idle.
    """
    if answer is None:
        return True
    if answer.status in NO_SUCH_PAGE:
        return False
    return answer.status != 200 or _is_processing(answer.body)


def _is_processing(slots: Any) -> bool:
    if not isinstance(slots, list):
        return True
    return any(isinstance(slot, dict) and slot.get("is_processing") for slot in slots)

"""Polls the progress of downloads from the Jobs' pods, every few seconds while they run."""

from __future__ import annotations

from typing import Any

from llama_halo.contract import labels
from llama_halo.contract.model import JOB_PORT, PROGRESS_PATH
from llama_halo.controllers.state import OperatorState
from llama_halo.kube.cache import Key, Object, key_of, owner_key
from llama_halo.kube.resources import POD
from llama_halo.plan.facts import FETCH

FIRST_POLL_SECONDS = 1
POLL_SECONDS = 3
_FIELDS = ("bytes", "totalBytes", "bytesPerSecond", "remainingSeconds")


def enqueue_download_poll(state: OperatorState, obj: Object) -> None:
    """Queue a poll of a pod that fetches; drop the progress of one that does not."""
    if obj["kind"] != POD.kind:
        return
    if is_fetching(obj):
        state.pollers.queue.add(key_of(obj), after_seconds=FIRST_POLL_SECONDS)
    else:
        state.pollers.downloads.pop(key_of(obj), None)


def is_fetching(pod: Object) -> bool:
    """Tell whether a pod belongs to a fetch Job and a container of it runs."""
    metadata, status = pod["metadata"], pod.get("status", {})
    return (
        (metadata.get("labels") or {}).get(labels.WORK) == FETCH
        and "deletionTimestamp" not in metadata
        and any(
            "running" in container_status.get("state", {})
            for container_status in status.get("containerStatuses", ())
        )
    )


async def poll(state: OperatorState, key: Key) -> float | None:
    """Read one pod's progress; enqueue its model when the progress changed."""
    pod = state.cache.get(key)
    if pod is None or not is_fetching(pod):
        state.pollers.downloads.pop(key, None)
        return None
    answer = await state.pods.get(pod["status"].get("podIP", ""), JOB_PORT, PROGRESS_PATH)
    progress = _progress(answer.body if answer else None)
    if progress and state.pollers.downloads.get(key) != progress:
        state.pollers.downloads[key] = progress
        owner = owner_key(pod)
        if owner:
            state.metrics.set_downloaded_bytes(owner, progress["bytes"])
            state.queue.add(owner)
    return POLL_SECONDS


def _progress(answer: Any) -> dict[str, int] | None:
    """Return the valid numbers of a pod's answer, None without `bytes` and `totalBytes`.

    Valid is a whole number from 0 to 2^53 - 1.
    """
    if not isinstance(answer, dict):
        return None
    progress = {
        name: answer[name]
        for name in _FIELDS
        if isinstance(answer.get(name), int) and 0 <= answer[name] < 2**53
    }
    return progress if {"bytes", "totalBytes"} <= progress.keys() else None

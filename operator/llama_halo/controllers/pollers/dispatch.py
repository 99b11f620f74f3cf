"""Which poller handles a key: pod, Job, claim or chat template."""

from __future__ import annotations

from llama_halo.controllers.pollers import chat_templates, claims, downloads, pod_creation
from llama_halo.controllers.state import OperatorState
from llama_halo.kube.cache import Key
from llama_halo.kube.resources import CLAIM, CONFIG_MAP


async def poll(state: OperatorState, key: Key) -> float | None:
    """Poll one object; return the seconds until the next poll, None to stop."""
    if key.kind == CLAIM.kind:
        return await claims.poll(state, key)
    if key.kind == CONFIG_MAP.kind:
        return await chat_templates.poll(state, key)
    pod = state.cache.get(key)
    if pod is not None and downloads.is_fetching(pod):
        return await downloads.poll(state, key)
    state.pollers.downloads.pop(key, None)
    return await pod_creation.poll(state, key)

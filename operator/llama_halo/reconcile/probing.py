"""The probes' front door: what is asked about a pod, apart from the reconciles."""

from __future__ import annotations

from llama_halo.cluster.store import Key
from llama_halo.reconcile import downloads, hanging
from llama_halo.reconcile.context import Context


async def look(context: Context, key: Key) -> float | None:
    """Look at one pod; return after how many seconds to look again."""
    pod = context.store.get(key)
    if pod is not None and downloads.fetches(pod):
        return await downloads.look(context, key)
    context.downloads.pop(key, None)
    return await hanging.look(context, key)

"""The probes' front door: what is asked about a pod or a claim, apart from the reconciles."""

from __future__ import annotations

from llama_halo.cluster.resources import CLAIM
from llama_halo.cluster.store import Key
from llama_halo.reconcile import claims, downloads, hanging
from llama_halo.reconcile.context import Context


async def look(context: Context, key: Key) -> float | None:
    """Look at one pod or claim; return after how many seconds to look again."""
    if key.kind == CLAIM.kind:
        return await claims.look(context, key)
    pod = context.store.get(key)
    if pod is not None and downloads.fetches(pod):
        return await downloads.look(context, key)
    context.downloads.pop(key, None)
    return await hanging.look(context, key)

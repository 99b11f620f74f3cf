"""One operator acts: the newest writes its identity into a Lease, and the others stand by.

There is no election and no renewal. A Deployment with one replica and strategy Recreate normally
runs one operator at a time; the Lease covers the moments when two run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

from llama_halo.errors import ClusterError
from llama_halo.kube.client import REQUEST_ERRORS
from llama_halo.kube.protocol import KubeApi
from llama_halo.kube.resources import LEASE

log = logging.getLogger(__name__)

NAME = "llama-halo-operator"
MANAGER = "llama-halo-identity"
RETRY_SECONDS = 5


async def claim(cluster: KubeApi, namespace: str, identity: str) -> None:
    """Write our identity into the Lease."""
    body = {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.kind,
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {"holderIdentity": identity},
    }
    await cluster.apply(LEASE, body, manager=MANAGER)


async def watch_claim(
    cluster: KubeApi, namespace: str, identity: str, *, on_holder: Callable[[str | None], None]
) -> None:
    """Watch the Lease for ever; claim it again when it is deleted.

    `on_holder` receives the identity of another holder, or None when the Lease is ours.
    """
    is_gone = False
    while True:
        try:
            if is_gone:
                await claim(cluster, namespace, identity)
            is_gone = await _follow(cluster, namespace, identity, on_holder)
            if is_gone:
                continue
        except (ClusterError, *REQUEST_ERRORS) as error:
            log.warning("the watch of the identity Lease failed", extra={"reason": str(error)})
        await asyncio.sleep(RETRY_SECONDS)


async def _follow(
    cluster: KubeApi, namespace: str, identity: str, on_holder: Callable[[str | None], None]
) -> bool:
    """Report holders until the watch ends; tell whether it ended because the Lease was deleted."""
    async with aclosing(cluster.watch(LEASE, namespace=namespace, name=NAME)) as events:
        async for kind, lease in events:
            holder = lease.get("spec", {}).get("holderIdentity")
            if kind == "DELETED":
                return True
            if kind in ("ADDED", "MODIFIED"):
                on_holder(None if holder == identity else str(holder))
    return False

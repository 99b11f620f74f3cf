"""One operator acts: the newest writes its identity into a Lease, and the others stand by.

There is no election and no renewal. A Deployment with one replica and strategy Recreate normally
runs one operator at a time; the Lease covers the moments when two run. An operator that stands by
claims the Lease again when its holder is not, or no longer, an operator's pod.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

from llama_halo.errors import ClusterError
from llama_halo.kube.client import REQUEST_ERRORS
from llama_halo.kube.protocol import KubeApi
from llama_halo.kube.resources import LEASE, POD

log = logging.getLogger(__name__)

NAME = "llama-halo-operator"
MANAGER = "llama-halo-identity"
RETRY_SECONDS = 5
HOLDER_CHECK_SECONDS = 15
_OPERATOR_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/instance")
_ENDED = ("Succeeded", "Failed")
_POD_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


class IdentityLease:
    """The Lease that names the operator that acts."""

    def __init__(
        self,
        cluster: KubeApi,
        namespace: str,
        identity: str,
        *,
        on_holder: Callable[[str | None], None],
    ) -> None:
        """`on_holder` receives the identity of another holder, or None when the Lease is ours."""
        self._cluster = cluster
        self._namespace = namespace
        self._identity = identity
        self._on_holder = on_holder
        self._other: str | None = None

    async def claim(self) -> None:
        """Write our identity into the Lease."""
        body = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": NAME, "namespace": self._namespace},
            "spec": {"holderIdentity": self._identity},
        }
        await self._cluster.apply(LEASE, body, manager=MANAGER)

    async def watch(self) -> None:
        """Watch the Lease for ever; claim it again when it is deleted or has no holder."""
        is_free = False
        while True:
            try:
                if is_free:
                    await self.claim()
                is_free = await self._follow()
                if is_free:
                    continue
            except (ClusterError, *REQUEST_ERRORS) as error:
                log.warning("the watch of the identity Lease failed", extra={"reason": str(error)})
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> bool:
        """Report holders until the watch ends; tell whether it ended because the Lease is free."""
        watch = self._cluster.watch(LEASE, namespace=self._namespace, name=NAME)
        async with aclosing(watch) as events:
            async for kind, lease in events:
                holder = (lease.get("spec") or {}).get("holderIdentity")
                if kind == "DELETED" or (kind in ("ADDED", "MODIFIED") and not holder):
                    return True
                if kind in ("ADDED", "MODIFIED"):
                    self._other = None if holder == self._identity else str(holder)
                    self._on_holder(self._other)
        return False

    async def reclaim(self) -> None:
        """Claim the Lease for ever again when its holder is no operator that runs.

        Whoever may patch Leases in this namespace could otherwise stop the operator for good. An
        operator that is no pod itself cannot tell, and stands by.
        """
        while True:
            await asyncio.sleep(HOLDER_CHECK_SECONDS)
            other = self._other
            if other is None:
                continue
            try:
                own, holder = await self._pod(self._identity), await self._pod(other)
                if own is None or (holder is not None and _is_like(own, holder)):
                    continue
                log.warning(
                    "the holder of the identity Lease is no operator that runs; claiming it",
                    extra={"holder": other},
                )
                await self.claim()
            except (ClusterError, *REQUEST_ERRORS) as error:
                log.warning(
                    "the holder of the identity Lease is not known", extra={"reason": str(error)}
                )

    async def _pod(self, name: str) -> Mapping[str, Any] | None:
        """Return a pod of the operator's namespace, None if it does not exist or has ended."""
        if not _POD_NAME.fullmatch(name):
            return None
        pods, _ = await self._cluster.list(
            POD, namespace=self._namespace, fields=f"metadata.name={name}"
        )
        running = (pod for pod in pods if pod.get("status", {}).get("phase") not in _ENDED)
        return next(running, None)


def _is_like(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether another pod is an operator, as ours is."""
    ours, theirs = (pod["metadata"].get("labels") or {} for pod in (own, other))
    return all(ours.get(label) == theirs.get(label) for label in _OPERATOR_LABELS)

"""Full lists: at the start, after a watch gap, and every ten minutes.

A watch that resumes after a gap replays what exists and says nothing of what was deleted meanwhile;
only a list finds those.
"""

from __future__ import annotations

import asyncio
import logging

from llama_halo.api import GROUP
from llama_halo.cluster.resources import LABELLED, LLAMAMODEL, WATCHED, Resource
from llama_halo.cluster.store import Object, key_of, owner_key
from llama_halo.plan import labels
from llama_halo.reconcile.context import Context
from llama_halo.reconcile.placing import wake_placement
from llama_halo.reconcile.routers import wake_routers

log = logging.getLogger(__name__)

PERIOD_SECONDS = 600
GAP_SECONDS = 0.5
OWN_LABEL = f"{labels.MANAGED_BY}={labels.PART_OF}"


def selector_of(resource: Resource) -> str:
    """Return the label selector under which a kind is listed and watched."""
    return OWN_LABEL if resource.kind in LABELLED else ""


def wake(context: Context, obj: Object) -> None:
    """Enqueue everything that depends on an object that changed."""
    key = key_of(obj)
    owner = key if obj["apiVersion"].startswith(f"{GROUP}/") else owner_key(obj)
    if owner is not None:
        context.queue.add(owner)
    if owner is None or owner.kind == LLAMAMODEL.kind:
        wake_placement(context)
    wake_routers(context, key)


def is_news(old: Object, new: Object) -> bool:
    """Tell whether an object differs in more than its status."""
    fields = ("generation", "labels", "annotations", "deletionTimestamp")
    return any(old["metadata"].get(each) != new["metadata"].get(each) for each in fields)


async def list_all(context: Context) -> None:
    """Read every watched kind into the store and enqueue what differs."""
    for resource in WATCHED:
        await list_kind(context, resource)


async def list_kind(context: Context, resource: Resource) -> None:
    """Read one kind into the store and enqueue what differs."""
    namespaces = context.settings.namespaces if resource.namespaced else ()
    for namespace in namespaces or (None,):
        items, version = await context.cluster.list(
            resource, namespace=namespace, selector=selector_of(resource)
        )
        for obj in context.store.replace(resource.kind, items, version, namespace=namespace):
            wake(context, obj)


class Relister:
    """Lists kinds again soon after a gap in their watch, and all of them periodically."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._gaps: set[Resource] = set()
        self._gap = asyncio.Event()

    def gap(self, resource: Resource) -> None:
        """Note that the watch of a kind began anew."""
        self._gaps.add(resource)
        self._gap.set()

    async def run(self) -> None:
        """List when there is a reason to, for ever."""
        while True:
            try:
                async with asyncio.timeout(PERIOD_SECONDS):
                    await self._gap.wait()
                await asyncio.sleep(GAP_SECONDS)  # a gap's events come in a burst
                self._gap.clear()
            except TimeoutError:
                self._gaps.update(WATCHED)
            gaps, self._gaps = self._gaps, set()
            for resource in sorted(gaps, key=lambda each: each.kind):
                try:
                    await list_kind(self._context, resource)
                except Exception as error:
                    log.warning(
                        "list failed, trying again",
                        extra={"kind": resource.kind, "reason": str(error)},
                    )
                    self.gap(resource)

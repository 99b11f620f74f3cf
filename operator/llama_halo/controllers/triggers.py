"""What wakes what, and the lists that fill the store."""

from __future__ import annotations

from llama_halo.contract import labels
from llama_halo.contract.labels import GROUP
from llama_halo.controllers.pollers.downloads import watch_download
from llama_halo.controllers.pollers.pod_creation import watch_creation
from llama_halo.controllers.router import enqueue_routers
from llama_halo.controllers.state import OperatorState
from llama_halo.kube.cache import Object, key_of, owner_key
from llama_halo.kube.resources import LABELLED, Resource

OWN_LABEL = f"{labels.MANAGED_BY}={labels.PART_OF}"


def selector_of(resource: Resource) -> str:
    """Return the label selector under which a kind is listed and watched."""
    return OWN_LABEL if resource.kind in LABELLED else ""


def enqueue_dependents(state: OperatorState, obj: Object) -> None:
    """Enqueue everything that depends on an object that changed; placement listens to the store."""
    key = key_of(obj)
    owner = key if obj["apiVersion"].startswith(f"{GROUP}/") else owner_key(obj)
    if owner is not None:
        state.queue.add(owner)
    enqueue_routers(state, key)
    watch_creation(state, obj)
    watch_download(state, obj)


def changed_beyond_status(old: Object, new: Object) -> bool:
    """Tell whether an object differs in more than its status."""
    fields = ("generation", "labels", "annotations", "deletionTimestamp")
    return any(old["metadata"].get(field) != new["metadata"].get(field) for field in fields)


async def list_kind(state: OperatorState, resource: Resource, namespace: str | None) -> int:
    """Read one kind into the store, enqueue what differs, and return the list's version."""
    items, version = await state.cluster.list(
        resource, namespace=namespace, selector=selector_of(resource)
    )
    for obj in state.cache.replace(resource.kind, items, version, namespace=namespace):
        enqueue_dependents(state, obj)
    return version

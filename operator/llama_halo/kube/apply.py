"""Make the cluster equal a plan: write only what differs, remove what is ours and not planned."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from llama_halo.contract import labels
from llama_halo.errors import ClusterError, NotFound
from llama_halo.kube.cache import Key, Object, ObjectCache, key_of
from llama_halo.kube.diff import difference
from llama_halo.kube.protocol import KubeApi
from llama_halo.kube.repair_limiter import RepairLimiter
from llama_halo.kube.resources import BY_KIND, PRUNED
from llama_halo.plan.hashing import content_hash
from llama_halo.plan.outcome import Plan, Ref, ref_of

MANAGER = "llama-halo"
STATUS_MANAGER = "llama-halo-status"
_REFUSED = (400, 422)


@dataclass
class Applied:
    """What carrying out a plan did."""

    changed: list[str] = field(default_factory=list)
    """`Deployment/x` for each write, with the first difference where it was drift."""
    conflict: str | None = None
    """Why an object of ours could not be written: somebody else has the name."""
    blocked: str | None = None
    """Which child of a former resource of this name is still being collected."""
    contested: str | None = None
    """Which field of which child something else changes back each time."""
    refused: str | None = None
    """What the API server said of an object that it will never take."""


async def apply_and_prune(
    cluster: KubeApi, cache: ObjectCache, repairs: RepairLimiter, owner: Object, plan: Plan
) -> Applied:
    """Apply a plan's objects in order, then remove the other children of the owner.

    Stops at the first object that belongs to somebody else or that the API server refuses.
    """
    applied = Applied()
    for desired in plan.objects:
        await _apply_one(cluster, cache, repairs, desired, applied)
        if applied.conflict or applied.blocked or applied.refused:
            return applied
    desired_refs = {ref_of(desired) for desired in plan.objects} | plan.keep
    await _prune(cluster, cache, owner, desired_refs, applied)
    return applied


async def _apply_one(
    cluster: KubeApi, cache: ObjectCache, repairs: RepairLimiter, desired: Object, applied: Applied
) -> None:
    key, body = key_of(desired), with_applied_hash(desired)
    live = cache.get(key) or await _read_live(cluster, cache, key)
    drift = difference(body, live) if live else "absent"
    if drift is None or (live and not _may_change(live, desired, body, drift, repairs, applied)):
        return
    try:
        reply = await cluster.apply(BY_KIND[key.kind], body, manager=MANAGER)
    except ClusterError as error:
        if error.status not in _REFUSED:
            raise
        applied.refused = f"the API server refuses {key.kind} {key.name}: {error}"
        return
    cache.observe(reply, is_own_write=True)
    applied.changed.append(f"{key.kind}/{key.name}: {drift}")


def _may_change(
    live: Object,
    desired: Object,
    body: Object,
    drift: str,
    repairs: RepairLimiter,
    applied: Applied,
) -> bool:
    """Tell whether a child that is there may be written, and note why it may not."""
    key = key_of(desired)
    if "deletionTimestamp" in live["metadata"]:
        return False  # it is made anew when it is gone
    if _of_a_former_self(desired, live):
        applied.blocked = f"{key.kind} {key.name} of the deleted resource is being collected"
        return False
    applied.conflict = _conflict(desired, live)
    if applied.conflict:
        return False
    if _applied_before(body, live) and not repairs.try_acquire(key, time.monotonic()):
        applied.contested = (
            f"{key.kind} {key.name}: {drift} is changed by something else each time that it is"
            " put right (a webhook, an autoscaler, another controller?): end that, or leave"
            " the field out of its reach"
        )
        return False
    return True


async def _read_live(cluster: KubeApi, cache: ObjectCache, key: Key) -> Object | None:
    """Read an object that the cache lacks: it may be somebody else's, without our label."""
    try:
        return await cluster.get(BY_KIND[key.kind], key.namespace, key.name)
    except NotFound:
        return None


async def _prune(
    cluster: KubeApi,
    cache: ObjectCache,
    owner: Object,
    desired_refs: Iterable[Ref],
    applied: Applied,
) -> None:
    keep = set(desired_refs)
    for child in cache.children(key_of(owner)):
        key = key_of(child)
        if key.kind not in PRUNED or Ref(key.kind, key.name) in keep:
            continue
        if not _owned_by(child, owner) or "deletionTimestamp" in child["metadata"]:
            continue
        uid = child["metadata"]["uid"]
        if await cluster.delete(BY_KIND[key.kind], key.namespace, key.name, uid=uid):
            cache.forget(child, is_own_write=True)
        applied.changed.append(f"{key.kind}/{key.name}: removed")


async def apply_status(
    cluster: KubeApi, cache: ObjectCache, owner: Object, status: Any
) -> Object | None:
    """Write the status of a resource when it differs; return the API server's reply if it was."""
    current = owner.get("status") or {}
    same = difference(status, current) is None and _no_more(current, status)
    if same:
        return None
    key = key_of(owner)
    body = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "uid": owner["metadata"]["uid"],
        },
        "status": status,
    }
    reply = await cluster.apply_status(BY_KIND[key.kind], body, manager=STATUS_MANAGER)
    cache.observe(reply, is_own_write=True)
    return reply


def _no_more(current: Any, status: Any) -> bool:
    """Tell whether the written status has no field or condition of ours beyond the wanted one."""
    ours = ("Ready", "Available", "Reconciling", "Stalled")
    types = {condition["type"] for condition in status["conditions"]}
    extra = {condition["type"] for condition in current.get("conditions", ())} - types
    return not extra.intersection(ours) and set(current) <= set(status)


def with_applied_hash(desired: Object) -> dict[str, Any]:
    """Return the object with the hash of all its fields, by which a dropped field is noticed."""
    metadata = dict(desired["metadata"])
    annotations = dict(metadata.get("annotations", {}))
    annotations[labels.APPLIED] = content_hash(desired)
    return {**desired, "metadata": {**metadata, "annotations": annotations}}


def _applied_before(body: Object, live: Object) -> bool:
    """Tell whether exactly this was applied already: what differs now, somebody changed since."""
    hashes = [
        (obj["metadata"].get("annotations") or {}).get(labels.APPLIED) for obj in (body, live)
    ]
    return hashes[0] == hashes[1]


def _conflict(desired: Object, live: Object) -> str | None:
    """Return why a live object must not be touched: it has another owner, or is nobody's and not
    labelled as ours."""
    ours = desired["metadata"]["ownerReferences"][0]
    controller = next(
        (ref for ref in live["metadata"].get("ownerReferences", ()) if ref.get("controller")), None
    )
    key = key_of(desired)
    if controller is not None:
        if controller["uid"] == ours["uid"]:
            return None
        holder = f"{controller['kind']} {controller['name']}"
    elif (live["metadata"].get("labels") or {}).get(labels.MANAGED_BY) == labels.PART_OF:
        return None
    else:
        holder = "somebody else (no owner, not labelled as ours)"
    return (
        f"{key.kind} {key.namespace}/{key.name} belongs to {holder}: rename this {ours['kind']},"
        f" or delete that {key.kind}"
    )


def _of_a_former_self(desired: Object, live: Object) -> bool:
    """Tell whether a child belongs to a deleted resource of the same kind and name."""
    ours = desired["metadata"]["ownerReferences"][0]
    return any(
        ref.get("controller")
        and (ref["kind"], ref["name"]) == (ours["kind"], ours["name"])
        and ref["uid"] != ours["uid"]
        for ref in live["metadata"].get("ownerReferences", ())
    )


def _owned_by(child: Object, owner: Object) -> bool:
    uid = owner["metadata"]["uid"]
    return any(ref["uid"] == uid for ref in child["metadata"].get("ownerReferences", ()))

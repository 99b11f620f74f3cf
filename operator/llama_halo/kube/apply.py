"""Applies a plan: writes only the objects that differ from it and prunes owned children."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from llama_halo.contract import labels
from llama_halo.contract.reasons import ConditionType
from llama_halo.errors import ClusterError, NotFound
from llama_halo.kube.cache import Key, Object, ObjectCache, key_of, watched_part
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
    """The result of applying a plan."""

    changed: list[str] = field(default_factory=list)
    """One entry for each write: `KIND/NAME: ` and the path of the first field that differed, or
    `absent` or `removed`."""
    conflict: str | None = None
    """Message: an object of a planned name has another owner, so it was not written."""
    blocked: str | None = None
    """Message: a child of a deleted resource with the owner's name still exists."""
    contested: str | None = None
    """Message: something else reverts a field of a child after each repair."""
    refused: str | None = None
    """Message: the API server rejected an object as invalid (HTTP 400 or 422)."""


async def apply_and_prune(
    cluster: KubeApi, cache: ObjectCache, repairs: RepairLimiter, owner: Object, plan: Plan
) -> Applied:
    """Apply a plan's objects in order, then delete the owner's other children of kinds in `PRUNED`.

    Stops at the first object that has a conflict, is blocked or is refused. Raises `ClusterError`
    for any other error answer.
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
    drift = difference(watched_part(body), live) if live else "absent"
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
    """Tell whether an existing child may be written; `applied` gets the message of a refusal."""
    key = key_of(desired)
    if "deletionTimestamp" in live["metadata"]:
        return False  # its deletion triggers a reconcile, which creates it again
    if _belongs_to_deleted_namesake(desired, live):
        applied.blocked = (
            f"{key.kind} {key.name} of a deleted resource with this name still exists: the operator"
            " continues when the garbage collector has deleted it"
        )
        return False
    applied.conflict = _conflict(desired, live)
    if applied.conflict:
        return False
    if _is_applied(body, live) and not repairs.try_acquire(key, time.monotonic()):
        applied.contested = (
            f"{key.kind} {key.name}: something else changes {drift} back after every repair (a"
            " webhook, an autoscaler, another controller?): stop it, or exclude the field from it"
        )
        return False
    return True


async def _read_live(cluster: KubeApi, cache: ObjectCache, key: Key) -> Object | None:
    """Read an object that the cache lacks: the cache holds only children with our label."""
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
        if not _is_owned_by(child, owner) or "deletionTimestamp" in child["metadata"]:
            continue
        uid = child["metadata"]["uid"]
        if await cluster.delete(BY_KIND[key.kind], key.namespace, key.name, uid=uid):
            cache.forget(child, is_own_write=True)
        applied.changed.append(f"{key.kind}/{key.name}: removed")


async def apply_status(
    cluster: KubeApi, cache: ObjectCache, owner: Object, status: Any
) -> Object | None:
    """Write a resource's status if it differs; return the API server's reply, None if it did not
    write."""
    current = owner.get("status") or {}
    same = difference(status, current) is None and _has_no_extra(current, status)
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


def _has_no_extra(current: Any, status: Any) -> bool:
    """Tell whether `current` has no field, and no condition of ours, that the new status lacks."""
    types = {condition["type"] for condition in status["conditions"]}
    extra = {condition["type"] for condition in current.get("conditions", ())} - types
    return not extra.intersection(ConditionType) and set(current) <= set(status)


def with_applied_hash(desired: Object) -> dict[str, Any]:
    """Return the object with an annotation that holds the hash of its fields.

    Dropping a field changes the hash, so that apply removes the field from the live object.
    """
    metadata = dict(desired["metadata"])
    annotations = dict(metadata.get("annotations", {}))
    annotations[labels.APPLIED] = content_hash(desired)
    return {**desired, "metadata": {**metadata, "annotations": annotations}}


def _is_applied(body: Object, live: Object) -> bool:
    """Tell whether this exact object was applied before: a difference is then somebody's change."""
    hashes = [
        (obj["metadata"].get("annotations") or {}).get(labels.APPLIED) for obj in (body, live)
    ]
    return hashes[0] == hashes[1]


def _conflict(desired: Object, live: Object) -> str | None:
    """Return a message if a live object belongs to somebody else, None if it may be written.

    It may be written if its controller is our owner, or if it has no controller and carries our
    managed-by label.
    """
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
        holder = (
            f"somebody else (it has no owner and no label {labels.MANAGED_BY}={labels.PART_OF})"
        )
    return (
        f"{key.kind} {key.namespace}/{key.name} belongs to {holder}: rename this {ours['kind']},"
        f" or delete that {key.kind}"
    )


def _belongs_to_deleted_namesake(desired: Object, live: Object) -> bool:
    """Tell whether a child belongs to a deleted resource of the same kind and name."""
    ours = desired["metadata"]["ownerReferences"][0]
    return any(
        ref.get("controller")
        and (ref["kind"], ref["name"]) == (ours["kind"], ours["name"])
        and ref["uid"] != ours["uid"]
        for ref in live["metadata"].get("ownerReferences", ())
    )


def _is_owned_by(child: Object, owner: Object) -> bool:
    uid = owner["metadata"]["uid"]
    return any(ref["uid"] == uid for ref in child["metadata"].get("ownerReferences", ()))

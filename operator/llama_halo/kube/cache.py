"""The newest known version of every watched object; reconciles read it, not the API server.

Watch events, full lists and the replies to our own writes update it. Within one uid, a lower
resourceVersion neither replaces a higher one nor restores a deleted object.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from llama_halo.api import llamamodel, modelrouter
from llama_halo.contract import labels
from llama_halo.kube.resources import METADATA_ONLY

Object = Mapping[str, Any]
TOMBSTONES = 10_000


_OWNER_LABELS = (
    (labels.MODEL, llamamodel.KIND),
    (labels.ROUTER, modelrouter.KIND),
    (labels.FILES_OF, llamamodel.KIND),
)
Listener = Callable[["Key", frozenset["Key"], bool], None]
"""Receives a changed object's key, its owners before and after, and whether we wrote it."""


class Key(NamedTuple):
    """An object's kind, namespace (empty for cluster-scoped kinds) and name.

    It is a tuple because a reconcile hashes and compares keys some hundred times.
    """

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else self.name


def key_of(obj: Object) -> Key:
    """Return the key of an object."""
    metadata = obj["metadata"]
    return Key(obj["kind"], metadata.get("namespace", ""), metadata["name"])


def owner_key(obj: Object) -> Key | None:
    """Return the key of the LlamaModel or ModelRouter that owns an object, None without one.

    Labels take precedence over ownerReferences.
    """
    metadata = obj["metadata"]
    namespace, object_labels = metadata.get("namespace", ""), metadata.get("labels") or {}
    for label, kind in _OWNER_LABELS:
        if label in object_labels:
            return Key(kind, namespace, object_labels[label])
    for owner in metadata.get("ownerReferences") or ():
        if owner["kind"] in (llamamodel.KIND, modelrouter.KIND):
            return Key(owner["kind"], namespace, owner["name"])
    return None


def watched_part(obj: Object) -> dict[str, Any]:
    """Return what the operator reads of an object; of most kinds all but the managed fields."""
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    kind = obj["kind"]
    if kind in METADATA_ONLY:
        return {"apiVersion": obj["apiVersion"], "kind": kind, "metadata": metadata}
    part = {**obj, "metadata": metadata}
    if kind == "Pod":
        part["spec"] = _pod_spec(obj.get("spec") or {})
    elif kind == "Node":
        status = obj.get("status") or {}
        part["status"] = {name: value for name, value in status.items() if name != "images"}
    return part


def _pod_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    part = {name: spec[name] for name in ("nodeName", "volumes", "affinity") if name in spec}
    containers = spec.get("containers")
    part["containers"] = [
        {name: container[name] for name in ("name", "resources") if name in container}
        for container in (containers if isinstance(containers, list) else ())
        if isinstance(container, dict)
    ]
    return part


class ObjectCache:
    """Objects indexed by key, by kind and by owner."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}
        self._by_kind: dict[str, dict[Key, Object]] = defaultdict(dict)
        self._by_owner: dict[Key, dict[Key, Object]] = defaultdict(dict)
        self._deleted: dict[str, int] = {}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call a listener for every change, own writes included; it must only record the change."""
        self._listeners.append(listener)

    def observe(self, obj: Object, *, is_own_write: bool = False) -> bool:
        """Store an object unless the cache holds a newer version; return whether it stored it."""
        uid, version = obj["metadata"]["uid"], _version(obj)
        key = key_of(obj)
        old = self._objects.get(key)
        if version <= self._deleted.get(uid, -1):
            return False
        if old is not None:
            if old["metadata"]["uid"] == uid and _version(old) >= version:
                return False
            # Another uid under this name: keep the object that was created later, which has the
            # higher version.
            if old["metadata"]["uid"] != uid and _version(old) > version:
                return False
        self._deleted.pop(uid, None)
        self._put(key, obj, is_own_write)
        return True

    def forget(self, obj: Object, *, is_own_write: bool = False) -> bool:
        """Remove a deleted object; return whether the cache held it."""
        key, uid = key_of(obj), obj["metadata"]["uid"]
        old = self._objects.get(key)
        if old is not None and old["metadata"]["uid"] == uid and _version(old) > _version(obj):
            return False
        self._record_deletion(uid, _version(obj))
        if old is None or old["metadata"]["uid"] != uid:
            return False
        self._drop(key, is_own_write)
        return True

    def replace(
        self, kind: str, items: Iterable[Object], version: int, *, namespace: str | None = None
    ) -> None:
        """Store a full list that was taken at a resourceVersion.

        Removes the objects that the list lacks, except those that are newer than the list.
        """
        listed = {key_of(item): item for item in items}
        for item in listed.values():
            self.observe(item)
        for key, old in list(self._by_kind[kind].items()):
            gone = key not in listed and _version(old) <= version
            if gone and namespace in (None, key.namespace):
                self._record_deletion(old["metadata"]["uid"], version)
                self._drop(key)

    def get(self, key: Key) -> Object | None:
        """Return an object, None when the cache lacks it."""
        return self._objects.get(key)

    def all(self, kind: str) -> list[Object]:
        """Return every object of a kind."""
        return list(self._by_kind[kind].values())

    def in_namespace(self, kind: str, namespace: str) -> list[Object]:
        """Return every object of a kind in a namespace."""
        return [obj for key, obj in self._by_kind[kind].items() if key.namespace == namespace]

    def children(self, owner: Key, kind: str | None = None) -> list[Object]:
        """Return the objects that a resource owns, sorted by kind and name."""
        children = self._by_owner.get(owner, {})
        return [children[key] for key in sorted(children) if kind in (None, key.kind)]

    def _put(self, key: Key, obj: Object, is_own_write: bool) -> None:
        former = self._remove(key)
        slim = watched_part(obj)
        self._objects[key] = slim
        self._by_kind[key.kind][key] = slim
        owner = owner_key(slim)
        if owner is not None:
            self._by_owner[owner][key] = slim
        self._notify(key, {former, owner}, is_own_write)

    def _drop(self, key: Key, is_own_write: bool = False) -> None:
        self._notify(key, {self._remove(key)}, is_own_write)

    def _notify(self, key: Key, owners: set[Key | None], is_own_write: bool) -> None:
        affected = frozenset(owner for owner in owners if owner is not None)
        for listener in self._listeners:
            listener(key, affected, is_own_write)

    def _remove(self, key: Key) -> Key | None:
        """Remove an object from all indexes; return its owner."""
        old = self._objects.pop(key, None)
        if old is None:
            return None
        self._by_kind[key.kind].pop(key, None)
        owner = owner_key(old)
        if owner is not None:
            siblings = self._by_owner[owner]
            siblings.pop(key, None)
            if not siblings:
                del self._by_owner[owner]
        return owner

    def _record_deletion(self, uid: str, version: int) -> None:
        """Record the version at which a uid was deleted, so that a late event does not restore it.

        A newer event restores it: an object also leaves a labelled watch when it loses the label.
        """
        self._deleted[uid] = max(version, self._deleted.pop(uid, -1))
        while len(self._deleted) > TOMBSTONES:
            self._deleted.pop(next(iter(self._deleted)))


def _version(obj: Object) -> int:
    return int(obj["metadata"].get("resourceVersion") or 0)

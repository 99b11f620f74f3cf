"""The last seen state of every object that we watch; reconciling reads this, not the API server.

Fed by watch events, by the replies of our own writes, and by full lists. Within one uid a lower
resourceVersion never replaces a higher one, nor does it bring back an object that left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from llama_halo.api import llamamodel, modelrouter
from llama_halo.contract import labels

Object = Mapping[str, Any]
TOMBSTONES = 10_000


_OWNER_LABELS = (
    (labels.MODEL, llamamodel.KIND),
    (labels.ROUTER, modelrouter.KIND),
    (labels.FILES_OF, llamamodel.KIND),
)
Listener = Callable[["Key", Object | None], object]
"""Is told what an object is now, None when it is gone."""


class Key(NamedTuple):
    """Which object: kind, namespace (empty for nodes), name.

    A tuple, for keys are hashed and compared some hundred times a reconcile.
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
    """Return the key of the resource that an object belongs to, by its labels or its owner."""
    metadata = obj["metadata"]
    namespace, object_labels = metadata.get("namespace", ""), metadata.get("labels") or {}
    for label, kind in _OWNER_LABELS:
        if label in object_labels:
            return Key(kind, namespace, object_labels[label])
    for owner in metadata.get("ownerReferences", ()):
        if owner["kind"] in (llamamodel.KIND, modelrouter.KIND):
            return Key(owner["kind"], namespace, owner["name"])
    return None


class ObjectCache:
    """Objects by key, and children by owner."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}
        self._by_kind: dict[str, dict[Key, Object]] = defaultdict(dict)
        self._by_owner: dict[Key, dict[Key, Object]] = defaultdict(dict)
        self._deleted: dict[str, int] = {}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Have every change told at once, whoever made it: a watch, a list or our own write."""
        self._listeners.append(listener)

    def observe(self, obj: Object) -> tuple[Object, ...]:
        """Take in an object as seen; return what is news: it, and what it was for another owner."""
        uid, version = obj["metadata"]["uid"], _version(obj)
        key = key_of(obj)
        old = self._objects.get(key)
        if version <= self._deleted.get(uid, -1):
            return ()
        if old is not None:
            if old["metadata"]["uid"] == uid and _version(old) >= version:
                return ()
            # Another uid under this name: the later created one counts, and later has the
            # higher version.
            if old["metadata"]["uid"] != uid and _version(old) > version:
                return ()
        self._deleted.pop(uid, None)
        self._put(key, obj)
        return _with_former(obj, old)

    def forget(self, obj: Object) -> tuple[Object, ...]:
        """Take in that an object was deleted; return what is news, as `observe` does."""
        key, uid = key_of(obj), obj["metadata"]["uid"]
        old = self._objects.get(key)
        if old is not None and old["metadata"]["uid"] == uid and _version(old) > _version(obj):
            return ()
        self._bury(uid, _version(obj))
        if old is None or old["metadata"]["uid"] != uid:
            return ()
        self._drop(key)
        return _with_former(obj, old)

    def replace(
        self, kind: str, items: Iterable[Object], version: int, *, namespace: str | None = None
    ) -> list[Object]:
        """Take in a full list at a resourceVersion; return every object that differs.

        Only objects that are not newer than the list are removed when it lacks them.
        """
        listed = {key_of(item): item for item in items}
        changed = [news for item in listed.values() for news in self.observe(item)]
        for key, old in list(self._by_kind[kind].items()):
            gone = key not in listed and _version(old) <= version
            if gone and namespace in (None, key.namespace):
                self._bury(old["metadata"]["uid"], version)
                self._drop(key)
                changed.append(old)
        return changed

    def get(self, key: Key) -> Object | None:
        """Return an object, None when it is not there."""
        return self._objects.get(key)

    def all(self, kind: str) -> list[Object]:
        """Return every object of a kind."""
        return list(self._by_kind[kind].values())

    def in_namespace(self, kind: str, namespace: str) -> list[Object]:
        """Return every object of a kind in a namespace."""
        return [obj for key, obj in self._by_kind[kind].items() if key.namespace == namespace]

    def children(self, owner: Key, kind: str | None = None) -> list[Object]:
        """Return what belongs to a resource by its labels, sorted by name."""
        children = self._by_owner.get(owner, {})
        return [children[key] for key in sorted(children) if kind in (None, key.kind)]

    def _put(self, key: Key, obj: Object) -> None:
        self._take_out(key)
        slim = {**obj, "metadata": dict(obj["metadata"])}
        slim["metadata"].pop("managedFields", None)
        self._objects[key] = slim
        self._by_kind[key.kind][key] = slim
        owner = owner_key(slim)
        if owner is not None:
            self._by_owner[owner][key] = slim
        self._tell(key, slim)

    def _drop(self, key: Key) -> None:
        self._take_out(key)
        self._tell(key, None)

    def _tell(self, key: Key, obj: Object | None) -> None:
        for listener in self._listeners:
            listener(key, obj)

    def _take_out(self, key: Key) -> None:
        old = self._objects.pop(key, None)
        if old is None:
            return
        self._by_kind[key.kind].pop(key, None)
        owner = owner_key(old)
        if owner is not None:
            siblings = self._by_owner[owner]
            siblings.pop(key, None)
            if not siblings:
                del self._by_owner[owner]

    def _bury(self, uid: str, version: int) -> None:
        """Remember when a uid left, so that a late event does not bring it back.

        A newer one does: an object leaves a labelled watch also by losing the label.
        """
        self._deleted[uid] = max(version, self._deleted.pop(uid, -1))
        while len(self._deleted) > TOMBSTONES:
            self._deleted.pop(next(iter(self._deleted)))


def _with_former(obj: Object, old: Object | None) -> tuple[Object, ...]:
    """Return an object, and its former self if that belonged to somebody else."""
    if old is None or owner_key(old) == owner_key(obj):
        return (obj,)
    return (obj, old)


def _version(obj: Object) -> int:
    return int(obj["metadata"].get("resourceVersion") or 0)

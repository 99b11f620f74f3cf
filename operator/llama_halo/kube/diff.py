"""Compares a live object with the values that the operator sets; ignores fields of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Lists whose items the API server identifies by keys; other lists are compared by position.
_MERGE_KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "containers": (("name",),),
    "env": (("name",),),
    "volumes": (("name",),),
    "volumeMounts": (("mountPath",),),
    "ports": (("containerPort", "protocol"), ("port", "protocol")),
    "ownerReferences": (("uid",),),
    "imagePullSecrets": (("name",),),
    "resourceClaims": (("name",),),
    "claims": (("name",),),
    "conditions": (("type",),),
}


# Maps that the API server treats as atomic: an additional entry is a difference.
_ATOMIC_MAPS = frozenset({"selector", "matchLabels", "nodeSelector"})


def difference(desired: Any, live: Any, path: str = "") -> str | None:
    """Return the path of the first value of `desired` that `live` lacks, None when it has all."""
    if desired == live:
        return None
    if isinstance(desired, (dict, Mapping)):
        return _map_difference(desired, live, path)
    if isinstance(desired, (list, tuple)):
        return _list_difference(desired, live, path)
    return path


def _map_difference(desired: Mapping[str, Any], live: Any, path: str) -> str | None:
    if not isinstance(live, (dict, Mapping)):
        return path
    if path.rpartition(".")[2] in _ATOMIC_MAPS and live.keys() - desired.keys():
        return path
    for key, value in desired.items():
        here = f"{path}.{key}" if path else key
        if live.get(key) is None:
            if value in ("", [], {}):
                continue  # the API server omits empty values, or has null for them
            return here
        differing = difference(value, live[key], here)
        if differing:
            return differing
    return None


def _list_difference(desired: Sequence[Any], live: Any, path: str) -> str | None:
    if not isinstance(live, (list, Sequence)) or isinstance(live, str):
        return path
    keys = _keys(path.rpartition(".")[2], desired)
    if keys is None:
        if len(desired) != len(live):
            return path
        pairs = [(item, live[index], str(index)) for index, item in enumerate(desired)]
    else:
        by_key = {tuple(item.get(key) for key in keys): item for item in live}
        pairs = [
            (item, by_key.get(tuple(item.get(key) for key in keys)), str(item[keys[0]]))
            for item in desired
        ]
    for item, other, name in pairs:
        differing = difference(item, other, f"{path}[{name}]")
        if differing:
            return differing
    return None


def _keys(field: str, desired: Sequence[Any]) -> tuple[str, ...] | None:
    for keys in _MERGE_KEYS.get(field, ()):
        if all(isinstance(item, Mapping) and keys[0] in item for item in desired):
            return keys
    return None

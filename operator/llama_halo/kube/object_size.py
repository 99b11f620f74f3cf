"""Bounds the memory that one object of the cluster takes in the operator.

Whoever may create an object in one namespace decides how large it is, up to 1.5 MiB of JSON, which
can be 30 MiB of Python objects.
"""

from __future__ import annotations

import json
from typing import Any

from llama_halo.errors import MalformedAnswer
from llama_halo.kube.cache import watched_part
from llama_halo.kube.protocol import Json
from llama_halo.kube.resources import OWNERS, Resource

MAX_WEIGHT_BYTES = 2**19
"""Of the memory that an object takes; ordinary ones take 5 to 100 KiB."""
TOO_LARGE = "llama-halo.dev/too-large"
"""The only field of a spec that was left out, with the memory that the object would take."""
_CONTAINER_BYTES, _ENTRY_BYTES, _SCALAR_BYTES = 64, 24, 50
_MAX_BYTES_PER_CHARACTER = 36
"""Of JSON: lists in lists, `[[]]`, weigh the most for their length."""
_KEPT_METADATA = (
    *("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"),
    "deletionTimestamp",
)


def bounded(resource: Resource, obj: Json) -> Json:
    """Return the part of an object that the operator watches.

    A LlamaModel or ModelRouter that is too large comes without its spec, so that its status can
    say so. Raises `MalformedAnswer` for any other object that is too large.
    """
    part = watched_part(obj)
    if _is_small(part):
        return part
    weight = weight_of(part)
    if weight <= MAX_WEIGHT_BYTES:
        return part
    if resource not in OWNERS:
        raise MalformedAnswer(f"it is too large: more than {MAX_WEIGHT_BYTES // 1024} KiB")
    status = obj.get("status") or {}
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": {
            name: value for name, value in obj["metadata"].items() if name in _KEPT_METADATA
        },
        "spec": {TOO_LARGE: weight},
        "status": status if weight_of(status) <= MAX_WEIGHT_BYTES else {},
    }


def _is_small(obj: Json) -> bool:
    """Tell by the length of its JSON whether an object cannot reach the bound.

    This takes a tenth of the time of weighing.
    """
    try:
        text = json.dumps(obj)
    except RecursionError:
        return False
    return len(text) * _MAX_BYTES_PER_CHARACTER <= MAX_WEIGHT_BYTES


def weight_of(value: Any) -> int:
    """Return about how many bytes of memory a value takes; it stops counting above the bound."""
    weight, stack = 0, [value]
    while stack and weight <= MAX_WEIGHT_BYTES:
        part = stack.pop()
        if isinstance(part, dict):
            weight += _CONTAINER_BYTES + sum(_ENTRY_BYTES + len(key) for key in part)
            stack.extend(part.values())
        elif isinstance(part, list):
            weight += _CONTAINER_BYTES + 8 * len(part)
            stack.extend(part)
        else:
            weight += _SCALAR_BYTES + (len(part) if isinstance(part, str) else 0)
    return weight

"""Bounds the memory that one object of the cluster takes in the operator.

Whoever may create an object in one namespace decides how large it is, up to 1.5 MiB of JSON, which
can be 30 MiB of Python objects.
"""

from __future__ import annotations

import json
import re
from typing import Any

from llama_halo.errors import MalformedAnswer
from llama_halo.kube.cache import watched_part
from llama_halo.kube.protocol import Json
from llama_halo.kube.resources import OWNERS, Resource

MAX_WEIGHT_BYTES = 2**19
"""Of the memory that an object takes; ordinary ones take 5 to 100 KiB."""
MAX_LEVELS = 200
"""Of objects and lists in each other; ordinary objects have 15."""
TOO_LARGE = "llama-halo.dev/too-large"
"""The only field of a spec that was left out."""
_OURS = re.compile(r"llama-halo\.dev/|fluxcd\.io/")
"""Annotations that the operator reads, or writes."""
_CONTAINER_BYTES, _ENTRY_BYTES, _SCALAR_BYTES = 64, 24, 50
_MAX_BYTES_PER_CHARACTER = 36
"""Of JSON: lists in lists, `[[]]`, weigh the most for their length."""
_KEPT_METADATA = (
    *("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"),
    "deletionTimestamp",
)


def bounded(resource: Resource, obj: Json) -> Json:
    """Return the part of an object that the operator watches.

    An object that is too large or too deep comes without the annotations of others. If that is not
    enough, a LlamaModel or ModelRouter comes without its spec, so that its status can say so, and
    for any other object it raises `MalformedAnswer`.
    """
    part = watched_part(obj)
    if _is_small(part) or weight_of(part) <= MAX_WEIGHT_BYTES:
        return part
    annotations = part["metadata"].get("annotations") or {}
    kept = {name: text for name, text in annotations.items() if _OURS.search(name)}
    part = {**part, "metadata": {**part["metadata"], "annotations": kept}}
    if weight_of(part) <= MAX_WEIGHT_BYTES:
        return part
    if resource not in OWNERS:
        raise MalformedAnswer(
            f"it takes more than {MAX_WEIGHT_BYTES // 1024} KiB, or has more than {MAX_LEVELS}"
            " levels"
        )
    return without_spec(obj)


def without_spec(obj: Json) -> Json:
    """Return a resource without its spec, which is too large or too deep."""
    status = obj.get("status") or {}
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": {
            name: value for name, value in obj["metadata"].items() if name in _KEPT_METADATA
        },
        "spec": {TOO_LARGE: True},
        "status": status if weight_of(status) <= MAX_WEIGHT_BYTES else {},
    }


def _is_small(obj: Json) -> bool:
    """Tell by its JSON whether an object can reach neither bound.

    This takes a tenth of the time of weighing.
    """
    try:
        text = json.dumps(obj)
    except RecursionError:
        return False
    levels = text.count("{") + text.count("[")
    return levels <= MAX_LEVELS and len(text) * _MAX_BYTES_PER_CHARACTER <= MAX_WEIGHT_BYTES


def weight_of(value: Any) -> int:
    """Return about how many bytes of memory a value takes.

    It stops counting above the bound. A value of too many levels is above it.
    """
    weight, stack = 0, [(value, MAX_LEVELS)]
    while stack and weight <= MAX_WEIGHT_BYTES:
        part, levels = stack.pop()
        if levels < 0:
            return MAX_WEIGHT_BYTES + 1
        if isinstance(part, dict):
            weight += _CONTAINER_BYTES + sum(_ENTRY_BYTES + len(key) for key in part)
            stack.extend((inner, levels - 1) for inner in part.values())
        elif isinstance(part, list):
            weight += _CONTAINER_BYTES + 8 * len(part)
            stack.extend((inner, levels - 1) for inner in part)
        else:
            weight += _SCALAR_BYTES + (len(part) if isinstance(part, str) else 0)
    return weight

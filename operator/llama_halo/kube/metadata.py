"""What every listed or watched object has, metadata and conditions, with the types that the
operator relies on."""

from __future__ import annotations

from typing import Any

from llama_halo.api_server import entry_of
from llama_halo.errors import MalformedAnswer
from llama_halo.kube.protocol import Json
from llama_halo.kube.resources import Resource

MAX_NAME = 253
"""Characters of a name; uids and times are shorter."""
MAX_DIGITS = 20
"""Of a resourceVersion, which is a number of 64 bits."""


def listed_object(resource: Resource, obj: Any) -> Json:
    """Return a listed or watched object with its apiVersion and kind.

    Raises `MalformedAnswer` if its metadata does not have the types that every object's has.
    """
    metadata = entry_of(obj, "metadata", dict)
    named = ("name", "uid", "creationTimestamp", *(("namespace",) if resource.namespaced else ()))
    for name in named:
        if not 0 < len(entry_of(metadata, name, str)) <= MAX_NAME:
            raise MalformedAnswer(f"an object's {name} is empty or too long")
    version_of(metadata)
    for name, kind in (("labels", dict), ("annotations", dict), ("ownerReferences", list)):
        entry_of({name: metadata.get(name) or kind()}, name, kind)
    for name in ("labels", "annotations"):
        for key in metadata.get(name) or {}:
            entry_of(metadata[name], key, str)
    for owner in metadata.get("ownerReferences") or ():
        for name in ("kind", "name", "uid"):
            entry_of(owner, name, str)
    entry_of({"generation": 0, **metadata}, "generation", int)
    for name in ("spec", "status"):
        entry_of({name: obj.get(name) or {}}, name, dict)
    status = obj.get("status") or {}
    if "conditions" in status:
        for condition in entry_of(status, "conditions", list):
            entry_of(condition, "type", str)
            entry_of(condition, "status", str)
    # An object of a list lacks both, and one of a metadata-only watch has others.
    return {**obj, "apiVersion": resource.api_version, "kind": resource.kind}


def version_of(metadata: Json) -> int:
    """Return the resourceVersion as a number, so that versions of one kind can be compared."""
    version = metadata.get("resourceVersion")
    if not isinstance(version, str) or not version.isdecimal() or len(version) > MAX_DIGITS:
        raise MalformedAnswer(f"the API server's answer has resourceVersion {version!r:.40}")
    return int(version)

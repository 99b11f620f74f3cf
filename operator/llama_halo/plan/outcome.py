"""The three outcomes of planning, as types; `controllers` and `status` match on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_halo.contract.reasons import Reason

Object = Mapping[str, Any]
"""A Kubernetes object as the API server takes it."""


@dataclass(frozen=True)
class Ref:
    """What an object is called inside the owner's namespace."""

    kind: str
    name: str


def ref_of(obj: Object) -> Ref:
    """Return the reference of an object."""
    return Ref(kind=obj["kind"], name=obj["metadata"]["name"])


@dataclass(frozen=True)
class Wait:
    """Nothing is written now; the reason says what is awaited, and what runs stays as it is."""

    reason: Reason
    message: str
    after_seconds: float | None = None


@dataclass(frozen=True)
class Invalid:
    """A mistake that only a person can mend; nothing is written and what runs stays as it is."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Plan:
    """The complete set of children: these are applied, others of ours are removed."""

    objects: tuple[Object, ...]
    keep: frozenset[Ref] = frozenset()
    """Children that stay as they are for now: their turn to roll comes later."""
    config_hash: str = ""
    replicas: int = 0
    waiting: Wait | Invalid | None = None
    """Why fewer replicas than asked for have a node."""
    idle: bool = False
    """On demand, and wanted by nobody: there is to be no pod."""
    rolls: frozenset[str] = frozenset()
    """Nodes where what runs is replaced now."""
    awaits_turn: frozenset[str] = frozenset()
    """Nodes where it is to be replaced once another model there has been."""
    idle_deadline: str | None = None
    """How long, at most, a replacement waits for the requests of what runs; a Go duration. None: no
    replacement waits."""
    is_rolled: bool = True
    """No change of what runs is known that is not there yet."""
    unrecorded: bool = False
    """Jobs have answered what the status does not say yet: they go once it does."""


Outcome = Plan | Wait | Invalid

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
    """The kind and name of an object in the owner's namespace."""

    kind: str
    name: str


def ref_of(obj: Object) -> Ref:
    """Return the reference of an object."""
    return Ref(kind=obj["kind"], name=obj["metadata"]["name"])


@dataclass(frozen=True)
class Wait:
    """A plan that waits writes nothing; running pods stay. The reason says what it waits for."""

    reason: Reason
    message: str
    after_seconds: float | None = None


@dataclass(frozen=True)
class Invalid:
    """A mistake that only a person can correct. The plan writes nothing, and running pods stay."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Plan:
    """The complete set of children: `objects` are applied, `keep` stays, others are pruned."""

    objects: tuple[Object, ...]
    keep: frozenset[Ref] = frozenset()
    """Children that stay as they are, for example a Deployment that waits for its rollout turn."""
    config_hash: str = ""
    replicas: int = 0
    waiting: Wait | Invalid | None = None
    """Why fewer replicas than requested can run."""
    idle: bool = False
    """Whether the model is on demand and nobody wants it, so that it gets no pod."""
    rolls: frozenset[str] = frozenset()
    """Nodes where the running version is replaced now."""
    awaits_turn: frozenset[str] = frozenset()
    """Nodes where the replacement waits until another model's rollout turn ends."""
    idle_deadline: str | None = None
    """The longest time that a replacement waits for running requests, a Go duration. None if no
    replacement waits."""
    is_rolled: bool = True
    """Whether no known change of the running version is pending."""
    unrecorded: bool = False
    """Whether Jobs have results that the status lacks; they are deleted once it has them."""


Outcome = Plan | Wait | Invalid

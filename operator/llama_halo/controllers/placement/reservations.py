"""An index of what pods and Deployments reserve on nodes, updated with each change of the cache.

Placement runs only when a reservation changed, because most changes of a pod do not matter to it.
It reads the sums of the index instead of every object.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from llama_halo.contract import labels
from llama_halo.kube.cache import Key, Object, owner_key
from llama_halo.plan.facts import MemoryReservation
from llama_halo.plan.node_selection import placed_on
from llama_halo.plan.quantity import mebibytes

_ENDED = ("Succeeded", "Failed")
_Place = tuple[str, str, str]
"""Namespace, Deployment, node."""


MAX_DIGEST_CHARACTERS = 64
_NO_PLACE = re.compile(r"Insufficient \S|Too many pods|had volume node affinity conflict")
"""In the scheduler's message: the node is full. Missing claims and the like are the pod's own."""
MAX_DIGITS = 9
"""Of an annotation in MiB: a longer number is more than any machine has."""


@dataclass(frozen=True)
class Reservation:
    """The reservation of one pod or Deployment of ours on a node."""

    owner: Key | None
    place: _Place
    runs: bool
    """Whether it should run: a Deployment above 0 replicas, a pod neither ended nor terminating."""
    held: MemoryReservation | None
    """The memory that it holds there, None when it holds none."""
    refused: bool = False
    """Whether the scheduler refuses the node: pods of others may use its memory or devices."""
    chosen_by: str = ""
    """Of a Deployment: the digest of the constraints by which its node was chosen."""


class ReservationIndex:
    """The reservations of all pods and Deployments, by owner and by place."""

    def __init__(self) -> None:
        self._reservations: dict[Key, Reservation] = {}
        self._by_owner: dict[Key, dict[Key, Reservation]] = defaultdict(dict)
        self._by_place: dict[_Place, dict[Key, MemoryReservation]] = defaultdict(dict)
        self._held: dict[_Place, MemoryReservation] = {}

    def note(self, key: Key, obj: Object | None) -> bool:
        """Record an object, None when it was deleted; tell whether its reservation changed."""
        old, new = self._reservations.get(key), reservation_of(key, obj) if obj else None
        if old == new:
            return False
        if old:
            del self._reservations[key]
            _remove(self._by_owner, old.owner, key)
            _remove(self._by_place, old.place, key)
            self._add_up(old.place)
        if new:
            self._reservations[key] = new
            if new.owner:
                self._by_owner[new.owner][key] = new
            if new.held:
                self._by_place[new.place][key] = new.held
                self._add_up(new.place)
        return True

    def held(self) -> list[MemoryReservation]:
        """Return the memory held on nodes.

        Terminating pods count, and Deployments whose pods do not exist yet.
        """
        return list(self._held.values())

    def current_nodes(self, owner: Key) -> tuple[str, ...]:
        """Return the nodes of a model's Deployments; those above 0 replicas come first."""
        reservations = self._of(owner, "Deployment")
        return tuple(
            reservation.place[2]
            for reservation in sorted(reservations, key=lambda reservation: not reservation.runs)
        )

    def running_nodes(self, owner: Key) -> frozenset[str]:
        """Return the nodes where a model has pods that are neither ended nor terminating."""
        return frozenset(
            reservation.place[2] for reservation in self._of(owner, "Pod") if reservation.runs
        )

    def is_to_run(self, owner: Key) -> bool:
        """Tell whether a model has a Deployment above 0 replicas."""
        return any(reservation.runs for reservation in self._of(owner, "Deployment"))

    def chosen_by(self, owner: Key) -> dict[str, str]:
        """Return the digest of the constraints by which each node of a model was chosen."""
        return {
            reservation.place[2]: reservation.chosen_by
            for reservation in self._of(owner, "Deployment")
            if reservation.runs
        }

    def refused_nodes(self, owner: Key) -> frozenset[str]:
        """Return the nodes that the scheduler refuses a model's pod."""
        return frozenset(
            reservation.place[2] for reservation in self._of(owner, "Pod") if reservation.refused
        )

    def _of(self, owner: Key, kind: str) -> list[Reservation]:
        owned = self._by_owner.get(owner)
        if not owned:
            return []
        return [owned[key] for key in sorted(owned) if key.kind == kind]

    def _add_up(self, place: _Place) -> None:
        """Sum up what one place holds: all of its pods, or its Deployment if that is more.

        A Deployment exists before its pod, and its new template before the old pod is gone. A model
        that is wanted again may have a terminating pod and a starting one.
        """
        by_key = self._by_place.get(place, {})
        reserved = [by_key[key] for key in sorted(by_key)]
        if not reserved:
            self._held.pop(place, None)
            return
        pods = {key: held for key, held in by_key.items() if key.kind == "Pod"}
        written = [held for key, held in by_key.items() if key.kind != "Pod"]
        staying = [held for key, held in pods.items() if self._reservations[key].runs]
        sides = {}
        for side in ("gpu_mib", "host_mib"):
            planned = _sum(written, side)
            sides[side] = max(_sum(pods.values(), side), planned)
            sides[f"ending_{side}"] = sides[side] - max(_sum(staying, side), planned)
        # The Deployment sorts first and names its model; a pod may have lost the label.
        self._held[place] = MemoryReservation(reserved[0].model, reserved[0].node, **sides)


def reservation_of(key: Key, obj: Object) -> Reservation | None:
    """Return the reservation of a server's pod or Deployment, None when it concerns no node."""
    chosen_by = ""
    if key.kind == "Deployment":
        annotations = obj["metadata"].get("annotations") or {}
        node, chosen_by = annotations.get(labels.NODE), annotations.get(labels.NODE_CONSTRAINTS, "")
        template, runs = obj["spec"]["template"], bool(obj["spec"].get("replicas"))
        holds = runs and not _lacks_pods(obj)
    elif key.kind == "Pod" and labels.FILES_OF not in (obj["metadata"].get("labels") or {}):
        node, template = obj.get("spec", {}).get("nodeName"), obj
        holds = obj.get("status", {}).get("phase") not in _ENDED
        runs = holds and "deletionTimestamp" not in obj["metadata"]
    else:
        return None
    if not node:
        return _refused(key, obj) if key.kind == "Pod" else None
    pod_labels = template["metadata"].get("labels") or {}
    name = pod_labels.get(labels.DEPLOYMENT)
    return Reservation(
        owner=owner_key(obj),
        place=(key.namespace, name or key.name, node),
        runs=runs,
        held=_held(key.namespace, name, node, template) if holds and name else None,
        chosen_by=chosen_by[:MAX_DIGEST_CHARACTERS],
    )


def _refused(key: Key, pod: Object) -> Reservation | None:
    """Return the reservation of a pod that the only node it may run on has no place for."""
    waits = any(
        condition["type"] == "PodScheduled"
        and condition["status"] == "False"
        and _NO_PLACE.search(condition.get("message", ""))
        for condition in pod.get("status", {}).get("conditions", ())
    )
    node = placed_on(pod.get("spec", {}))
    if not waits or not node or "deletionTimestamp" in pod["metadata"]:
        return None
    name = (pod["metadata"].get("labels") or {}).get(labels.DEPLOYMENT, key.name)
    place = (key.namespace, name, node)
    return Reservation(owner_key(pod), place, runs=False, held=None, refused=True)


def _lacks_pods(deployment: Object) -> bool:
    """Tell whether the API server refuses the Deployment's pods, as a ResourceQuota does."""
    return any(
        condition.get("type") == "ReplicaFailure" and condition.get("status") == "True"
        for condition in deployment.get("status", {}).get("conditions") or ()
    )


def _held(namespace: str, deployment: str, node: str, pod: Object) -> MemoryReservation:
    """Return the memory of a pod or template: what its annotations say, up to its requests.

    Anybody may write annotations. Requests are what the scheduler counts and a quota bounds.
    """
    # A pod without its model label is out of the Service but still holds its memory.
    model = pod["metadata"]["labels"].get(labels.MODEL, deployment)
    annotations = pod["metadata"].get("annotations") or {}
    requested = _requested_mib(pod.get("spec") or {})
    gpu = min(_whole(annotations.get(labels.GPU_MIB)), requested)
    host = min(_whole(annotations.get(labels.HOST_MIB)), requested - gpu)
    return MemoryReservation(model=f"{namespace}/{model}", node=node, gpu_mib=gpu, host_mib=host)


def _requested_mib(spec: Object) -> int:
    """Return the memory that the containers of a pod request, in MiB."""
    return sum(
        mebibytes(((container.get("resources") or {}).get("requests") or {}).get("memory", 0))
        for container in spec.get("containers") or ()
    )


def _remove(index: dict[Any, dict[Key, Any]], group: Any, key: Key) -> None:
    members = index.get(group)
    if members is not None:
        members.pop(key, None)
        if not members:
            del index[group]


def _sum(reservations: Iterable[MemoryReservation], side: str) -> int:
    return sum(getattr(reservation, side) for reservation in reservations)


def _whole(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) <= MAX_DIGITS else 0

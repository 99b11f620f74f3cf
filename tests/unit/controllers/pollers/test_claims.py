"""On which nodes a claim's volume can be used, from what the cluster says of it."""

from __future__ import annotations

from typing import Any

import pytest

from llama_halo.controllers.pollers import claims
from llama_halo.kube.cache import key_of
from llama_halo.plan.facts import ClaimFacts
from tests.support.operator_state import operator_state

Json = dict[str, Any]
SELECTED = "volume.kubernetes.io/selected-node"


def claim(*, selected: str = "", volume: str = "") -> Json:
    annotations = {SELECTED: selected} if selected else {}
    return {
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        "metadata": {"name": "models", "namespace": "llm", "annotations": annotations},
        "spec": {"accessModes": ["ReadWriteOnce"], **({"volumeName": volume} if volume else {})},
    }


def volume(*nodes: str) -> Json:
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": list(nodes)}
    term = {"matchExpressions": [expression]}
    affinity = {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}} if nodes else {}
    return {
        "kind": "PersistentVolume",
        "apiVersion": "v1",
        "metadata": {"name": "v"},
        "spec": affinity,
    }


def node(name: str) -> Json:
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "uid": name,
            "resourceVersion": "1",
            "labels": {"kubernetes.io/hostname": name},
        },
        "status": {"allocatable": {"memory": "128Gi"}},
    }


@pytest.mark.parametrize(
    ("pvc", "pv", "nodes"),
    [
        pytest.param(claim(selected="n1"), None, {"n1"}, id="a node is selected"),
        pytest.param(claim(selected="gone"), None, None, id="the selected node is gone"),
        pytest.param(
            claim(selected="n1", volume="v"), volume(), None, id="bound to a network volume"
        ),
        pytest.param(
            claim(selected="n1", volume="v"), volume("n2"), {"n2"}, id="the volume is elsewhere"
        ),
        pytest.param(claim(volume="v"), volume("n1", "n2"), {"n1", "n2"}, id="on either node"),
        pytest.param(claim(), None, None, id="nothing is known"),
    ],
)
async def test_a_volume_is_where_its_affinity_says_and_the_annotation_counts_until_it_is_bound(
    pvc: Json, pv: Json | None, nodes: set[str] | None
) -> None:
    state, cluster = operator_state()
    for obj in (pvc, pv):
        if obj:
            metadata = obj["metadata"]
            key = (obj["kind"], metadata.get("namespace", ""), metadata["name"])
            cluster.objects[key] = obj
    for name in ("n1", "n2"):
        state.cache.observe(node(name))
    facts = await claims._facts(state, key_of(pvc))
    assert facts == ClaimFacts(nodes=frozenset(nodes) if nodes else None)

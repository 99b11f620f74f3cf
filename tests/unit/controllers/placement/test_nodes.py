"""What placement reads of nodes."""

from __future__ import annotations

from typing import Any

import pytest

from llama_halo.controllers.placement.nodes import NodeIndex
from llama_halo.kube.cache import key_of

Json = dict[str, Any]


def node(**more: Any) -> Json:
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": "n1"},
        "status": {"allocatable": {"memory": "128Gi"}},
        **more,
    }


@pytest.mark.parametrize(
    ("key", "counts"),
    [
        ("node.kubernetes.io/disk-pressure", True),
        ("node.kubernetes.io/memory-pressure", True),
        ("node.kubernetes.io/pid-pressure", True),
        ("node.kubernetes.io/network-unavailable", True),
        ("node.kubernetes.io/out-of-service", True),
        ("node.cilium.io/agent-not-ready", True),
        ("node.kubernetes.io/not-ready", False),
        ("node.kubernetes.io/unreachable", False),
        ("node.kubernetes.io/unschedulable", False),
    ],
)
def test_taints_count_but_for_those_with_a_grace_period(key: str, counts: bool) -> None:
    index = NodeIndex(gpu_reserve_mib=0)
    tainted = node(spec={"taints": [{"key": key, "effect": "NoSchedule"}]})
    index.note(key_of(tainted), tainted)
    (facts,) = index.facts()
    assert [taint.key for taint in facts.taints] == ([key] if counts else [])

"""Drift: what counts as ours, and what others may add beside it."""

from __future__ import annotations

import pytest

from llama_halo.kube.diff import difference


@pytest.mark.parametrize(
    ("desired", "live", "value"),
    [
        pytest.param({"a": 1}, {"a": 1, "b": 2}, None, id="fields of others do not count"),
        pytest.param({"a": {"b": 1}}, {"a": {"b": 2}}, "a.b", id="a changed value is named"),
        pytest.param({"a": 1}, {}, "a", id="a missing field is named"),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}]},
            {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
            None,
            id="a hand-added environment entry stays",
        ),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}]},
            {"env": [{"name": "A", "value": "2"}]},
            "env[A].value",
            id="a changed environment entry is named",
        ),
        pytest.param(
            {"selector": {"a": "1"}},
            {"selector": {"a": "1", "b": "2"}},
            "selector",
            id="a selector with an entry more selects something else",
        ),
        pytest.param({"args": ["a"]}, {"args": ["a", "b"]}, "args", id="argv is compared whole"),
        pytest.param({"args": ["a"]}, {"args": ["b"]}, "args[0]", id="one word of argv is named"),
        pytest.param(
            {"containers": [{"name": "x", "image": "i"}]},
            {"containers": [{"name": "sidecar"}, {"name": "x", "image": "i", "more": 1}]},
            None,
            id="a sidecar that somebody injects stays",
        ),
        pytest.param(
            {"ports": [{"port": 80, "protocol": "TCP"}]},
            {"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}]},
            None,
            id="a node port that the API server chose stays",
        ),
        pytest.param(
            {"ownerReferences": [{"uid": "1"}]},
            {"ownerReferences": [{"uid": "2"}, {"uid": "1"}]},
            None,
            id="other owners stay",
        ),
        pytest.param(
            {"tolerations": [{"key": "a"}]},
            {"tolerations": [{"key": "a"}, {"key": "b"}]},
            "tolerations",
            id="tolerations are one value",
        ),
        pytest.param({"a": {"b": 1}}, {"a": 3}, "a", id="another type is a difference"),
        pytest.param({"a": [1]}, {"a": "1"}, "a", id="text is no list"),
        pytest.param({"value": ""}, {}, None, id="what is empty comes back as nothing"),
        pytest.param({"emptyDir": {}}, {"emptyDir": {}}, None, id="an empty choice is a choice"),
    ],
)
def test_difference(desired: object, live: object, value: str | None) -> None:
    assert difference(desired, live) == value

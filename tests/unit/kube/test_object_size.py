"""What one object may take of the operator's memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.api.llamamodel import LlamaModelSpec
from llama_halo.controllers.validate import validate
from llama_halo.errors import MalformedAnswer
from llama_halo.kube.object_size import (
    MAX_WEIGHT_BYTES,
    TOO_LARGE,
    bounded,
    weight_of,
    without_spec,
)
from llama_halo.kube.resources import BY_KIND, CONFIG_MAP, LLAMAMODEL, Resource
from llama_halo.plan.outcome import Invalid
from llama_halo.plan.restrictions import Restrictions
from tests.support.golden import cases, load, plan

Json = dict[str, Any]
WIDE = {"podAffinity": [{} for _ in range(MAX_WEIGHT_BYTES // 64)]}
"""27 KiB of JSON."""


def obj(resource: Resource, **fields: Any) -> Json:
    metadata = {
        "name": "a",
        "namespace": "ai",
        "uid": "u",
        "resourceVersion": "7",
        "annotations": {"a": "b"},
        "managedFields": [{"manager": "kubectl"}],
    }
    head = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
    return {**head, **fields}


@pytest.mark.parametrize("path", cases(), ids=lambda path: path.stem)
def test_ordinary_objects_are_far_below_the_bound(path: Any) -> None:
    resource = load(path)
    outcome = plan(resource)
    for child in (resource, *getattr(outcome, "objects", ())):
        read = bounded(BY_KIND[child["kind"]], child)
        assert read["metadata"] == child["metadata"]
        assert weight_of(child) < MAX_WEIGHT_BYTES / 10, child["kind"]


def test_a_model_that_is_too_large_comes_without_its_spec_and_says_so() -> None:
    read = bounded(LLAMAMODEL, obj(LLAMAMODEL, spec={"pod": {"affinity": WIDE}}, status={"a": 1}))
    assert read["spec"] == {TOO_LARGE: True}
    assert read["status"] == {"a": 1}
    assert read["metadata"] == {
        "name": "a",
        "namespace": "ai",
        "uid": "u",
        "resourceVersion": "7",
    }
    invalid = validate(LlamaModelSpec, read, {}, Restrictions())
    assert isinstance(invalid, Invalid)
    assert "more than 512 KiB of memory" in invalid.message


def test_an_object_of_another_kind_that_is_too_large_is_refused() -> None:
    with pytest.raises(MalformedAnswer, match="more than 512 KiB"):
        bounded(BY_KIND["Service"], obj(BY_KIND["Service"], spec=WIDE))


@pytest.mark.parametrize("levels", [300, 5000])
def test_a_model_of_too_many_levels_comes_without_its_spec(levels: int) -> None:
    deep: Any = 1
    for _ in range(levels):
        deep = {"a": deep}
    read = bounded(LLAMAMODEL, obj(LLAMAMODEL, spec={"pod": deep}))
    assert read["spec"] == {TOO_LARGE: True}


def test_annotations_of_others_hide_no_object() -> None:
    others = {f"example.com/{number}": "x" for number in range(MAX_WEIGHT_BYTES // 90)}
    resource = obj(BY_KIND["Deployment"], spec={"replicas": 1})
    resource["metadata"]["annotations"] = {"llama-halo.dev/node": "n1", **others}
    read = bounded(BY_KIND["Deployment"], resource)
    assert read["metadata"]["annotations"] == {"llama-halo.dev/node": "n1"}
    assert read["spec"] == {"replicas": 1}


def test_a_model_that_is_small_again_is_valid_in_the_same_generation() -> None:
    cache: dict[Any, Any] = {}
    small = obj(LLAMAMODEL, spec={"source": {"local": {"path": "x.gguf"}}})
    for resource, kind in ((small, LlamaModelSpec), (without_spec(small), Invalid)) * 2:
        assert isinstance(validate(LlamaModelSpec, resource, cache, Restrictions()), kind)


def test_a_status_that_is_too_large_is_left_out() -> None:
    read = bounded(LLAMAMODEL, obj(LLAMAMODEL, spec={}, status=WIDE))
    assert (read["status"], list(read["spec"])) == ({}, [TOO_LARGE])


def test_the_data_of_a_config_map_is_not_kept() -> None:
    read = bounded(CONFIG_MAP, obj(CONFIG_MAP, data={"policy.json": "x" * 2**20}))
    assert json.loads(json.dumps(read)).keys() == {"apiVersion", "kind", "metadata"}
    assert "managedFields" not in read["metadata"]


VALUES = st.recursive(
    st.none() | st.integers(0, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=1), inner),
    max_leaves=50,
)


@given(VALUES)
def test_no_json_weighs_more_than_its_length_allows(value: Any) -> None:
    assert weight_of([value]) <= 36 * len(json.dumps([value])) + 64

"""Objects with shared strings are equal to what they were, and take less memory."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.kube import shared_strings
from llama_halo.kube.shared_strings import MAX_LENGTH, share_strings

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=80), inner),
    max_leaves=20,
)


@given(VALUES)
def test_a_value_stays_what_it_is(value: Any) -> None:
    shared = share_strings(value)
    assert shared == value
    assert json.dumps(shared) == json.dumps(value)


def test_two_objects_share_their_short_texts() -> None:
    text = json.dumps({"metadata": {"name": "x" * MAX_LENGTH, "long": "y" * (MAX_LENGTH + 1)}})
    first, second = share_strings(json.loads(text)), share_strings(json.loads(text))
    assert next(iter(first)) is next(iter(second))
    assert first["metadata"]["name"] is second["metadata"]["name"]
    assert first["metadata"]["long"] is not second["metadata"]["long"]


def test_a_value_of_any_depth_is_taken() -> None:
    value: Any = "x"
    for _ in range(sys.getrecursionlimit() * 2):
        value = [value]
    assert len(share_strings(value)) == 1


def test_strings_of_others_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_strings, "MAX_STRINGS", 100)
    for number in range(50):
        share_strings([f"{number}-{part}" for part in range(10)])
    assert len(shared_strings._strings) <= 110

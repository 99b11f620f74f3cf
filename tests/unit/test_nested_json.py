"""JSON of any depth: what the parser takes is as it is, and what is too deep is cut out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.nested_json import CUT, MAX_LEVELS, _without_deep, is_cut, loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def nested(levels: int, opening: str = '{"a":', closing: str = "}") -> str:
    return opening * levels + "1" + closing * levels


@given(VALUES)
def test_a_shallow_value_comes_back(value: object) -> None:
    data = json.dumps(value).encode()
    assert loads(data) == (value, False)
    assert _without_deep(data) == data


@pytest.mark.parametrize("brackets", [('{"a":', "}"), ("[", "]"), ('{"a":[', "]}")])
@pytest.mark.parametrize("levels", [200_000, 500_000])
def test_a_deep_value_is_cut_and_its_neighbours_stay(
    brackets: tuple[str, str], levels: int
) -> None:
    text = f'{{"deep": {nested(levels, *brackets)}, "near": ["}}]{{[", "\\\\", {{"b": 2}}]}}'
    value, was_cut = loads(text.encode())
    assert was_cut
    assert is_cut(value["deep"])
    assert value["near"] == ["}]{[", "\\", {"b": 2}]
    assert not is_cut(value["near"])


def test_what_is_just_within_the_levels_is_kept() -> None:
    data = nested(MAX_LEVELS).encode()
    assert _without_deep(data) == data
    assert CUT.encode() in _without_deep(nested(MAX_LEVELS + 1).encode())


@pytest.mark.parametrize(
    "text",
    ["[" * 200_000, nested(200_000) + "}", "{" + nested(200_000)],
    ids=["open", "one too many", "one too few"],
)
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        loads(text.encode())

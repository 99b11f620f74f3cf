"""Schemas of tools, as llama-server's grammar takes them: `test_templates.py` tries it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.gateway.convert.tool_schemas import MAX_DEPTH, mended
from llama_halo.gateway.http.errors import Failure

PLAIN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "a property of that name"},
        "pattern": {"type": "string", "pattern": "^[a-z0-9_.-]{1,63}$"},
        "a": {"$ref": "#/$defs/a"},
        "b": {"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "number"}}]},
    },
    "additionalProperties": False,
    "$defs": {"a": {"enum": ["x", 1], "default": {"maxLength": 5.5}}},
}


def test_a_plain_schema_stays_the_object_that_it_is() -> None:
    assert mended(PLAIN, "tools.0") is PLAIN


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (True, {}),
        (None, {}),
        ({"items": True}, {"items": {}}),
        ({"items": False}, {"items": {"type": "null"}}),
        ({"anyOf": [True]}, {"anyOf": [{}]}),
        ({"anyOf": []}, {}),
        ({"maxLength": 5.0}, {"maxLength": 5}),
        ({"maxLength": 5.5}, {}),
        ({"maxLength": True}, {}),
        ({"maxLength": 1e400}, {}),
        ({"maxLength": float("nan")}, {}),
        ({"maxItems": 1001}, {}),
        ({"minItems": -1}, {}),
        ({"minLength": 5, "maxLength": 2}, {}),
        ({"type": "STRING"}, {"type": "string"}),
        ({"type": ["String", "null"]}, {"type": ["string", "null"]}),
        ({"type": ["string", "file"]}, {}),
        ({"type": "any", "title": "x"}, {"title": "x"}),
        ({"pattern": r"^\d+$"}, {}),
        ({"pattern": "^(a{99}){99}$"}, {}),
        ({"pattern": "^(?=a)a$"}, {}),
        ({"pattern": "^(a$"}, {}),
        ({"pattern": "^" + "a" * 600 + "$"}, {}),
        ({"additionalProperties": True}, {"additionalProperties": True}),
        ({"additionalProperties": {"type": "any"}}, {"additionalProperties": {}}),
    ],
)
def test_what_a_grammar_cannot_take_is_mended(schema: Any, expected: Any) -> None:
    assert mended(schema, "tools.0") == expected


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("string", "tools.0: a schema must be an object"),
        ({"properties": {"a": 5}}, "tools.0.properties.a: a schema must be an object"),
        ({"$ref": "other.json"}, "tools.0.\\$ref: 'other.json' refers to another document"),
        ({"$ref": "#/$defs/b"}, "leads nowhere"),
        ({"$ref": 5}, "refers to another document"),
    ],
)
def test_what_cannot_be_mended_is_refused_by_its_place(schema: Any, message: str) -> None:
    with pytest.raises(Failure, match=message):
        mended(schema, "tools.0")


def test_a_schema_that_is_too_deep_is_refused() -> None:
    schema: Any = {}
    for _ in range(MAX_DEPTH + 1):
        schema = {"items": schema}
    with pytest.raises(Failure, match="more than 64 levels"):
        mended(schema, "tools.0")


KEYWORDS = st.sampled_from(
    [
        *("type", "pattern", "minLength", "maxLength", "items", "anyOf", "properties", "$ref"),
        *("additionalProperties", "$defs", "not", "enum"),
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5000) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_mended_once_and_for_all_or_refused(schema: Any) -> None:
    try:
        once = mended(schema, "tools.0")
    except Failure as failure:
        assert failure.status == 400
        return
    assert mended(once, "tools.0") == once

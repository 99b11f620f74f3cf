"""Files that would take all memory or time, and values that would be lost without a word."""

from __future__ import annotations

import json

import pytest

from llama_halo.errors import CliError
from llama_halo.importers.documents import MAX_FILE_BYTES, document, whole_number
from llama_halo.importers.secrets import without_secrets

ALIASES = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
)
MERGES = "\n".join(
    ["a0: &a0 {k: v}"]
    + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12)]
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(ALIASES, "more than 100000 values", id="aliases of aliases"),
        pytest.param(MERGES, "more than 100000 values", id="merges of merges"),
        pytest.param("models: {a: {ttl: 1}, a: {ttl: 2}}", "line 1 has a key", id="a key twice"),
        pytest.param("ttl: " + "1:" * 3000 + "1", "a number is too long", id="a long number"),
        pytest.param("ttl: " + "9" * 5000, "a number is too long", id="many digits"),
        pytest.param("day: 2026-13-45", "a number, date or key", id="no date"),
        pytest.param("x" * (MAX_FILE_BYTES + 1), "at most", id="a large file"),
        pytest.param("[" * 2000, "is no YAML", id="no end"),
    ],
)
def test_yaml_beyond_bounds_is_refused_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(CliError, match=message) as refused:
        try:
            document("c.yaml", text)
        except RecursionError as error:  # which `text.read` turns into a sentence
            raise CliError("c.yaml is no YAML") from error
    assert len(str(refused.value)) < 200, "what the file says is not quoted"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: &x {b: 1}\nc: *x\nd: {<<: *x, b: 2}", {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 2}}),
        ("ttl: 1:59:59", {"ttl": 7199}),
        ("1: a\n'1': b", {1: "a", "1": "b"}),
        ("[1]", None),
        ("", None),
    ],
)
def test_ordinary_yaml_is_read(text: str, value: object) -> None:
    assert document("c.yaml", text) == value


def test_an_alias_to_what_contains_it_ends() -> None:
    value = document("c.yaml", "a: &a [*a]")
    assert value["a"][0] is value["a"]


def test_a_json_object_has_a_key_once() -> None:
    with pytest.raises(CliError, match="a key twice"):
        document("c.json", '{"models": {"a": 1, "a": 2}}')
    assert document("c.json", json.dumps({"a": [1]})) == {"a": [1]}


@pytest.mark.parametrize(
    ("text", "number"), [("12", 12), ("-1", -1), ("9" * 19, None), ("1.5", None), ("\u0661", None)]
)
def test_a_whole_number_has_bounds(text: str, number: int | None) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("http://u:p@host/v1?key=s", "http://host/v1"),
        ("a=http://u:p@one/x,http://u:p@two/y", "a=http://one/x,http://two/y"),
        ("my-api-key=abc", "my-api-key=…"),
        ("--flag no secret here", "--flag no secret here"),
    ],
)
def test_a_secret_in_a_word_is_removed(text: str, safe: str) -> None:
    assert without_secrets(text) == safe


@pytest.mark.parametrize(
    "word", ["a", "a://", "http://a", "passw", "api-key", "token", "bearer ", "@:/?"]
)
def test_a_text_of_a_megabyte_is_read_in_linear_time(word: str) -> None:
    """Quadratic time would be hours here, and end the test by its limit."""
    without_secrets(word * (2**20 // len(word)))

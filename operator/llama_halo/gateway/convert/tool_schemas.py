"""Schemas of tools' arguments, as llama-server's grammar takes them.

llama-server builds one grammar of all tools, so one schema that it cannot take fails the whole
request, and a few make it hang. What changes keeps the meaning, or loosens only what the grammar
enforces; a schema with a reference that leads nowhere is refused by the name of its tool. The rules
hold for builds b10434 to b11434, of which the older takes less.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from llama_halo.gateway.http.errors import Failure
from llama_halo.gateway.http.json_codec import dumps, loads

Json = dict[str, Any]
MAX_REPETITIONS = 1000
"""llama.cpp's grammar refuses larger counts of characters or items."""
MAX_DEPTH = 64
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems")
_PAIRS = (("minLength", "maxLength"), ("minItems", "maxItems"))
_TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")
_PATTERN = re.compile(
    r"\^(?:[A-Za-z0-9 _,:;@#%&=<>!~'.()|*+?-]|\\[.${}]|\{\d{1,3}(?:,\d{0,3})?\}"
    r"|\[\^?[A-Za-z0-9 _,:;@#%&=<>!~'.*+?$(){}|/-]+\])*\$"
)
_REPEATED = re.compile(r"\d{1,3}(?=,?\d{0,3}\})|(?<=,)\d{1,3}(?=\})")
MAX_PATTERN_CHARACTERS = 500
_SCHEMAS = (
    *("items", "additionalProperties", "contains", "not", "if", "then", "else"),
    *("propertyNames", "unevaluatedItems", "unevaluatedProperties"),
)
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_FLAGS = ("additionalProperties", "unevaluatedItems", "unevaluatedProperties")
"""Keywords whose boolean form llama-server takes."""
ROOT = "_root"
MAX_CACHED_BYTES = 2**17
"""Of a schema that is known to need no change."""


def are_plain(schemas: list[Any]) -> bool:
    """Tell whether the schemas of a request's tools are known to need no change."""
    data = dumps(schemas)
    return len(data) <= MAX_CACHED_BYTES and _are_plain(data)


def mended(schema: Any, path: str) -> Any:
    """Return a schema that llama-server takes; raises `Failure` (400) for one that it cannot.

    The schema itself is returned where nothing changes. `path` names the tool in the message.
    """
    if schema is True or schema is None:
        return {}
    if not isinstance(schema, dict):
        raise Failure(400, f"{path}: a schema must be an object")
    mender = _Mender(schema, path)
    result = mender.schema(schema, path, 0)
    if mender.refers_to_root:
        whole = dict(result)
        definitions = {**(whole.pop("$defs", None) or {})}
        result = {**whole, "$defs": {**definitions, ROOT: whole}}
    return result


@lru_cache(maxsize=64)
def _are_plain(data: bytes) -> bool:
    """Tell whether schemas need no change: an agent sends the same ones in each request."""
    try:
        return all(
            isinstance(schema, dict) and mended(schema, "") is schema for schema in loads(data)
        )
    except Failure:
        return False


class _Mender:
    """Mends one schema."""

    def __init__(self, root: Json, path: str) -> None:
        self._root = root
        self._path = path
        self.refers_to_root = False

    def schema(self, schema: Any, path: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise Failure(400, f"{self._path}: the schema has more than {MAX_DEPTH} levels")
        if schema is True or schema is None:
            return {}
        if schema is False:
            return {"type": "null"}  # no grammar accepts nothing
        if not isinstance(schema, dict):
            raise Failure(400, f"{path}: a schema must be an object")
        changes: Json = {}
        for name, value in schema.items():
            changed = self._keyword(name, value, f"{path}.{name}", depth + 1)
            if changed is not value:
                changes[name] = changed
        for least, most in _PAIRS:
            low, high = (changes.get(name, schema.get(name)) for name in (least, most))
            if isinstance(low, int) and isinstance(high, int) and low > high:
                changes |= {least: _LEFT_OUT, most: _LEFT_OUT}  # llama-server would hang
        if not changes:
            return schema
        both = {**schema, **changes}
        return {name: value for name, value in both.items() if value is not _LEFT_OUT}

    def _keyword(self, name: str, value: Any, path: str, depth: int) -> Any:
        if name in _CHECKED:
            return _CHECKED[name](value)
        if name == "$ref":
            return self._reference(value, path)
        if name in _MAPS and isinstance(value, dict):
            return self._schemas(value, path, depth)
        if isinstance(value, list) and (name in _LISTS or name == "items"):
            if not value:
                return _LEFT_OUT
            items = [self.schema(item, f"{path}.{n}", depth) for n, item in enumerate(value)]
            return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
        is_flag = name in _FLAGS and isinstance(value, bool)
        return self.schema(value, path, depth) if name in _SCHEMAS and not is_flag else value

    def _schemas(self, schemas: Json, path: str, depth: int) -> Json:
        after = {n: self.schema(item, f"{path}.{n}", depth) for n, item in schemas.items()}
        return after if any(after[name] is not schemas[name] for name in schemas) else schemas

    def _reference(self, value: Any, path: str) -> Any:
        if not isinstance(value, str) or not value.startswith("#"):
            shown = str(value)[:80]
            raise Failure(
                400, f"{path}: {shown!r} refers to another document: put that schema into this one"
            )
        if value in ("#", "#/"):
            self.refers_to_root = True
            return f"#/$defs/{ROOT}"
        target: Any = self._root
        for step in value.removeprefix("#/").split("/"):
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(target, list):
                target = target[int(key)] if key.isdecimal() and int(key) < len(target) else None
            else:
                target = target.get(key) if isinstance(target, dict) else None
        if target is None:
            raise Failure(400, f"{path}: {value[:80]!r} leads nowhere in this schema")
        return value


_LEFT_OUT = object()


def _count(value: Any) -> Any:
    """Return a count as an integer, and nothing for one that the grammar cannot enforce."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _LEFT_OUT
    if not 0 <= value <= MAX_REPETITIONS or value != int(value):
        return _LEFT_OUT
    return value if isinstance(value, int) else int(value)


def _type(value: Any) -> Any:
    """Return the types that JSON Schema knows, and nothing if there are none."""
    if isinstance(value, str):
        name = value if value in _TYPES else value.lower()
        return name if name in _TYPES else _LEFT_OUT
    if not isinstance(value, list):
        return _LEFT_OUT
    if all(item in _TYPES for item in value) and value:
        return value
    kept = [item.lower() for item in value if isinstance(item, str) and item.lower() in _TYPES]
    return kept if len(kept) == len(value) and kept else _LEFT_OUT


def _pattern(value: Any) -> Any:
    """Return a pattern of the few forms that every build's grammar takes, and nothing else."""
    if not isinstance(value, str) or len(value) > MAX_PATTERN_CHARACTERS:
        return _LEFT_OUT
    if not _PATTERN.fullmatch(value) or "(?" in value.replace("(?:", ""):
        return _LEFT_OUT
    size = math.prod(max(int(number), 1) for number in _REPEATED.findall(value))
    try:
        re.compile(value)
    except re.error:
        return _LEFT_OUT
    return value if size <= MAX_REPETITIONS else _LEFT_OUT


_CHECKED: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_COUNTS, _count),
    "type": _type,
    "pattern": _pattern,
}

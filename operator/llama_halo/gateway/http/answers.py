"""Reads the parts of model servers' answers that the gateway assembles.

Each function checks types and bounds where the answer is parsed, and raises `Failure` (502) for an
answer that does not have the shape of its API. The code that uses the parts relies on their types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeVar

from llama_halo.gateway.http.errors import Failure, malformed
from llama_halo.gateway.http.json_codec import count_values, dumps, loads

Json = dict[str, Any]
_Value = TypeVar("_Value")
MAX_VALUES = 300_000
"""JSON values in one answer or event, commas and brackets in its texts included: an empty list
takes three bytes of text and seventy of memory."""
MAX_HELD_BYTES, SMALL_BYTES = 96 * 2**20, 2**20
"""Bytes of unfinished answers, and of one that large ones do not keep out."""
MAX_INDEX = 1000
"""Of choices, content blocks and tool calls in one answer."""
MAX_COUNT = 2**53
_TYPES = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}


class HeldAnswer:
    """The bytes of one answer, or of one event, that has not arrived to its end."""

    __slots__ = ("_bytes",)
    total_bytes: ClassVar[int] = 0
    """Of all of them in this process."""

    def __init__(self) -> None:
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        HeldAnswer.total_bytes -= self._bytes

    def resize(self, size_bytes: int) -> None:
        """Count these bytes from now on; raises `Failure` (503) when all together are too many,
        unless this one is small."""
        HeldAnswer.total_bytes += size_bytes - self._bytes
        self._bytes = size_bytes
        if HeldAnswer.total_bytes > MAX_HELD_BYTES and size_bytes > SMALL_BYTES:
            raise Failure(503, "too many large answers at once: retry later", retry_after_seconds=5)


def parse(data: bytes | str, *, max_values: int = MAX_VALUES) -> Any:
    """Return the JSON of an answer; raises ValueError or RecursionError if it is invalid, and
    `Failure` for more values than the gateway keeps."""
    if len(data) > MAX_VALUES:
        values, containers = count_values(data)
        if containers > MAX_VALUES or values > max_values:
            raise malformed(
                f"it has too many values: {values}, of them {containers} objects and lists, where"
                f" {max_values} and {MAX_VALUES} are allowed"
            )
    return loads(data)


def optional(data: Mapping[str, Any], name: str, kind: type[_Value]) -> _Value | None:
    """Return a field of a type, None if it is absent or null."""
    value = data.get(name)
    if value is not None and not isinstance(value, kind):
        raise malformed(f"{name} is a {_TYPES.get(type(value), 'number')}")
    return value


def required(data: Mapping[str, Any], name: str, kind: type[_Value]) -> _Value:
    """Return a field of a type."""
    value = optional(data, name, kind)
    if value is None:
        raise malformed(f"{name} is missing")
    return value


def objects(data: Mapping[str, Any], name: str) -> list[Json]:
    """Return a list of objects; an empty one if the field is absent or null."""
    items = optional(data, name, list) or []
    if not all(isinstance(item, dict) for item in items):
        raise malformed(f"{name} has an item that is no object")
    return items


def index_of(data: Mapping[str, Any], default: int | None = None) -> int:
    """Return `index`, or the default if it is absent or null."""
    index = default if data.get("index") is None else data["index"]
    if not isinstance(index, int) or not 0 <= index < MAX_INDEX:
        raise malformed(f"index is no number from 0 to {MAX_INDEX - 1}")
    return index


def choices(data: Mapping[str, Any]) -> list[Json]:
    """Return the choices of a chunk of Chat Completions or Completions.

    Content that is a list of parts becomes text and thoughts, and arguments that are an object
    become JSON, as the API has them: some servers send the other forms.
    """
    listed = objects(data, "choices")
    for choice in listed:
        index_of(choice, 0)
        optional(choice, "text", str)
        optional(choice, "finish_reason", str)
        optional(optional(choice, "logprobs", dict) or {}, "content", list)
        delta = optional(choice, "delta", dict) or {}
        if isinstance(delta.get("content"), list):
            choice["delta"] = delta = _without_parts(delta)
        optional(delta, "content", str)
        optional(delta, "reasoning_content", str)
        for number, call in enumerate(objects(delta, "tool_calls")):
            index_of(call, number)
            optional(call, "id", str)
            function = optional(call, "function", dict) or {}
            optional(function, "name", str)
            if isinstance(function.get("arguments"), dict | list):
                function["arguments"] = dumps(function["arguments"]).decode()
            optional(function, "arguments", str)
    return listed


def _without_parts(delta: Json) -> Json:
    """Return a delta whose content is a text; its thoughts are beside it."""
    text, thoughts = "", optional(delta, "reasoning_content", str) or ""
    for part in objects(delta, "content"):
        if part.get("type") == "thinking":
            thinking = part.get("thinking")
            pieces = thinking if isinstance(thinking, list) else [{"text": thinking}]
            thoughts += "".join(_text_of(piece) for piece in pieces)
        else:
            text += _text_of(part)
    return {**delta, "content": text} | ({"reasoning_content": thoughts} if thoughts else {})


def _text_of(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""


def vectors(data: Mapping[str, Any]) -> list[list[float]]:
    """Return the vectors of an embeddings answer."""
    embeddings = [required(item, "embedding", list) for item in objects(data, "data")]
    if not all(_is_number(component) for vector in embeddings for component in vector):
        raise malformed("embedding has a component that is no number")
    return embeddings


def count(value: Any) -> int:
    """Return a number of tokens; 0 for anything that is no count."""
    return value if isinstance(value, int) and 0 <= value < MAX_COUNT else 0


def milliseconds(value: Any) -> float:
    """Return a duration; 0 for anything that is none."""
    return value if _is_number(value) and 0 <= value < MAX_COUNT else 0.0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and -1e100 < value < 1e100

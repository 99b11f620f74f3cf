"""The request types of the official SDKs: their fields and kinds, and random requests of them."""

from __future__ import annotations

import functools
import random
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
PIXEL = "iVBORw0KGgo="
MAX_DEPTH = 7
ALWAYS = ("type", "role", "input")
_PLAIN: dict[Any, Callable[[random.Random], Any]] = {
    type(None): lambda _: None,
    bool: lambda numbers: numbers.random() < 0.5,
    int: lambda numbers: numbers.randrange(1, 9),
    float: lambda numbers: round(numbers.random(), 3),
}
_SPECIAL = ("Required", "NotRequired", "Annotated", "ReadOnly")


@functools.cache
def hints(kind: Any) -> dict[str, Any]:
    """Return a TypedDict's annotations; the SDKs' own are partly strings that name each other."""
    resolved: dict[str, Any] = {}
    for base in reversed([*_bases(kind), kind]):
        module = sys.modules[base.__module__]
        names = {**vars(typing), **vars(module)}
        for name, annotation in vars(base).get("__annotations__", {}).items():
            text = annotation
            if isinstance(annotation, typing.ForwardRef):
                text = annotation.__forward_arg__
            resolved[name] = eval(text, names) if isinstance(text, str) else text  # noqa: S307
    return resolved


def _bases(kind: Any) -> Iterator[Any]:
    for base in getattr(kind, "__orig_bases__", ()):
        if hasattr(base, "__annotations__"):
            yield base
            yield from _bases(base)


def is_object(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "__annotations__")


def members(annotation: Any) -> list[Any]:
    """Return the members of a union, also of unions within it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if str(origin).rpartition(".")[2] in _SPECIAL or origin is typing.Annotated:
        return members(arguments[0])
    if origin is typing.Union or str(origin) == "<class 'types.UnionType'>":
        return [member for argument in arguments for member in members(argument)]
    return [annotation]


def item_types(annotation: Any) -> list[Any]:
    """Return what the lists among a union's members are made of."""
    listed = []
    for member in members(annotation):
        origin = typing.get_origin(member)
        if origin is not None and origin not in (dict, typing.Literal) and typing.get_args(member):
            listed += members(typing.get_args(member)[0])
        elif "SequenceNotStr" in str(member):
            listed.append(str)
    return listed


def kinds(types: list[Any]) -> set[str]:
    """Return the values of `type` of these objects."""
    return {
        value for kind in types if is_object(kind) for value in _literals(hints(kind).get("type"))
    }


def _literals(annotation: Any) -> list[str]:
    values: list[str] = []
    for member in members(annotation):
        if typing.get_origin(member) is typing.Literal:
            values += [value for value in typing.get_args(member) if isinstance(value, str)]
    return values


@dataclass
class Marker:
    """A text of a generated request: where it is, in which kind of object, and its field."""

    text: str
    kind: str
    field: str
    path: tuple[str, ...]


@dataclass
class Requests:
    """Random requests of a TypedDict; equal seeds give equal requests."""

    seed: int
    files: dict[str, str]
    """By name of a type: the value of its `data`."""
    rare: frozenset[str] = frozenset()
    """Fields and kinds that nearly every request is without: most servers refuse them."""
    markers: list[Marker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311

    def one(self, kind: Any, **fixed: Any) -> Json:
        """Return a request, and leave its texts in `markers`."""
        self.markers = []
        return {**self._object(kind, (), 0, set(fixed)), **fixed}

    def _object(self, kind: Any, path: tuple[str, ...], depth: int, skipped: set[str]) -> Json:
        annotations = hints(kind)
        required = getattr(kind, "__required_keys__", frozenset())
        fields: Json = {}
        literals = _literals(annotations.get("type")) or _literals(annotations.get("role"))
        name_of_kind = literals[0] if literals else kind.__name__
        for name, annotation in annotations.items():
            if name in skipped:
                continue
            is_required = name in (*required, *ALWAYS) or str(annotation).startswith(
                "typing.Required"
            )
            if not is_required and self._random.random() < (0.99 if name in self.rare else 0.75):
                continue
            if name == "data" and kind.__name__ in self.files:
                fields[name] = self.files[kind.__name__]
                continue
            value = self._value(annotation, (*path, name), name_of_kind, name, depth + 1)
            if value is not None or not is_required:
                fields[name] = value
        return fields

    def _value(
        self, annotation: Any, path: tuple[str, ...], kind: str, name: str, depth: int
    ) -> Any:
        choices = members(annotation)
        if depth > MAX_DEPTH:
            choices = [choice for choice in choices if not is_object(choice)] or choices
        if self._random.random() < 0.99:
            choices = [choice for choice in choices if not self._is_rare(choice)] or choices
        choice = self._random.choice(choices)
        origin, arguments = typing.get_origin(choice), typing.get_args(choice)
        if choice is str:
            return self._text(path, kind, name)
        if origin is typing.Literal or choice in _PLAIN:
            return _PLAIN.get(choice, lambda numbers: numbers.choice(arguments))(self._random)
        if is_object(choice):
            return self._object(choice, path, depth, set())
        if origin is not dict and (arguments or "SequenceNotStr" in str(choice)):
            count = self._random.randrange(1, 3) if depth < MAX_DEPTH else 0
            paths = [(*path, str(index)) for index in range(count)]
            of = arguments[0] if arguments else str
            return [self._value(of, inner, kind, name, depth + 1) for inner in paths]
        return self._any_object(path, kind, name)

    def _any_object(self, path: tuple[str, ...], kind: str, name: str) -> Json:
        if "schema" in name or name == "parameters":
            return {"type": "object", "properties": {"p": {"type": "string"}}}
        return {"key": self._text((*path, "key"), kind, name)}

    def _is_rare(self, choice: Any) -> bool:
        return is_object(choice) and bool(self.rare & set(_literals(hints(choice).get("type"))))

    def _text(self, path: tuple[str, ...], kind: str, name: str) -> str:
        if name in ("url", "image_url", "file_data"):
            return f"data:image/png;base64,{PIXEL}"
        if name == "data":
            return PIXEL
        if name in ("media_type",):
            return "image/png"
        text = f"mark{self._random.randrange(10**9)}"
        self.markers.append(Marker(text, kind, name, path))
        return text

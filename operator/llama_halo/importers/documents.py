"""Parses the YAML and JSON of other systems within bounds, so that no file takes all memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import yaml

from llama_halo.errors import CliError

MAX_FILE_BYTES = 4 * 2**20
MAX_NODES = 100_000
"""Values of a YAML document, each alias counted as all that it stands for."""
MAX_DIGITS = 18
_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\])*(?:"|\Z)|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)


def document(file: str, text: str) -> Any:
    """Return the JSON (comments are allowed) or the YAML mapping of a text, None if it is neither.

    Raises `CliError` for a file that should be one by its name, and for a document beyond bounds.
    The message does not quote the text, which may hold secrets.
    """
    if len(text) > MAX_FILE_BYTES:
        raise CliError(
            f"{file} has {len(text)} characters: a configuration has at most {MAX_FILE_BYTES}"
        )
    if file.endswith((".json", ".json5", ".jsonc")):
        try:
            return json.loads(_without_comments(text), object_pairs_hook=_json_object)
        except _TwiceError as error:
            raise CliError(f"{file}: {error}") from error
        except ValueError as error:
            at = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "it"
            raise CliError(f"{file} is no JSON: {at} cannot be read") from error
    try:
        loaded = yaml.load(text, _BoundedLoader)  # noqa: S506  (it is a SafeLoader)
    except _TwiceError as error:
        raise CliError(f"{file}: {error}") from error
    except yaml.YAMLError as error:
        if file.endswith((".yaml", ".yml")):
            mark = getattr(error, "problem_mark", None)
            at = f"line {mark.line + 1}" if mark else "it"
            problem = getattr(error, "problem", None) or "cannot be read"
            raise CliError(f"{file} is no YAML: {at}: {problem}") from error
        return None
    except (ValueError, TypeError) as error:
        if file.endswith((".yaml", ".yml")):
            raise CliError(f"{file} is no YAML: a number, date or key in it is none") from error
        return None
    return loaded if isinstance(loaded, dict) else None


def whole_number(text: str) -> int | None:
    """Return a whole number of at most `MAX_DIGITS` digits, None for any other text."""
    return int(text) if re.fullmatch(rf"-?[0-9]{{1,{MAX_DIGITS}}}", text) else None


class _TwiceError(ValueError):
    """A mapping has a key twice; the first value would be lost without a word."""


class _BoundedLoader(yaml.SafeLoader):
    """A SafeLoader that refuses what aliases make too large, and keys that stand twice."""

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        _check(node)
        return self.construct_document(node)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(self.construct_scalar(node)) > 2 * MAX_DIGITS:
            raise yaml.constructor.ConstructorError(
                problem="a number is too long", problem_mark=node.start_mark
            )
        number: int = super().construct_yaml_int(node)
        return number


_BoundedLoader.add_constructor("tag:yaml.org,2002:int", _BoundedLoader.construct_yaml_int)


def _check(root: yaml.Node) -> None:
    """Raise `YAMLError` if a document, with all aliases expanded, has too many values, and
    `_TwiceError` if a mapping has a key twice."""
    sizes: dict[int, int] = {}
    stack: list[tuple[yaml.Node, bool]] = [(root, False)]
    while stack:
        node, is_done = stack.pop()
        if is_done:
            sizes[id(node)] = 1 + sum(sizes.get(id(child), 0) for child in _children(node))
            if sizes[id(node)] > MAX_NODES:
                raise yaml.constructor.ConstructorError(
                    problem=f"with its aliases it has more than {MAX_NODES} values",
                    problem_mark=node.start_mark,
                )
        elif id(node) not in sizes:
            _check_keys(node)
            sizes[id(node)] = 0  # an alias to what contains it counts once
            stack.append((node, True))
            stack += [(child, False) for child in _children(node)]


def _check_keys(node: yaml.Node) -> None:
    keys: set[tuple[str, str]] = set()
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            if (key.tag, key.value) in keys:
                line = key.start_mark.line + 1
                raise _TwiceError(f"line {line} has a key that stands before: keep one")
            keys.add((key.tag, key.value))


def _children(node: yaml.Node) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return ()


def _json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        raise _TwiceError("an object has a key twice: keep one")
    return parsed


def _without_comments(text: str) -> str:
    """Return JSON without comments and without trailing commas."""
    plain = _STRING_OR_COMMENT.sub(lambda m: m[0] if m[0].startswith('"') else " ", text)
    return re.sub(r",(\s*[}\]])", r"\1", plain)

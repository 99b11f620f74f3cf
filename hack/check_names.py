"""Refuses names that say nothing of what they hold: part of `make check`.

A reader of `found` or `each` has to look up what was found, and of what. Name a local, parameter,
field or function after its value: `conditions`, `pod`, `token_count`; a reason is `reason`, a text
for a person `message`, the arguments of a program `argv` or `arguments`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from hack.testbed.layout import REPOSITORY

VAGUE = frozenset(
    {
        *("found", "each", "told", "said", "there", "known", "wanted", "given", "seen", "made"),
        *("words", "what", "why", "way", "stuff", "thing", "things"),
    }
)
FOLDERS = ("operator", "tests", "hack")
ALLOWED = {
    ("operator/llama_halo/gguf/layers.py", "known"): "a field of a stored inspection has this name",
}


def definitions(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and name of everything that a module defines; imported names are not ours."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)) | ast.alias(asname=str(name)):
                yield node.lineno, name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name


def problems(path: Path, source: str) -> list[str]:
    """Return one line for each vague name that a file defines; `path` is that in the repository."""
    return [
        f"{path}:{line}: `{name}` says nothing of its value: see hack/check_names.py"
        for line, name in sorted(definitions(ast.parse(source)))
        if name.strip("_") in VAGUE and (str(path), name) not in ALLOWED
    ]


def main() -> None:
    """Check every Python file; end with 1 when there is a vague name."""
    paths = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).rglob("*.py"))]
    lines = [
        line
        for path in paths
        for line in problems(path.relative_to(REPOSITORY), path.read_text(encoding="utf-8"))
    ]
    print("\n".join(lines) if lines else f"{len(paths)} files, no vague name")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()

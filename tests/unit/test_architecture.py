"""docs/architecture.md names functions that exist, and stays short."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

MAPS = (Path(__file__).resolve().parents[2] / "docs/architecture.md").read_text()
NAMED = sorted(set(re.findall(r"`([a-z_.0-9]+):([A-Za-z_.]+)`", MAPS)))


def test_the_maps_name_functions() -> None:
    assert len(NAMED) > 30


@pytest.mark.parametrize(("module", "name"), NAMED, ids=[":".join(pair) for pair in NAMED])
def test_a_named_function_exists(module: str, name: str) -> None:
    attribute: Any = importlib.import_module(f"llama_halo.{module}")
    for part in name.split("."):
        attribute = getattr(attribute, part)
    assert callable(attribute)


def test_the_maps_are_read_in_one_sitting() -> None:
    assert len(MAPS.splitlines()) < 200


TESTS = Path(__file__).resolve().parents[1]
MODULES = sorted(TESTS.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(TESTS)) for path in MODULES])
def test_a_test_module_imports_helpers_only(path: Path) -> None:
    imported = re.findall(r"^\s*(?:from|import) (tests\.\S+)", path.read_text(), re.MULTILINE)
    assert [name for name in imported if not name.startswith("tests.support")] == []

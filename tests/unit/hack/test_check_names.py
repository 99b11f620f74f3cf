"""The check that refuses vague names sees every way of defining one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hack.check_names import problems

PATH = Path("operator/llama_halo/x.py")


@pytest.mark.parametrize(
    "source",
    [
        "found = 1",
        "for each in (): pass",
        "x = [each for each in ()]",
        "def f(what): pass",
        "def _known(): pass",
        "async def told(): pass",
        "self.said = 1",
        "with x as seen: pass",
        "(wanted := 1)",
        "class found: pass",
    ],
)
def test_a_vague_name_is_refused(source: str) -> None:
    (problem,) = problems(PATH, source)
    assert problem.startswith(f"{PATH}:1: `")


def test_other_names_imports_and_uses_are_not() -> None:
    assert not problems(PATH, "from hypothesis import given\nconditions = given(x.found)")

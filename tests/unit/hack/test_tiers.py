"""The tiers of `make test`: no test file is left out, and a run's report tells what failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hack.testbed.layout import REPOSITORY
from hack.tiers.prepare import NEEDS
from hack.tiers.report import Case, Result, failures, read_cases, table
from hack.tiers.tiers import TIERS

TESTS = sorted(
    path.relative_to(REPOSITORY)
    for path in (REPOSITORY / "tests").rglob("*.py")
    if path.name.startswith("test_") or path.name == "closing.py"
)
NOT_IN_MAKE_TEST = "release"
JUNIT = """<?xml version="1.0"?>
<testsuites><testsuite name="pytest">
<testcase classname="tests.unit.test_a.TestOne" name="test_x[1]" time="0.5" />
<testcase classname="tests.unit.test_a" name="test_y" time="1.5">
  <failure message="AssertionError: assert 1 == 2&#10; +  more">the traceback</failure>
</testcase>
<testcase classname="tests.unit.test_a" name="test_y" time="2.0">
  <error message="failed on teardown">another traceback</error>
</testcase>
</testsuite></testsuites>"""


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_every_test_file_is_in_one_tier(path: Path) -> None:
    names = [tier.name for tier in TIERS if any(path.is_relative_to(named) for named in tier.paths)]
    if path.parts[1] == NOT_IN_MAKE_TEST:
        assert not names
    elif path == Path("tests/e2e/closing.py"):
        assert names == [tier.name for tier in TIERS if tier.node]
    else:
        assert len(names) == 1, names


def test_closing_steps_come_last() -> None:
    for tier in TIERS:
        closing = [named for named in tier.paths if named.endswith("closing.py")]
        if closing:
            assert closing == [tier.paths[-1]]
            # pytest drops a file whose folder is an argument, too.
            assert all(named.endswith(".py") for named in tier.paths)


def test_tiers_need_what_can_be_prepared_and_name_files_that_exist() -> None:
    for tier in TIERS:
        assert set(tier.needs) <= set(NEEDS)
        assert all((REPOSITORY / named).exists() for named in tier.paths)


def test_a_test_that_fails_twice_is_one_failure() -> None:
    assert read_cases(JUNIT) == (
        Case("unit.test_a.TestOne::test_x[1]", 0.5),
        Case("unit.test_a::test_y", 3.5, "AssertionError: assert 1 == 2\n +  more"),
    )


def test_the_table_has_each_tiers_slowest_tests_and_failures_name_their_logs() -> None:
    slow = tuple(Case(f"unit.test_b::test_{number}", number) for number in range(8))
    results = (
        Result("unit", 40.2, (*read_cases(JUNIT), *slow)),
        Result("chart", 7, error="it ended with 2:\nImportError"),
    )
    assert table(results) == (
        "TIER        TESTS  SECONDS  SLOWEST\n"
        "unit           10       40     7.0 unit.test_b::test_7\n"
        "                               6.0 unit.test_b::test_6\n"
        "                               5.0 unit.test_b::test_5\n"
        "                               4.0 unit.test_b::test_4\n"
        "                               3.5 unit.test_a::test_y\n"
        "chart           -        7\n"
        "all            10"
    )
    assert failures(results, ".reports") == (
        "FAILED unit: 1 test\n"
        "  unit.test_a::test_y: AssertionError: assert 1 == 2\n"
        "  output, and logs of what each failed test used: .reports/unit/\n"
        "FAILED chart: it ended with 2:\nImportError\n"
        "  output, and logs of what each failed test used: .reports/chart/"
    )

"""What the tiers' JUnit files say, as a table and as the list of failures; no effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

SLOWEST = 5


@dataclass(frozen=True)
class Case:
    """One test: its name, its seconds with its fixtures, and why it failed or was skipped."""

    name: str
    seconds: float
    failure: str = ""
    skipped: str = ""


@dataclass(frozen=True)
class Result:
    """What came of one tier; `error` when it ended without a report, or before its first test."""

    tier: str
    seconds: float
    cases: tuple[Case, ...] = ()
    error: str = ""

    @property
    def failures(self) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.failure)

    @property
    def passed(self) -> bool:
        return not self.error and not self.failures


def read_cases(junit: str) -> tuple[Case, ...]:
    """Return the tests of a JUnit file as pytest writes it; one that also fails in its teardown
    stands there twice, and is one here."""
    cases: dict[str, Case] = {}
    for element in ElementTree.fromstring(junit).iter("testcase"):  # noqa: S314  (our own pytest's)
        module = element.get("classname", "").removeprefix("tests.")
        name = f"{module}::{element.get('name', '')}"
        failure = _text(element, "failure") or _text(element, "error")
        earlier = cases.get(name, Case(name, 0))
        cases[name] = Case(
            name,
            earlier.seconds + float(element.get("time", 0)),
            earlier.failure or failure,
            earlier.skipped or _text(element, "skipped"),
        )
    return tuple(cases.values())


def _text(element: ElementTree.Element, kind: str) -> str:
    child = element.find(kind)
    return "" if child is None else (child.get("message") or child.text or kind)


def table(results: Sequence[Result]) -> str:
    """Return a row for each tier: its tests, its seconds, and its slowest five."""
    lines = [f"{'TIER':<10} {'TESTS':>6} {'SECONDS':>8}  SLOWEST"]
    for result in results:
        slowest = sorted(result.cases, key=lambda case: -case.seconds)[:SLOWEST]
        entries = [f"{case.seconds:6.1f} {case.name}" for case in slowest] or [""]
        count = str(len(result.cases) or "-")
        lines.append(f"{result.tier:<10} {count:>6} {result.seconds:8.0f}  {entries[0]}".rstrip())
        lines += [" " * 28 + entry for entry in entries[1:]]
    cases = [case for result in results for case in result.cases]
    skipped = sum(bool(case.skipped) for case in cases)
    total = f"{'all':<10} {len(cases):>6}" + (f"  {skipped} skipped" if skipped else "")
    return "\n".join([*lines, total])


def failures(results: Sequence[Result], logs: str) -> str:
    """Return a line for each failure, and where its tier's whole output is."""
    lines = []
    for result in results:
        if result.passed:
            continue
        count = f"{len(result.failures)} test{'s' if len(result.failures) != 1 else ''}"
        lines.append(f"FAILED {result.tier}: {result.error or count}")
        lines += [f"  {case.name}: {_first_line(case.failure)}" for case in result.failures]
        lines.append(f"  output, and logs of what each failed test used: {logs}/{result.tier}/")
    return "\n".join(lines)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:200] if text.strip() else ""

"""Text of others in statuses and on terminals."""

from __future__ import annotations

import pytest

from llama_halo.contract.text import printable
from llama_halo.status.conditions import Verdict, conditions


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, with ä, 中 and 🙂", "plain, with ä, 中 and 🙂"),
        ("tab\tand line\n", "tab\tand line\n"),
        ("\x1b[2J\x1b]52;c;AAAA\x07gone", "[2J]52;c;AAAAgone"),
        ("over\rwritten", "overwritten"),
        ("\x9b31m\x00\x7f", "31m"),
        ("a\u202egpj.exe", "agpj.exe"),
        ("half \ud800", "half "),
        ("👨\u200d👩", "👨\u200d👩"),
    ],
)
def test_nothing_reaches_a_terminal_that_it_would_obey(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_condition_has_no_control_characters() -> None:
    verdict = Verdict("CrashLooping", "exited: \x1b]0;title\x07")
    for condition in conditions(verdict, generation=1, previous={}, now="2026-01-01T00:00:00Z"):
        assert condition["message"].isprintable() or not condition["message"]

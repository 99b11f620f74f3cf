"""Values in which any part may be replaced, repeated or missing, for property tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st


def _nested(depth: int) -> Any:
    value: Any = "x"
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


ODD = st.sampled_from(
    [
        *(None, True, 0, -1, 7, 10**400, 1.5, 1e308, float("inf")),
        *("", "x", "9" * 5000, "1/" + "9" * 5000, "1e400", "-1", "٣", "\x1b[2J", "\ud800"),
        *([], {}, [None], {"a": None}, [[]], _nested(900)),
    ]
)
"""Values of other types and sizes than any field expects."""


@st.composite
def mutated(draw: st.DrawFn, value: Any, *, odd: st.SearchStrategy[Any] = ODD) -> Any:
    """Return a value in which any part may be replaced, repeated or missing."""
    if draw(st.integers(0, 14)) == 0:
        return draw(odd)
    if isinstance(value, dict):
        kept = {name: part for name, part in value.items() if draw(st.integers(0, 14))}
        return {name: draw(mutated(part, odd=odd)) for name, part in kept.items()}
    if isinstance(value, list):
        return [
            draw(mutated(part, odd=odd)) for part in value for _ in range(draw(st.integers(0, 2)))
        ]
    return value

"""Quantities: what is parsed, and the one spelling that the API server writes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_halo.plan.quantity import (
    amount,
    canonical_memory,
    canonical_quantity,
    human_gib,
    mebibytes,
)


@pytest.mark.parametrize(
    ("quantity", "mib"),
    [
        ("24Gi", 24576),
        ("512Mi", 512),
        ("1G", 954),
        (1, 1),
        ("0", 0),
        ("1.5Gi", 1536),
        ("1Ti", 2**20),
    ],
)
def test_memory_is_counted_in_mib_rounded_up(quantity: int | str, mib: int) -> None:
    assert mebibytes(quantity) == mib


@pytest.mark.parametrize(
    ("quantity", "kept"),
    [
        ("26624Mi", "26Gi"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("0.5", "500m"),
        ("2048Ki", "2Mi"),
        ("1024", "1024"),
        (3000, "3k"),
        ("0Gi", "0"),
        ("2.5", "2500m"),
        ("1.5Gi", "1536Mi"),
    ],
)
def test_a_quantity_is_spelled_as_the_api_server_spells_it(quantity: int | str, kept: str) -> None:
    assert canonical_quantity(quantity) == kept


@given(st.integers(min_value=0, max_value=10**7))
def test_canonical_memory_keeps_the_amount(mib: int) -> None:
    assert mebibytes(canonical_memory(mib)) == mib


@given(st.integers(min_value=0, max_value=10**6), st.sampled_from(["", "m", "k", "Mi", "Gi"]))
def test_canonical_spelling_is_stable_and_equal(number: int, unit: str) -> None:
    once = canonical_quantity(f"{number}{unit}")
    assert canonical_quantity(once) == once
    assert amount(once) == amount(f"{number}{unit}")


def test_memory_for_a_person() -> None:
    assert human_gib(26215) == "25.6Gi"
    assert human_gib(512) == "512Mi"

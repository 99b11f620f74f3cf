"""Kubernetes quantities: parsing, and the canonical form that the API server stores."""

from __future__ import annotations

import math
import re
from decimal import Decimal

_UNITS = {
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "m": Decimal(1) / 1000,
}


def amount(quantity: int | str) -> Decimal:
    """Return a quantity as a number: bytes, or cores."""
    text = str(quantity)
    for suffix, factor in _UNITS.items():
        if text.endswith(suffix):
            return Decimal(text.removesuffix(suffix)) * factor
    return Decimal(text)


def mebibytes(quantity: int | str) -> int:
    """Return a memory quantity in MiB, rounded up."""
    return math.ceil(amount(quantity) / 2**20)


def canonical_memory(mib: int) -> str:
    """Return MiB in the API server's canonical form: the largest binary unit without a fraction."""
    value, units = mib, ["Mi", "Gi", "Ti"]
    while value and value % 1024 == 0 and len(units) > 1:
        value //= 1024
        units.pop(0)
    return f"{value}{units[0]}" if value else "0"


def canonical_quantity(quantity: int | str) -> str:
    """Return any quantity in the API server's canonical form.

    Binary quantities keep a binary unit. Decimal ones get the largest decimal unit that leaves no
    fraction: `1000m` -> `1`, `1024Mi` -> `1Gi`, `0.5` -> `500m`.
    """
    text, value = str(quantity), amount(quantity)
    if value == 0:
        return "0"
    if text.endswith("i"):
        return _with_unit(value, ["", "Ki", "Mi", "Gi", "Ti"], 1024)
    if value != value.to_integral_value():
        return f"{math.ceil(value * 1000)}m"
    return _with_unit(value, ["", "k", "M", "G", "T"], 1000)


def _with_unit(value: Decimal, units: list[str], step: int) -> str:
    index = 0
    number = math.ceil(value)
    while number % step == 0 and index + 1 < len(units):
        number //= step
        index += 1
    return f"{number}{units[index]}"


def seconds(duration: str) -> float:
    """Return a Go duration such as `1h30m`, `90s` or `1.5h` in seconds."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", duration)
    return sum(float(number) * units[unit] for number, unit in parts)


def human_gib(mib: int) -> str:
    """Return MiB for a person: `25.6Gi`, or `512Mi` below one GiB."""
    return f"{mib}Mi" if mib < 1024 else f"{mib / 1024:.1f}Gi"


def counted(number: int, noun: str, verb: str = "") -> str:
    """Return a number with its noun, and a verb that agrees: `1 pod answers`, `2 pods answer`."""
    if number == 1:
        return f"1 {noun}" + (f" {verb}s" if verb else "")
    return f"{number} {noun}s" + (f" {verb}" if verb else "")


def of_total(number: int, total: int, noun: str, verb: str) -> str:
    """Return a part of a whole: `1 of 1 replica serves`, `2 of 3 replicas serve`."""
    return f"{number} of {counted(total, noun)} {verb}{'s' * (1 in (number, total))}"

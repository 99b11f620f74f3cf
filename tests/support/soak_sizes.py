"""How long and how large the chaos tests are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Soak:
    """How long and how large: short in `make test`, long in `make soak`."""

    chaos_seconds: float
    models: int
    outage_seconds: float
    kills: int
    stopped_seconds: float
    rivals_seconds: float


SHORT = Soak(120, 24, 15, 10, 20, 20)
LONG = Soak(1800, 200, 60, 50, 120, 300)

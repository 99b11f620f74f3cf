"""The protocol on a model's Lease, by which gateways and the operator agree whether it is in use.

A gateway writes an annotation of its own, `COUNTER/IN_FLIGHT`, before it sends a first request and
every `WRITE_SECONDS` while requests run. The operator writes the phase, which the gateway reads in
the reply to its write. Neither side compares the clocks of two machines: the operator times the
changes that it sees.
"""

from __future__ import annotations

from enum import StrEnum

from llama_halo.contract.labels import GROUP

PHASE_ANNOTATION = f"{GROUP}/phase"
GATEWAY_PREFIX = f"gateway.{GROUP}/"
"""The prefix of the gateways' annotations; the pod's name follows."""
WRITE_SECONDS = 5.0
"""The time between two writes of a gateway with requests in flight."""
BUSY_SECONDS = 3 * WRITE_SECONDS
"""A gateway whose annotation has not changed for this long counts as gone, with its requests."""


MAX_DIGITS = 9
"""Of the number of requests; anybody may write an annotation, and a longer number is none."""


class Phase(StrEnum):
    """The phase of a model's server; the operator writes it."""

    NEW = ""
    IDLE = "Idle"
    LOADED = "Loaded"
    UNLOADING = "Unloading"
    """The operator is about to unload it: requests wait."""


def lease_name(model: str) -> str:
    """Return `llama-halo-MODEL`."""
    return f"llama-halo-{model}"


def entry(counter: int, in_flight: int) -> str:
    """Return `COUNTER/IN_FLIGHT`."""
    return f"{counter}/{in_flight}"


def has_requests(entry_value: str) -> bool:
    """Tell whether a gateway's annotation says that it has requests in flight."""
    count = entry_value.rpartition("/")[2]
    return count.isdecimal() and len(count) <= MAX_DIGITS and int(count) > 0

"""`llama-halo wake MODEL`: load a model now, and wait until it serves."""

from __future__ import annotations

from llama_halo.cli.activation import main, wake


def run(argv: list[str]) -> int:
    """Load one model."""
    return main(argv, "wake", wake, 3600)

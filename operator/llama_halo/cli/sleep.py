"""`llama-halo sleep MODEL`: unload a model that nobody uses, and free its memory."""

from __future__ import annotations

from llama_halo.cli.activation import main, sleep


def run(argv: list[str]) -> int:
    """Unload one model."""
    return main(argv, "sleep", sleep, 120)

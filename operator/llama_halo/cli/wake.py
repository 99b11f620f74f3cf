"""`llama-halo wake MODEL`: load a model now, and wait until it serves."""

from __future__ import annotations

from llama_halo.cli.activation import main, wake


def run(words: list[str]) -> int:
    """Wake one model."""
    return main(words, "wake", wake, 3600)

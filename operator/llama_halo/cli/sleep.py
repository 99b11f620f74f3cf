"""`llama-halo sleep MODEL`: unload a model that nobody uses, and free its memory."""

from __future__ import annotations

from llama_halo.cli.activation import main, sleep


def run(words: list[str]) -> int:
    """Put one model to sleep."""
    return main(words, "sleep", sleep, 120)

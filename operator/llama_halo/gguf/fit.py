"""The longest context for a memory budget."""

from __future__ import annotations

from dataclasses import replace

from llama_halo.gguf.bundle import Bundle
from llama_halo.gguf.memory import CELLS, Serving


def longest_context(bundle: Bundle, serving: Serving, budget: int) -> int:
    """Return the most tokens, up to the trained length, whose GPU memory fits the budget (bytes).

    The result is a multiple of 256; 0 if not even 256 tokens fit.
    """
    fewest, most = 0, max(bundle.model.model.context_length // CELLS, 1)
    while fewest < most:
        middle = (fewest + most + 1) // 2
        tried = replace(serving, context_size=middle * CELLS)
        if bundle.estimate(tried).gpu <= budget:
            fewest = middle
        else:
            most = middle - 1
    return fewest * CELLS

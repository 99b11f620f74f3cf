"""What fits: the longest context for a budget, and what would help."""

from __future__ import annotations

from dataclasses import replace

from llama_halo.gguf.layers import Dimensions
from llama_halo.gguf.memory import CELLS, Serving, estimate


def longest_context(weights: int, model: Dimensions, serving: Serving, budget: int) -> int:
    """Return the most tokens, up to the trained length, whose GPU memory is within the budget.

    In whole blocks of 256; 0 when not even one fits.
    """
    fewest, most = 0, max(model.context_length // CELLS, 1)
    while fewest < most:
        middle = (fewest + most + 1) // 2
        tried = replace(serving, context_tokens=middle * CELLS)
        if estimate(weights, model, tried).gpu <= budget:
            fewest = middle
        else:
            most = middle - 1
    return fewest * CELLS

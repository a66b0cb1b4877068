"""Batches of rows of like length under a token budget: little padding, and never more memory than the budget.

Sorting by length is worth a factor of three on a CPU and costs nothing: a random batch of 32 pads every text to the
longest of the 32.
"""

from __future__ import annotations

import numpy as np

CPU_TOKENS = 1536
"""Tokens in one forward pass on a CPU: enough rows for the matrix multiplication to reach its peak, few enough to stay
in the cache."""
GPU_TOKENS = 65536


def batches(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Rows grouped into batches: every row in exactly one; longest first, so memory is asked for at the start.

    `lengths` (n,) tokens of each row. For every batch of more than one row, rows * longest <= budget; a row longer
    than the budget is a batch of its own.
    """
    lengths = np.asarray(lengths)
    if budget < 1:
        raise ValueError(f"a token budget is at least 1, not {budget}")
    order = np.argsort(-lengths, kind="stable")
    out: list[np.ndarray] = []
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        size = max(1, budget // longest)
        out.append(order[start : start + size])
        start += size
    return out


def room_for(tokens: int) -> int:
    """`tokens` rounded up by a sixteenth at most (to 16 at least), so that batches share few sizes.

    oneDNN builds code for each new size of a matrix product: 1 to 7 ms on a CPU with AMX, for all four products of a small layer as
    much as two layers take to compute (benchmarks/batches.py measures what the rounding gains). It keeps what it built, so sizes that
    come again cost nothing.
    """
    step = max(16, 1 << max(0, tokens.bit_length() - 5))
    return -(-tokens // step) * step

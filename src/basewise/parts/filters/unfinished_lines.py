"""Share of lines that end in an ellipsis: at most 0.3 (Gopher)."""

from __future__ import annotations

import numpy as np

from basewise.stats.words import Block

LIMITS = (0.0, 0.3)


def measure(block: Block) -> np.ndarray:
    """(n,) share of filled lines that end in … or ... ."""
    first, end, text = block.lines
    codes = block.codes
    dots = (end - first >= 3) & np.all([codes[np.maximum(end - k, 0)] == ord(".") for k in (1, 2, 3)], axis=0)
    counts = np.bincount(text[dots | (codes[end - 1] == ord("…"))], minlength=len(block))
    return counts / np.maximum(1, np.bincount(text, minlength=len(block)))

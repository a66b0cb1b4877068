"""Share of lines under 30 characters: at most 0.67 (FineWeb); menus and lists lie above."""

from __future__ import annotations

import numpy as np

from basewise.stats.words import Block

LIMITS = (0.0, 0.67)


def measure(block: Block) -> np.ndarray:
    """(n,) share of filled lines shorter than 30 characters."""
    first, end, text = block.lines
    counts = np.bincount(text[end - first < 30], minlength=len(block))
    return counts / np.maximum(1, np.bincount(text, minlength=len(block)))

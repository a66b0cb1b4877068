"""Share of lines that begin with a bullet: at most 0.9 (Gopher)."""

from __future__ import annotations

import numpy as np

from basewise.stats.words import Block

LIMITS = (0.0, 0.9)
MARKS = tuple(map(ord, "•‣◦▪-*"))


def measure(block: Block) -> np.ndarray:
    """(n,) share of filled lines that begin with a bullet, spaces before it not counted."""
    first, _, text = block.lines
    inked = np.flatnonzero((block.codes != ord(" ")) & (block.codes != ord("\t")))
    begins = block.codes[inked[np.searchsorted(inked, first)]]
    counts = np.bincount(text[np.isin(begins, MARKS)], minlength=len(block))
    return counts / np.maximum(1, np.bincount(text, minlength=len(block)))

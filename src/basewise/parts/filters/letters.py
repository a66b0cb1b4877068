"""Share of words with a letter: at least 0.8 (Gopher); tables of numbers lie below."""

from __future__ import annotations

import numpy as np

from basewise.stats.words import Block

LIMITS = (0.8, 1.0)


def measure(block: Block) -> np.ndarray:
    """(n,) share of words that are not digits and underscores alone."""
    first, end = block.spans
    letter = (block.folded >= ord("a")).astype(np.int32)
    counts = np.concatenate([[0], np.cumsum(letter)])
    return block.per_text(counts[end] > counts[first]) / np.maximum(1, np.diff(block.word_begin))

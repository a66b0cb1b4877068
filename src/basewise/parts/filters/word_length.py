"""Mean characters of a word: 3 to 10 (Gopher); lists of codes and glued text lie outside."""

from __future__ import annotations

import numpy as np

from basewise.stats.words import Block

LIMITS = (3.0, 10.0)


def measure(block: Block) -> np.ndarray:
    """(n,) mean characters of a word, 0 without a word."""
    first, end = block.spans
    return block.per_text(end - first) / np.maximum(1, np.diff(block.word_begin))

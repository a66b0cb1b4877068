"""Hash signs and ellipses for each word: at most 0.1 (Gopher)."""

from __future__ import annotations

import numpy as np

from basewise.stats.words import Block

LIMITS = (0.0, 0.1)


def measure(block: Block) -> np.ndarray:
    """(n,) '#', '…' and '...' over words."""
    counts = [text.count("#") + text.count("…") + text.count("...") for text in block.texts]
    return np.array(counts) / np.maximum(1, np.diff(block.word_begin))

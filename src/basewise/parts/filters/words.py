"""Words of a document: 50 at least (Gopher); no upper limit, since books are wanted here."""

from __future__ import annotations

import numpy as np

from basewise.stats.words import Block

LIMITS = (50.0, float("inf"))


def measure(block: Block) -> np.ndarray:
    """(n,) words."""
    return np.diff(block.word_begin)

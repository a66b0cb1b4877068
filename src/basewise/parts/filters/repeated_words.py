"""Share of runs of ten words that repeat an earlier one of the document: at most 0.1 (after Gopher, which counts their characters)."""

from __future__ import annotations

import numpy as np

from basewise.stats.words import Block

LIMITS = (0.0, 0.1)


def measure(block: Block) -> np.ndarray:
    """(n,) share of the 10-grams that repeat one."""
    grams, first = block.ngrams(10)
    owner = block.owner[first]
    tagged = np.sort((owner.astype(np.uint64) << np.uint64(40)) | (grams >> np.uint64(24)))
    again = np.concatenate([[False], tagged[1:] == tagged[:-1]])[: len(tagged)]
    counts = np.bincount((tagged[again] >> np.uint64(40)).astype(np.int64), minlength=len(block))
    return counts / np.maximum(1, np.bincount(owner, minlength=len(block)))

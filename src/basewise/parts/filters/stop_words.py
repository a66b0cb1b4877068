"""Different words among the, be, to, of, and, that, have, with: at least 2 (Gopher). For English; switch it off for other languages."""

from __future__ import annotations

import functools

import numpy as np

from basewise.stats.words import Block

LIMITS = (2.0, 8.0)
WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


@functools.cache
def _numbers() -> np.ndarray:
    return Block.of([" ".join(WORDS)]).words


def measure(block: Block) -> np.ndarray:
    """(n,) how many of the eight words occur."""
    return np.sum([block.per_text(block.words == number) > 0 for number in _numbers()], axis=0)

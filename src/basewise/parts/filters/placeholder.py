"""Traces of pages that are no text: "lorem ipsum", "enable JavaScript", and braces more often than every 40 characters (after C4)."""

from __future__ import annotations

import numpy as np

from basewise.stats.words import Block

LIMITS = (0.0, 1.0)
TRACES = ("lorem ipsum", "enable javascript", "javascript is disabled")


def measure(block: Block) -> np.ndarray:
    """(n,) 2 for a trace, else braces over one fortieth of the characters."""
    brace = np.concatenate([[0], np.cumsum((block.codes == ord("{")) | (block.codes == ord("}")))])
    counts = brace[block.begin[1:]] - brace[block.begin[:-1]]
    traced = [any(trace in text for trace in TRACES) for text in map(str.lower, block.texts)]
    return np.where(traced, 2.0, 40 * counts / np.maximum(1, block.characters))

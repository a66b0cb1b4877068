"""Share of lines that repeat an earlier one of the document: at most 0.3 (Gopher)."""

from __future__ import annotations

import numpy as np

from basewise.stats.words import Block, mix

LIMITS = (0.0, 0.3)


def measure(block: Block) -> np.ndarray:
    """(n,) share of the lines with a word whose words, in any order, an earlier line has."""
    first, end, text = block.lines
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(block.words)])
    begin, stop = np.searchsorted(block.spans[0], first), np.searchsorted(block.spans[0], end)
    worded = stop > begin
    keys = mix(sums[stop[worded]] - sums[begin[worded]])
    text = text[worded]
    tagged = np.sort((text.astype(np.uint64) << np.uint64(40)) | (keys >> np.uint64(24)))
    again = np.concatenate([[False], tagged[1:] == tagged[:-1]])[: len(tagged)]
    counts = np.bincount((tagged[again] >> np.uint64(40)).astype(np.int64), minlength=len(block))
    return counts / np.maximum(1, np.bincount(text, minlength=len(block)))

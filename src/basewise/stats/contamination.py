"""Contamination: the longest run of an item's words that a corpus has seen, by word 8-grams, one occurrence being enough.

Longest match with n = 8 and count 1 tells contaminated items best; longer n-grams and counts above one miss them (Singh et al.,
arXiv 2411.03923). Words are those of `stats.duplicates.normalise`, so case, punctuation and line breaks hide nothing. The
corpus streams past a table of the items' own n-grams: memory grows with the items, never with the corpus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from basewise.stats.duplicates import normalise

WORDS = 8
PRIME = np.uint64(1_099_511_628_211)


MOST_WORDS = 1 << 20
"""Distinct words whose numbers are kept: the web has no end of them."""


class Words:
    """64-bit numbers of words, each hashed once while it is kept."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def numbers(self, text: str) -> np.ndarray:
        """(w,) uint64, one a word of the normalised text."""
        known = self._known
        if len(known) > MOST_WORDS:
            known.clear()
        out = np.empty(len(words := normalise(text).split()), np.uint64)
        for i, word in enumerate(words):
            number = known.get(word)
            if number is None:
                digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
                number = known[word] = int.from_bytes(digest)
            out[i] = number
        return out


def ngrams(numbers: np.ndarray, n: int = WORDS) -> np.ndarray:
    """(max(0, w - n + 1),) uint64, one a run of n words at each place."""
    count = len(numbers) - n + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    mixed = np.zeros(count, np.uint64)
    for k in range(n):
        mixed = (mixed ^ numbers[k : k + count]) * PRIME
        mixed ^= mixed >> np.uint64(31)
    return mixed


def longest_run(seen: np.ndarray, n: int = WORDS) -> int:
    """Words in the longest unbroken run of seen n-grams; 0 when none was seen. seen (g,) bool, one a place."""
    if not len(seen) or not seen.any():
        return 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], seen.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max()) + n - 1


def longest_matches(
    items: Sequence[str], corpus: Iterable[str], n: int = WORDS
) -> tuple[np.ndarray, np.ndarray]:
    """((k,) words of each item's longest match in the corpus, (k,) words of each item); the corpus is read once."""
    words = Words()
    grams = [ngrams(words.numbers(item), n) for item in items]
    known = np.unique(np.concatenate(grams)) if grams else np.empty(0, np.uint64)
    found = np.zeros(len(known), bool)
    for text in corpus:
        passing = ngrams(words.numbers(text), n)
        if len(passing) and len(known):
            place = np.minimum(np.searchsorted(known, passing), len(known) - 1)
            found[place[known[place] == passing]] = True
    runs = [longest_run(found[np.searchsorted(known, g)], n) for g in grams]
    sizes = [len(normalise(item).split()) for item in items]
    return np.array(runs, dtype=np.int64), np.array(sizes, dtype=np.int64)

"""Near duplicates in a corpus of any size: MinHash over word 5-grams, compact on disk, found band by band.

112 functions in 14 bands of 8, as FineWeb has them (Penedo et al., arXiv 2406.17557): a pair is proposed with probability 0.57, 0.77,
0.92 and 0.99 at a Jaccard similarity of 0.7, 0.75, 0.8 and 0.85. A proposed pair counts when the share of equal hashes, the
unbiased estimate of the similarity, reaches the threshold. A document goes when an earlier one is that near to it.

A bucket is not compared all with all: each member is held against the bucket's first and the one before it. One band is sorted at a
time, in parts of at most PART documents, so that memory does not grow with the corpus beyond one byte a document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from basewise.stats.words import BASE, Block, mix

BANDS, ROWS, WORDS = 14, 8, 5
FUNCTIONS = BANDS * ROWS
CACHED = 1 << 15
"""Shingles hashed at a time: an array that stays in the second-level cache."""
PART = 1 << 22
PAIRS = 1 << 14
"""Pairs of signatures that are compared at once."""


def _functions() -> tuple[np.ndarray, np.ndarray]:
    """(FUNCTIONS,) odd multipliers and masks, uint32."""
    rng = np.random.default_rng(112)
    multipliers = rng.integers(0, 2**31, FUNCTIONS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return multipliers, rng.integers(0, 2**32, FUNCTIONS, dtype=np.uint32)


def signatures(block: Block) -> np.ndarray:
    """(n, FUNCTIONS) uint32: the least hash of each text's word 5-grams under each function.

    A text of fewer than five words is one shingle of all of them; one without a word gets its own number, near to nothing.
    """
    grams, first = block.ngrams(WORDS)
    begin = np.searchsorted(first, block.word_begin)
    out = np.empty((len(block), FUNCTIONS), np.uint32)
    short = np.diff(begin) == 0
    if short.any():
        whole = _hash(block.keys[short] ^ np.uint64(BASE))
        out[short] = np.stack([(whole ^ m) * a for a, m in zip(*_functions(), strict=True)], 1)
    there = np.flatnonzero(~short)
    hashes = _hash(grams)
    for group in _groups(there, begin):
        low, high = begin[group[0]], begin[group[-1] + 1]
        starts = begin[group] - low
        piece = hashes[low:high]
        for k, (multiplier, mask) in enumerate(zip(*_functions(), strict=True)):
            out[group, k] = np.minimum.reduceat((piece ^ mask) * multiplier, starts)
    return out


def _hash(values: np.ndarray) -> np.ndarray:
    return (mix(values) >> np.uint64(32)).astype(np.uint32)


def _groups(there: np.ndarray, begin: np.ndarray) -> Iterator[np.ndarray]:
    """Texts in order, cut so that each group has about CACHED shingles."""
    if len(there):
        cuts = np.flatnonzero(np.diff(begin[there] // CACHED)) + 1
        yield from np.split(there, cuts)


def band_keys(signature: np.ndarray) -> np.ndarray:
    """(n, BANDS) uint64 bucket of each text in each band."""
    mixed = np.zeros((len(signature), BANDS), np.uint64)
    rows = signature.reshape(len(signature), BANDS, ROWS).astype(np.uint64)
    for k in range(ROWS):
        mixed = (mixed ^ rows[:, :, k]) * np.uint64(BASE)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def repeated(keys: np.ndarray, part: int = PART) -> np.ndarray:
    """(n,) bool: an earlier document has the same key."""
    out = np.zeros(len(keys), bool)
    for index in _parts(keys, part):
        order = index[np.argsort(keys[index], kind="stable")]
        out[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    return out


def near_repeated(
    bands: Iterable[np.ndarray], signature: np.ndarray, threshold: float, part: int = PART
) -> np.ndarray:
    """(n,) bool: an earlier document is near. Each band (n,) uint64 buckets, signature (n, FUNCTIONS); all may be mapped."""
    out = np.zeros(len(signature), bool)
    for band in bands:
        for index in _parts(band, part):
            keys = np.asarray(band[index])
            order = np.argsort(keys, kind="stable")
            same = np.concatenate([[False], keys[order][1:] == keys[order][:-1]])
            members = np.flatnonzero(same)
            if not len(members):
                continue
            heads = np.maximum.accumulate(np.where(same, 0, np.arange(len(same))))[members]
            later = index[order[members]]
            for earlier in (index[order[heads]], index[order[members - 1]]):
                out[later[_agree(signature, earlier, later, threshold)]] = True
    return out


def _agree(signature: np.ndarray, earlier: np.ndarray, later: np.ndarray, threshold: float) -> np.ndarray:
    """(p,) bool: the pair's share of equal hashes reaches the threshold."""
    out = np.empty(len(later), bool)
    for place in range(0, len(later), PAIRS):
        piece = slice(place, place + PAIRS)
        out[piece] = (signature[earlier[piece]] == signature[later[piece]]).mean(1) >= threshold
    return out


def _parts(keys: np.ndarray, part: int) -> Iterator[np.ndarray]:
    """Places of the keys in disjoint parts that no equal keys are spread over, each in order."""
    passes = -(-len(keys) // part)
    for number in range(passes):
        if passes == 1:
            yield np.arange(len(keys))
        else:
            pieces = range(0, len(keys), part)
            yield np.concatenate(
                [p + np.flatnonzero(keys[p : p + part] % np.uint64(passes) == number) for p in pieces]
            )

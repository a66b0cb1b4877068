"""Rows that say the same: exact after normalising, and near by MinHash with every candidate pair verified.

Short texts are the main case, so shingles are characters (5-grams of the normalised text): a changed word moves few of
them. 30 bands of 4 hashes propose pairs (Leskovec et al., Mining of Massive Datasets, ch. 3); those whose hashes agree too seldom
go, a whole band at once, and the true Jaccard similarity decides about the rest. Within a bucket a row is compared with the few
before it instead of all with all, so rows from one template stay linear.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

import numpy as np

BANDS, ROWS = 30, 4
SHINGLE = 5
CHAIN = 8  # rows of a bucket that each further row is compared with
PIECE = 65_536  # characters hashed at a time
SLACK = 0.11
"""How far the share of equal hashes may fall below the threshold: three standard deviations of it at 0.8."""
AT_ONCE = 1 << 14  # pairs whose hashes are compared at a time
MOST_SHINGLES = 512
"""Shingles kept of a text, those with the least hashes: a fair sample that is the same for the same text, so that long texts
take no more memory and time than short ones."""
_WORDS = re.compile(r"\w+")


def normalise(text: str) -> str:
    """Lower-case words and numbers, one space between them: wrapping, case, accents' form and signs do not count."""
    return " ".join(_WORDS.findall(unicodedata.normalize("NFKC", text).casefold()))


def exact_groups(texts: Sequence[str]) -> np.ndarray:
    """(n,) int64 group ids: equal for texts that are the same after normalising; empty texts stay apart."""
    seen: dict[bytes, int] = {}
    out = np.empty(len(texts), np.int64)
    for i, text in enumerate(texts):
        plain = normalise(text)
        key = (
            hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if plain
            else i.to_bytes(16)
        )
        out[i] = seen.setdefault(key, i)
    return out


def _shingles(plain: str) -> np.ndarray:
    """Sorted unique 64-bit hashes of the character 5-grams of one normalised text, the least of them where they are many.

    The whole text counts, piece by piece: documents that begin alike need not go on alike.
    """
    least = np.zeros(0, np.uint64)
    for start in range(0, max(1, len(plain) - SHINGLE + 1), PIECE):
        values = _hashes(plain[start : start + PIECE + SHINGLE - 1])
        if len(least) == MOST_SHINGLES:
            values = values[values < least[-1]]
        least = np.union1d(least, values)[:MOST_SHINGLES]
    return least


def _hashes(plain: str) -> np.ndarray:
    """A 64-bit hash of each character 5-gram of a text in its order, of the padded text where it is shorter."""
    codes = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    if len(codes) < SHINGLE:
        codes = np.concatenate([codes, np.zeros(SHINGLE - len(codes), np.uint64)])
    value = np.zeros(len(codes) - SHINGLE + 1, np.uint64)
    for k in range(SHINGLE):
        value = value * np.uint64(1_099_511_628_211) + codes[k : len(codes) - SHINGLE + 1 + k]
    value ^= value >> np.uint64(29)
    return value * np.uint64(0xBF58476D1CE4E5B9)


def _signatures(plain: Sequence[str]) -> np.ndarray:
    """(n, BANDS * ROWS) uint32: the least hash of each text's set under each random function."""
    rng = np.random.default_rng(20)
    multipliers = rng.integers(1, 2**63, BANDS * ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    adders = rng.integers(0, 2**63, BANDS * ROWS, dtype=np.uint64)
    out = np.empty((len(plain), BANDS * ROWS), np.uint32)
    for i, text in enumerate(plain):
        out[i] = ((_shingles(text)[:, None] * multipliers + adders) >> np.uint64(32)).min(0)
    return out


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Share of two sets of shingles that both have: exact where both are whole, else among the least hashes of the two together."""
    common = np.intersect1d(a, b, assume_unique=True)
    if max(len(a), len(b)) < MOST_SHINGLES:
        return len(common) / (len(a) + len(b) - len(common))
    least = np.union1d(a, b)[:MOST_SHINGLES]
    return int(np.searchsorted(common, least[-1], side="right")) / len(least)


def _find(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


def near_groups(texts: Sequence[str], threshold: float = 0.7) -> np.ndarray:
    """(n,) int64 group ids: texts whose 5-gram sets overlap by at least `threshold` (Jaccard), and their neighbours."""
    groups = exact_groups(texts)
    first = np.unique(groups)
    plain = [normalise(texts[i]) for i in first]
    kept = np.flatnonzero([bool(text) for text in plain])
    plain = [plain[k] for k in kept]
    signatures, parent = _signatures(plain), np.arange(len(plain))
    shingles = functools.lru_cache(maxsize=1 << 16)(lambda k: _shingles(plain[k]))
    for band in range(BANDS):
        _join_band(signatures, band, parent, threshold, shingles)
    roots = first.copy()
    roots[kept] = first[kept[_roots(parent)]]
    return roots[np.searchsorted(first, groups)]


def _roots(parent: np.ndarray) -> np.ndarray:
    """(n,) the root of each."""
    while not np.array_equal(above := parent[parent], parent):
        parent = above
    return parent


def _join_band(
    signatures: np.ndarray,
    band: int,
    parent: np.ndarray,
    threshold: float,
    shingles: Callable[[int], np.ndarray],
) -> None:
    """Join in `parent` what shares a bucket of this band and is near enough."""
    for a, b in _proposed(signatures, band, _roots(parent), threshold - SLACK):
        low, high = sorted((_find(parent, a), _find(parent, b)))
        if low != high and jaccard(shingles(a), shingles(b)) >= threshold:
            parent[high] = low


def _proposed(
    signatures: np.ndarray, band: int, roots: np.ndarray, least: float
) -> Iterator[tuple[int, int]]:
    """Pairs of one bucket that hang together by no other pair yet and have at least this share of equal hashes."""
    rows = signatures[:, band * ROWS : (band + 1) * ROWS].astype(np.uint64)
    keys = np.zeros(len(rows), np.uint64)
    for column in range(ROWS):
        keys = (keys ^ rows[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(31)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    for apart in range(1, CHAIN + 1):
        places = np.flatnonzero(keys[:-apart] == keys[apart:])
        places = places[roots[order[places]] != roots[order[places + apart]]]
        for start in range(0, len(places), AT_ONCE):
            a, b = order[places[start : start + AT_ONCE]], order[places[start : start + AT_ONCE] + apart]
            alike = (signatures[a] == signatures[b]).mean(1) >= least
            yield from zip(a[alike].tolist(), b[alike].tolist(), strict=True)

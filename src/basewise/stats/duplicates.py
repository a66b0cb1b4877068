"""Rows that say the same: exact after normalising, and near by MinHash with every candidate pair verified.

Short texts are the main case, so shingles are characters (5-grams of the normalised text): a changed word moves few of
them. 20 bands of 6 hashes propose pairs (Leskovec et al., Mining of Massive Datasets, ch. 3), the true Jaccard similarity
decides. A bucket is chained to its first row instead of compared all with all, so identical rows stay linear.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BANDS, ROWS = 30, 4
SHINGLE = 5
CHAIN = 8  # rows of a bucket that each further row is compared with
PIECE = 65_536  # characters hashed at a time
MOST_SHINGLES = 512
"""Shingles kept of a text, those with the least hashes: a fair sample that is the same for the same text, so that long texts
take no more memory and time than short ones."""
CONTRAST = 0.4
"""Likeness from which texts may be two of a pair that was made as a contrast."""
MOST_CONTRASTS, LEAST_GROUPS = 4, 10
"""Rows of such a group at most, and such groups that have to be there."""
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


def _signature(shingles: np.ndarray, multipliers: np.ndarray, adders: np.ndarray) -> np.ndarray:
    """(BANDS * ROWS,) least hash of the set under each random function."""
    return ((shingles[:, None] * multipliers + adders) >> np.uint64(32)).min(0)


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


@dataclass(frozen=True)
class Sketch:
    """Texts made ready to be compared: `exact` (n,) group ids, `first` row of each, its shingles, and signatures of those that have words
    (`kept`: places in `first`)."""

    exact: np.ndarray
    first: np.ndarray
    kept: list[int]
    sets: dict[int, np.ndarray]
    signatures: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str]) -> Sketch:
        """Read each distinct text once."""
        exact = exact_groups(texts)
        first = np.unique(exact)
        plain = [normalise(texts[i]) for i in first]
        kept = [k for k, text in enumerate(plain) if text]
        sets = {k: _shingles(plain[k]) for k in kept}
        rng = np.random.default_rng(20)
        multipliers = rng.integers(1, 2**63, BANDS * ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        adders = rng.integers(0, 2**63, BANDS * ROWS, dtype=np.uint64)
        signatures = np.array([_signature(sets[k], multipliers, adders) for k in kept], dtype=np.uint64)
        return cls(exact, first, kept, sets, signatures)

    def groups(self, threshold: float) -> np.ndarray:
        """(n,) int64 group ids: texts whose 5-gram sets overlap by at least `threshold` (Jaccard), and their neighbours."""
        parent = np.arange(len(self.first))
        checked: set[tuple[int, int]] = set()
        for band in range(BANDS if len(self.kept) > 1 else 0):
            rows = self.signatures[:, band * ROWS : (band + 1) * ROWS]
            _join_band(rows, self.kept, self.sets, parent, checked, threshold)
        roots = np.array([self.first[_find(parent, k)] for k in range(len(parent))], dtype=np.int64)
        return roots[np.searchsorted(self.first, self.exact)]


def near_groups(texts: Sequence[str], threshold: float = 0.7) -> np.ndarray:
    """(n,) int64 group ids: texts whose 5-gram sets overlap by at least `threshold` (Jaccard), and their neighbours."""
    return Sketch.of(texts).groups(threshold)


def contrasts(sketch: Sketch, labels: np.ndarray) -> np.ndarray:
    """(n,) int64 group ids of rows that were made as contrasts, each other row alone: texts that read alike and have different labels.

    In small groups of alike texts labels mostly agree; by chance they differ in 1 - sum of squared shares of the pairs. Where
    they differ far oftener (three standard errors), a model learns from one half of a pair to answer the other half wrongly, so that
    both belong on one side of a split. labels (n,): -1 for none.
    """
    alone = np.arange(len(labels))
    groups = np.unique(sketch.groups(CONTRAST), return_inverse=True)[1]
    sizes = np.bincount(groups[labels >= 0], minlength=groups.max(initial=0) + 1)
    small = np.isin(groups, np.flatnonzero((sizes > 1) & (sizes <= MOST_CONTRASTS))) & (labels >= 0)
    pairs = np.bincount(groups[small], minlength=len(sizes))
    if np.count_nonzero(pairs) < LEAST_GROUPS:
        return alone
    shares = np.bincount(labels[labels >= 0]) / np.count_nonzero(labels >= 0)
    counts = np.zeros((len(sizes), len(shares)))
    np.add.at(counts, (groups[small], labels[small]), 1)
    counts, n = counts[pairs > 0], pairs[pairs > 0]
    differ = float((1 - (counts * (counts - 1)).sum(1) / (n * (n - 1))).mean())
    chance = 1 - float((shares**2).sum())
    if differ <= chance + 3 * np.sqrt(chance * (1 - chance) / len(counts)):
        return alone
    return np.unique(np.where(small, groups, len(labels) + alone), return_inverse=True)[1]


def united(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n,) labels of the connected components when rows that share either id are joined."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    a, b = np.unique(first, return_inverse=True)[1], np.unique(second, return_inverse=True)[1]
    size = int(a.max()) + int(b.max()) + 2
    edges = coo_matrix((np.ones(len(a)), (a, b + a.max() + 1)), shape=(size, size))
    parts = connected_components(edges, directed=False)[1]
    return np.unique(parts[a], return_inverse=True)[1]


def _join_band(
    rows: np.ndarray,
    kept: list[int],
    sets: dict[int, np.ndarray],
    parent: np.ndarray,
    checked: set[tuple[int, int]],
    threshold: float,
) -> None:
    """Join what shares a bucket of this band and is near enough."""
    mixed = np.zeros(len(rows), np.uint64)
    for column in range(rows.shape[1]):
        mixed = (mixed ^ rows[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(31)
    order = np.argsort(mixed, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], mixed[order][1:] != mixed[order][:-1]]))
    for begin, end in zip(starts, [*starts[1:], len(order)], strict=True):
        members = [kept[i] for i in order[begin:end]]
        for position, k in enumerate(members[1:], 1):
            for j in members[max(0, position - CHAIN) : position]:
                pair = (j, k)
                if pair in checked or _find(parent, j) == _find(parent, k):
                    continue
                checked.add(pair)
                if jaccard(sets[j], sets[k]) >= threshold:
                    a, b = sorted((_find(parent, j), _find(parent, k)))
                    parent[b] = a

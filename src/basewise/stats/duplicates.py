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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

BANDS, ROWS = 30, 4
SHINGLE = 5
# rows of a bucket that each further row is compared with
CHAIN = 8
# characters hashed at a time
PIECE = 65_536
SLACK = 0.11
"""How far the share of equal hashes may fall below the threshold: three standard deviations of it at 0.8."""
# pairs whose hashes are compared at a time
AT_ONCE = 1 << 14
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
    """(n,) int64 group ids: equal for texts that are the same after normalising, and for the same signs without a word; empty texts
    stay apart."""
    return _first_rows(normalise(text) or as_written(text) for text in texts)


def written_groups(texts: Sequence[str]) -> np.ndarray:
    """(n,) int64 group ids: equal for texts that differ in case and blanks at most, so that signs count; empty texts stay apart."""
    return _first_rows(map(as_written, texts))


def as_written(text: str) -> str:
    """Lower case, one space in place of any blanks."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _first_rows(plain: Iterable[str]) -> np.ndarray:
    """(n,) int64: the first row with the same text; the own one where there is none."""
    seen: dict[bytes, int] = {}
    out = []
    for i, text in enumerate(plain):
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        out.append(seen.setdefault(key, i) if text else i)
    return np.array(out, np.int64)


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


@dataclass(frozen=True)
class Sketch:
    """Texts made ready to be compared: `exact` (n,) group ids, `first` row of each, and normalised text and signature of those that
    have words (`kept`: places in `first`)."""

    exact: np.ndarray
    first: np.ndarray
    kept: np.ndarray
    plain: list[str]
    signatures: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str]) -> Sketch:
        """Read each distinct text once."""
        exact = exact_groups(texts)
        first = np.unique(exact)
        plain = [normalise(texts[i]) for i in first]
        kept = np.flatnonzero([bool(text) for text in plain])
        plain = [plain[k] for k in kept]
        return cls(exact, first, kept, plain, _signatures(plain))

    def groups(self, threshold: float, verified: bool = True) -> np.ndarray:
        """(n,) int64 group ids: texts whose 5-gram sets overlap by at least `threshold` (Jaccard), and their neighbours.

        Not `verified`, the share of equal hashes decides alone, whose error is 0.045 at most: many pairs then cost little.
        """
        parent = np.arange(len(self.plain))
        shingles = functools.lru_cache(maxsize=1 << 16)(lambda k: _shingles(self.plain[k]))
        for band in range(BANDS):
            _join_band(self.signatures, band, parent, threshold, shingles if verified else None)
        roots = self.first.copy()
        roots[self.kept] = self.first[self.kept[_roots(parent)]]
        return roots[np.searchsorted(self.first, self.exact)]


def contrasts(sketch: Sketch, labels: np.ndarray) -> np.ndarray:
    """(n,) int64 group ids of rows that were made as contrasts, each other row alone: texts that read alike and have different labels.

    In small groups of alike texts labels mostly agree; by chance they differ in 1 - sum of squared shares of the pairs. Where
    they differ far oftener (three standard errors), a model learns from one half of a pair to answer the other half wrongly, so that
    both belong on one side of a split. labels (n,): -1 for none.
    """
    alone = np.arange(len(labels))
    groups = np.unique(sketch.groups(CONTRAST, verified=False), return_inverse=True)[1]
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
    shingles: Callable[[int], np.ndarray] | None,
) -> None:
    """Join in `parent` what shares a bucket of this band and is near enough, by its hashes alone where no shingles are given."""
    for a, b in _proposed(signatures, band, _roots(parent), threshold - SLACK * (shingles is not None)):
        low, high = sorted((_find(parent, a), _find(parent, b)))
        if low != high and (shingles is None or jaccard(shingles(a), shingles(b)) >= threshold):
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

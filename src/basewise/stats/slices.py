"""Where a predictor is worse than elsewhere: slices found on one half of the rows, confirmed on the other.

All one-literal predicates are tried (length, class, a contained word, a metadata value), Fisher's exact test with
Benjamini-Hochberg on the first half; only the second half's error and interval are reported (SliceFinder, Chung et al. 2019). A
group of rows that belong together lies in one half and counts as many rows as it is worth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from basewise.stats.duplicates import normalise
from basewise.stats.intervals import independent_rows, share_of
from basewise.stats.paired import benjamini_hochberg

WORDS = 150
VALUES = 12


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Rows under one condition. Error shares are those of the confirming half; `p` too."""

    name: str
    n: int
    error: float
    low: float
    high: float
    rest_error: float
    p: float
    confirmed: bool


def text_predicates(
    texts: Sequence[str], labels: Sequence[str], metadata: dict[str, tuple[str, ...]] | None = None
) -> dict[str, np.ndarray]:
    """Conditions by name, each (n,) bool: length fifths, class, common words, frequent metadata values."""
    out: dict[str, np.ndarray] = {}
    words = [set(normalise(t).split()) for t in texts]
    lengths = np.array([len(t) for t in texts])
    edges = np.quantile(lengths, [0.2, 0.8]) if len(texts) else (0, 0)
    out["shortest fifth of the texts"], out["longest fifth of the texts"] = (
        lengths <= edges[0],
        lengths >= edges[1],
    )
    for label in sorted(set(labels)):
        out[f"class is {label!r}"] = np.array([value == label for value in labels])
    for word, _ in Counter(w for row in words for w in row).most_common(WORDS):
        out[f"contains {word!r}"] = np.array([word in row for row in words])
    for name, values in (metadata or {}).items():
        counts = Counter(values)
        if len(counts) <= len(values) / 4:
            for value, _ in counts.most_common(VALUES):
                out[f"{name} is {value!r}"] = np.array([v == value for v in values])
    return out


def halves(n: int, rng: np.random.Generator, clusters: np.ndarray | None = None) -> np.ndarray:
    """(n,) bool: about half of the rows, of each group all or none."""
    if clusters is None or len(names := np.unique(clusters)) == n:
        return rng.random(n) < 0.5
    return (rng.random(len(names)) < 0.5)[np.searchsorted(names, clusters)]


def _fisher(inside: np.ndarray, wrong: np.ndarray, clusters: np.ndarray | None) -> float:
    """One-sided p value of more errors inside than outside; rows in groups count as many as they are worth, rounded down."""
    from scipy.stats import hypergeom

    counts = np.array([(inside & wrong).sum(), len(wrong), wrong.sum(), inside.sum()], float)
    if clusters is not None:
        shares = [wrong[side].mean() if side.any() else 0.0 for side in (inside, ~inside)]
        pull = (wrong - np.where(inside, *shares)) / np.where(inside, inside.mean(), -(~inside).mean())
        counts *= independent_rows(pull, clusters) / len(wrong)
    hits, rows, errors, size = np.floor(counts + 1e-9).astype(int)
    return float(hypergeom.sf(hits - 1, rows, errors, size))


def find_slices(
    predicates: dict[str, np.ndarray],
    wrong: np.ndarray,
    half: np.ndarray,
    q: float = 0.1,
    min_support: int = 20,
    clusters: np.ndarray | None = None,
) -> list[Slice]:
    """Slices that stand out on the rows of `half`, judged on the others; the worst first. clusters (n,): rows in groups."""
    wrong, half = np.asarray(wrong, bool), np.asarray(half, bool)
    names = [
        name
        for name, p in predicates.items()
        if min(p[half].sum(), p[~half].sum()) >= min_support and not p.all()
    ]
    if not names:
        return []
    first, second = (None if clusters is None else clusters[rows] for rows in (half, ~half))
    p_found = benjamini_hochberg(np.array([_fisher(predicates[n][half], wrong[half], first) for n in names]))
    found = [name for name, p in zip(names, p_found, strict=True) if p <= q]
    if not found:
        return []
    p_again = benjamini_hochberg(
        np.array([_fisher(predicates[n][~half], wrong[~half], second) for n in found])
    )
    out = []
    for name, p in zip(found, p_again, strict=True):
        inside = predicates[name][~half]
        share = share_of(wrong[~half][inside], None if second is None else second[inside])
        rest = float(wrong[~half][~inside].mean()) if (~inside).any() else float("nan")
        out.append(
            Slice(
                name=name,
                n=int(inside.sum()),
                error=share.estimate,
                low=share.low,
                high=share.high,
                rest_error=rest,
                p=float(p),
                confirmed=bool(p <= q),
            )
        )
    return sorted(out, key=lambda s: (not s.confirmed, -s.error))

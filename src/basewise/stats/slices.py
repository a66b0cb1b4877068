"""Where a predictor is worse than elsewhere: slices found on one half of the rows, confirmed on the other.

All one-literal predicates are tried (length, class, a contained word, a metadata value), Fisher's exact test with
Benjamini-Hochberg on the first half; only the second half's error and interval are reported (SliceFinder, Chung et al. 2019).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from basewise.stats.duplicates import normalise
from basewise.stats.intervals import wilson
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


def _fisher(inside: np.ndarray, wrong: np.ndarray) -> float:
    """One-sided p value of more errors inside than outside."""
    from scipy.stats import hypergeom

    return float(
        hypergeom.sf(int((inside & wrong).sum()) - 1, len(wrong), int(wrong.sum()), int(inside.sum()))
    )


def find_slices(
    predicates: dict[str, np.ndarray],
    wrong: np.ndarray,
    half: np.ndarray,
    q: float = 0.1,
    min_support: int = 20,
) -> list[Slice]:
    """Slices that stand out on the rows of `half`, judged on the others; the worst first."""
    wrong, half = np.asarray(wrong, bool), np.asarray(half, bool)
    names = [
        name
        for name, p in predicates.items()
        if min(p[half].sum(), p[~half].sum()) >= min_support and not p.all()
    ]
    if not names:
        return []
    p_found = benjamini_hochberg(np.array([_fisher(predicates[n][half], wrong[half]) for n in names]))
    found = [name for name, p in zip(names, p_found, strict=True) if p <= q]
    if not found:
        return []
    p_again = benjamini_hochberg(np.array([_fisher(predicates[n][~half], wrong[~half]) for n in found]))
    out = []
    for name, p in zip(found, p_again, strict=True):
        inside = predicates[name][~half]
        share = wilson(int(wrong[~half][inside].sum()), int(inside.sum()))
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

"""Paired comparison of predictors on the same rows: McNemar mid-p, Tango's score interval, bootstrap, Holm, BH.

Two intervals beside one another are never a test: users of rivals were shown p = 0.080 where the paired test gives 0.008.
"""

from __future__ import annotations

import numpy as np

from basewise.stats.intervals import (
    Interval,
    bootstrap_counts,
    class_error,
    independent_rows,
    normal_quantile,
)


def discordant(right_a: np.ndarray, right_b: np.ndarray) -> tuple[int, int]:
    """(rows only a has right, rows only b has right) from two (n,) bool arrays."""
    right_a, right_b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    if right_a.shape != right_b.shape:
        raise ValueError(f"{right_a.shape} and {right_b.shape} rows came, the same rows were expected")
    return int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())


def counted(
    right_a: np.ndarray, right_b: np.ndarray, clusters: np.ndarray | None
) -> tuple[float, float, float]:
    """(rows, rows only a has right, rows only b has right), as many as they are worth where rows come in groups."""
    b, c = discordant(right_a, right_b)
    gap = np.asarray(right_a, float) - np.asarray(right_b, float)
    worth = independent_rows(gap, clusters)
    share = worth / max(len(gap), 1)
    return worth, b * share, c * share


def mcnemar_midp(right_a: np.ndarray, right_b: np.ndarray, clusters: np.ndarray | None = None) -> float:
    """Two-sided mid-p value of equal accuracy (Fagerland, Lydersen and Laake 2013), the binomial law carried on between counts."""
    from scipy.special import betainc, betaln

    _, b, c = counted(right_a, right_b, clusters)
    n, k = b + c, min(b, c)
    if n == 0:
        return 1.0
    here = np.exp(-n * np.log(2) - np.log1p(n) - betaln(k + 1, n - k + 1))
    return float(min(1.0, 2 * betainc(n - k, k + 1, 0.5) - here))


def _score(gap: np.ndarray, n: float, b: float, c: float) -> np.ndarray:
    """Tango's score statistic at each hypothetical gap, with the constrained maximum-likelihood discordance."""
    a_term = 2 * n
    b_term = -b - c + (2 * n - b + c) * gap
    c_term = -c * gap * (1 - gap)
    q = (np.sqrt(np.maximum(b_term**2 - 4 * a_term * c_term, 0)) - b_term) / (2 * a_term)
    variance = np.maximum(n * (2 * q + gap * (1 - gap)), 1e-12)
    return (b - c - n * gap) / np.sqrt(variance)


def paired_difference(
    right_a: np.ndarray, right_b: np.ndarray, level: float = 0.95, clusters: np.ndarray | None = None
) -> Interval:
    """Accuracy of a minus accuracy of b with Tango's (1998) score interval; from two (n,) bool arrays and, with groups, (n,) ids."""
    n, b, c = counted(right_a, right_b, clusters)
    if n == 0:
        return Interval(estimate=float("nan"), low=-1.0, high=1.0, n=0, level=level, method="tango")
    z, estimate = normal_quantile(level), (b - c) / n
    ends = []
    for side, target in ((-1.0, z), (1.0, -z)):
        inner, outer = estimate, side * (1 - 1e-9)
        # bisection: the score falls from left to right
        for _ in range(60):
            middle = (inner + outer) / 2
            score = float(_score(np.array(middle), n, b, c))
            inside = score < target if side < 0 else score > target
            inner, outer = (middle, outer) if inside else (inner, middle)
        ends.append(outer)
    return Interval(estimate=estimate, low=ends[0], high=ends[1], n=len(right_a), level=level, method="tango")


def paired_bootstrap_difference(
    scores_a: np.ndarray,
    scores_b: np.ndarray,
    clusters: np.ndarray | None = None,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 2_000,
) -> Interval:
    """Mean of (n,) scores of a minus b with a percentile bootstrap over rows, or over whole clusters."""
    gap = np.asarray(scores_a, float) - np.asarray(scores_b, float)
    weights = bootstrap_counts(len(gap), resamples, seed, clusters)
    draws = (weights @ gap) / weights.sum(1)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        estimate=float(gap.mean()),
        low=float(low),
        high=float(high),
        n=len(gap),
        level=level,
        method="bootstrap",
    )


def holm(p_values: np.ndarray) -> np.ndarray:
    """(m,) p values adjusted for m questions at once (Holm 1979)."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    out = np.empty_like(p)
    out[order] = np.minimum(stepped, 1.0)
    return out


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """(m,) p values adjusted to control the share of false findings (Benjamini and Hochberg 1995)."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")[::-1]
    stepped = np.minimum.accumulate(p[order] * len(p) / np.arange(len(p), 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(stepped, 1.0)
    return out


def probability_best(
    scores: np.ndarray,
    seed: int = 0,
    resamples: int = 2_000,
    clusters: np.ndarray | None = None,
    classes: np.ndarray | None = None,
) -> np.ndarray:
    """(K,) share of bootstrap draws of the rows, or of whole groups, in which each arm of (K, n) scores is best; ties share.

    classes (n,): labels where the scores weigh classes alike; the draws then hold the least error of a difference too, which rows of
    a rare class that all come out alike do not show.
    """
    scores = np.asarray(scores, float)
    weights = bootstrap_counts(scores.shape[1], resamples, seed, clusters)
    means = (weights @ scores.T) / weights.sum(1, keepdims=True)
    if classes is not None:
        unseen, freedom = class_error(np.zeros(scores.shape[1]), classes, clusters)
        if np.isfinite(unseen):
            luck = np.random.default_rng(seed).standard_t(freedom, means.shape)
            means = means + unseen / np.sqrt(2) * luck
    best = means >= means.max(1, keepdims=True) - 1e-12
    return (best / best.sum(1, keepdims=True)).mean(0)

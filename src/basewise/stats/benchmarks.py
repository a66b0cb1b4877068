"""Benchmark numbers as means of per-item scores: interval, gap between two bases, distance to chance, trend over size.

A number that is no mean (area under the curve, a ratio of sums) enters as its linearisation: one pseudo-value an item, whose
mean is the number and whose spread is its sampling error (DeLong et al. 1988; Cochran 1977, ch. 6). Items that share a
passage are one cluster. Binary scores without clusters get Wilson's and Tango's intervals and McNemar's mid-p.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from basewise.stats.intervals import (
    ROUNDING,
    Interval,
    by_student,
    clustered_mean,
    design_effect,
    independent_rows,
    normal_quantile,
    of_odds,
    p_of_mean,
    standard_error,
    wilson,
)
from basewise.stats.paired import mcnemar_midp, paired_difference
from basewise.stats.power import smallest_gap


def own_clusters(clusters: Sequence[str]) -> np.ndarray:
    """(n,) int cluster ids; an empty name is a cluster of its own."""
    names: dict[str, int] = {}
    return np.array(
        [names.setdefault(name or f"\0{i}", len(names)) for i, name in enumerate(clusters)], dtype=np.int64
    )


def _alone(clusters: np.ndarray) -> bool:
    return len(np.unique(clusters)) == len(clusters)


def _binary(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def score_interval(scores: np.ndarray, clusters: np.ndarray, share: bool = False) -> Interval:
    """Mean of (n,) scores with its 95 % interval; clusters (n,) ids.

    `share`: the mean lies between 0 and 1 though single scores need not (pseudo-values of an area under a curve); the
    interval is made of its log odds, so it stays there too.
    """
    scores = np.asarray(scores, float)
    if _binary(scores) and _alone(clusters):
        return wilson(int(scores.sum()), len(scores))
    if _binary(scores):
        return clustered_mean(scores, clusters)
    found = _mean(scores, clusters)
    return of_odds(found) if share and 0 < found.estimate < 1 else found


def _mean(values: np.ndarray, clusters: np.ndarray) -> Interval:
    """Mean with Student's t over clusters; one cluster says nothing, so its interval is infinite."""
    groups, error = len(np.unique(clusters)), _error(values, clusters)
    return by_student(values, error, groups - 1) if groups > 1 else by_student(values, float("inf"), 1)


def _error(values: np.ndarray, clusters: np.ndarray) -> float:
    """Standard error of a mean difference; where counts are all alike, that of pseudo-counts: few clusters that agree are
    no certainty."""
    error = standard_error(values, clusters)
    counts = bool(np.isin(values, (-1.0, 0.0, 1.0)).all())
    return careful_error(values, clusters, paired=True) if error <= ROUNDING and counts else error


def _p_of_zero(values: np.ndarray, clusters: np.ndarray) -> float:
    """Two-sided p value of a mean of zero: t over clusters; 1 where nothing differs or there is one cluster."""
    return p_of_mean(values, _error(values, clusters), len(np.unique(clusters)) - 1)


def gap(
    scores_a: np.ndarray, scores_b: np.ndarray, clusters: np.ndarray, share: bool = False
) -> tuple[Interval, float]:
    """(mean of a minus b on the same items with its interval, two-sided p value). `share`: see `score_interval`; two shares
    are at most 1 apart."""
    a, b = np.asarray(scores_a, float), np.asarray(scores_b, float)
    if a.shape != b.shape:
        raise ValueError(f"{a.shape} and {b.shape} items came, the same items were expected")
    if _binary(a) and _binary(b) and _alone(clusters):
        right_a, right_b = a.astype(bool), b.astype(bool)
        return paired_difference(right_a, right_b), mcnemar_midp(right_a, right_b)
    found = _mean(a - b, clusters)
    if (share or (_binary(a) and _binary(b))) and np.isfinite(found.low):
        found = replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0))
    return found, _p_of_zero(a - b, clusters)


def over_chance(scores: np.ndarray, chance: np.ndarray, clusters: np.ndarray) -> tuple[Interval, float]:
    """(mean score minus mean chance with its interval, two-sided p value of guessing); chance (n,) a share an item.

    For unclustered binary scores the p value is exact: guesses follow the Poisson-binomial law of the chances, which
    is their binomial where all are equal; otherwise t over clusters.
    """
    scores, chance = np.asarray(scores, float), np.asarray(chance, float)
    base = float(chance.mean())
    found = score_interval(scores, clusters)
    moved = Interval(
        estimate=found.estimate - base,
        low=found.low - base,
        high=found.high - base,
        n=found.n,
        method=found.method,
    )
    if _binary(scores) and _alone(clusters):
        return moved, _guessing(int(scores.sum()), chance)
    # less a chance they are no counts, and would look certain
    if _binary(scores) and not np.ptp(scores):
        return moved, p_of_mean(
            scores - chance, careful_error(scores, clusters), len(np.unique(clusters)) - 1
        )
    return moved, _p_of_zero(scores - chance, clusters)


def _guessing(right: int, chance: np.ndarray) -> float:
    """Two-sided p value of so many right guesses: twice the smaller tail of the Poisson-binomial law."""
    law = np.ones(1)
    for value, count in zip(*np.unique(chance, return_counts=True), strict=True):
        from scipy.stats import binom

        law = np.convolve(law, binom.pmf(np.arange(count + 1), count, value))
    return float(min(1.0, 2 * min(law[: right + 1].sum(), law[right:].sum())))


def careful_error(values: np.ndarray, clusters: np.ndarray, paired: bool = False) -> float:
    """Standard error of a mean, or of a mean difference (`paired`), that stays above zero where counts show no spread.

    Few right or wrong answers, or few disagreements, are not certainty (pseudo-counts of Agresti and Coull 1998 for shares, of
    Agresti and Min 2005 for paired differences). Other values get the plain one, or nan where they do not differ at all.
    """
    values = np.asarray(values, float)
    error = standard_error(values, clusters)
    if not np.isin(values, (-1.0, 0.0, 1.0)).all() or not np.isfinite(error):
        return error or float("nan")
    n = len(values) / design_effect(values, clusters) if np.ptp(values) else len(np.unique(clusters))
    plus, minus = n * (values > 0).mean(), n * (values < 0).mean()
    if _binary(values) and not paired:
        share = (plus + 2) / (n + 4)
        return max(error, float(np.sqrt(share * (1 - share) / (n + 4))))
    spread = plus + minus + 1 - (plus - minus) ** 2 / (n + 2)
    return max(error, float(np.sqrt(spread)) / (n + 2))


def suite_interval(scores: Sequence[np.ndarray], clusters: Sequence[np.ndarray]) -> Interval:
    """Mean over tasks of the tasks' means; the tasks are the ones of the suite, only their items are drawn."""
    means = [float(np.mean(s)) for s in scores]
    errors = [careful_error(s, c) for s, c in zip(scores, clusters, strict=True)]
    estimate, n = float(np.mean(means)), int(sum(len(s) for s in scores))
    error = float(np.sqrt(np.square(errors).sum()) / len(means))
    half = normal_quantile(0.95) * error if np.isfinite(error) else float("inf")
    low, high = estimate - half, estimate + half
    if all(map(_binary, scores)):
        low, high = max(0.0, low), min(1.0, high)
    return Interval(estimate=estimate, low=low, high=high, n=n, method="mean of tasks")


def suite_gap(
    differences: Sequence[np.ndarray], clusters: Sequence[np.ndarray], errors: Sequence[float] | None = None
) -> tuple[Interval, float]:
    """(mean over tasks of the paired differences with its interval, two-sided p value by the normal law).

    `errors`: the standard error of each task's mean, where the differences are no differences of two scores."""
    from scipy.special import ndtr

    estimate = float(np.mean([np.mean(d) for d in differences]))
    if errors is None:
        errors = [careful_error(d, c, paired=True) for d, c in zip(differences, clusters, strict=True)]
    error = float(np.sqrt(np.square(errors).sum()) / len(errors))
    half = normal_quantile(0.95) * error if np.isfinite(error) else float("inf")
    n = int(sum(len(d) for d in differences))
    found = Interval(
        estimate=estimate, low=estimate - half, high=estimate + half, n=n, method="mean of tasks"
    )
    if not np.isfinite(error):
        return found, 1.0
    if error == 0:
        return found, 1.0 if abs(found.estimate) <= ROUNDING else 0.0
    return found, float(2 * ndtr(-abs(found.estimate) / error))


def slope(scores: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(n,) least-squares slope of (B, n) scores over (B,) sizes, an item at a time: its mean is the slope of the means."""
    centred = np.asarray(sizes, float) - np.mean(sizes)
    if not (centred**2).sum() > 0:
        raise ValueError("the sizes are all the same, a slope needs at least two")
    return (centred / (centred**2).sum()) @ np.asarray(scores, float)


def slope_error(scores: np.ndarray, sizes: np.ndarray, clusters: np.ndarray) -> float:
    """Standard error of the mean `slope` of (B, n) scores over (B,) sizes, in its unit; nan where nothing differs and nothing counts.

    A slope is the sum of the differences of all pairs, each weighted by how far apart their sizes are. What pseudo-counts add
    to the error of a difference (`careful_error`) is added with its weight.
    """
    scores, sizes = np.asarray(scores, float), np.asarray(sizes, float)
    spread = len(sizes) * float(((sizes - sizes.mean()) ** 2).sum())
    plain = standard_error(slope(scores, sizes), clusters)
    added = 0.0
    for low, high in itertools.combinations(range(len(sizes)), 2):
        gap_ = scores[high] - scores[low]
        careful, own = careful_error(gap_, clusters, paired=True), standard_error(gap_, clusters)
        if np.isfinite(careful):
            added += abs(sizes[high] - sizes[low]) / spread * float(np.sqrt(max(0.0, careful**2 - own**2)))
    return float(np.hypot(plain, added)) or float("nan")


def auroc_parts(certainty: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """(n,) pseudo-values whose mean is the area under the curve of certainty (n,) for positive (n,) against the rest."""
    from scipy.stats import rankdata

    certainty, positive = np.asarray(certainty, float), np.asarray(positive, bool)
    n, m = len(positive), int(positive.sum())
    if m in (0, n):
        raise ValueError("one kind of items only came, both were expected")
    ranks, inside, outside = (
        rankdata(certainty),
        rankdata(certainty[positive]),
        rankdata(certainty[~positive]),
    )
    above = np.empty(n)
    above[positive] = (ranks[positive] - inside) / (n - m)
    above[~positive] = 1 - (ranks[~positive] - outside) / m
    area = float(above[positive].mean())
    return area + (above - area) * np.where(positive, n / m, n / (n - m))


def ratio_parts(amounts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(n,) pseudo-values whose mean is sum(amounts) / sum(sizes), and whose spread is that of the ratio."""
    amounts, sizes = np.asarray(amounts, float), np.asarray(sizes, float)
    ratio = amounts.sum() / sizes.sum()
    return ratio + (amounts - ratio * sizes) / sizes.mean()


def visible(error: float, freedom: float = float("inf"), power: float = 0.8) -> float:
    """Smallest mean difference that a standard error shows with the given power (two-sided, 5 %, Student's t)."""
    from scipy.stats import t

    if not np.isfinite(error):
        return float("inf")
    return float((t.ppf(0.975, freedom) + t.ppf(power, freedom)) * error)


def smallest_paired_gap(differences: Sequence[np.ndarray], clusters: Sequence[np.ndarray]) -> float | None:
    """Smallest difference that as many items as these show in 4 of 5 cases: of a task, or of the mean of several tasks.

    A task has (n,) differences and (n,) cluster ids; where items are right or wrong it is as `smallest_mean_gap` has it, with the
    disagreement seen here. None where nothing differs, which says nothing of the spread, or where no difference is shown so often.
    """
    if not any(np.any(d) for d in differences):
        return None
    if all(np.isin(d, (-1.0, 0.0, 1.0)).all() for d in differences):
        worth = [independent_rows(d, c) for d, c in zip(differences, clusters, strict=True)]
        return smallest_mean_gap(worth, [max(float((d != 0).mean()), 1 / len(d)) for d in differences])
    errors = [standard_error(d, c) for d, c in zip(differences, clusters, strict=True)]
    freedom = len(np.unique(clusters[0])) - 1 if len(errors) == 1 else float("inf")
    seen = visible(float(np.sqrt(np.square(errors).sum()) / len(errors)), freedom)
    return seen if np.isfinite(seen) else None


def smallest_mean_gap(rows: Sequence[float], apart: Sequence[float]) -> float | None:
    """Smallest gap between two shares right, or between their means over tasks, that is shown in 4 of 5 cases; None for no gap.

    A task has so many independent rows, and two predictors differ on a share of them in being right: `apart`, or the gap where that is
    more. Of one task it is by the exact test; a mean's error is that of `suite_gap`, pseudo-counts included.
    """
    if len(rows) == 1:
        return smallest_gap(rows[0], apart[0])
    n, low, high = np.asarray(rows, float), 0.0, 1.0

    def shown(gap: float) -> bool:
        error = np.sqrt(n * np.maximum(apart, gap) + 1) / (n + 2)
        return visible(float(np.sqrt((error**2).sum()) / len(n))) <= gap

    # a single row tells no spread, and the mean has none then
    if n.min() < 2 or not shown(high):
        return None
    # what is needed grows with the root of the gap, so there is one crossing
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high

"""Intervals for shares and means: Wilson, Clopper-Pearson, Newcombe, clustered; bootstrap draws of rows or whole clusters.

Wilson is the default for a share (Wilson 1927; Brown, Cai and DasGupta 2001); rows that come in groups get a standard error
from the sums of each group's residuals (Miller, arXiv 2411.00640) with Student's t where groups are few.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

ROUNDING = 1e-12
"""Below this a spread is the rounding of sums, not a spread."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its interval. `n`: rows it came from; `level`: nominal coverage."""

    estimate: float
    low: float
    high: float
    n: int
    level: float = 0.95
    method: str = ""

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def normal_quantile(level: float) -> float:
    """Two-sided normal quantile, 1.96 for 0.95."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))


def _check(successes: float, n: float) -> None:
    if n < 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} came, 0 <= successes <= n was expected")


def wilson(successes: float, n: float, level: float = 0.95) -> Interval:
    """Score interval of a share; (0, 1) when n is 0."""
    _check(successes, n)
    if n == 0:
        return Interval(estimate=float("nan"), low=0.0, high=1.0, n=0, level=level, method="wilson")
    z, p = normal_quantile(level), successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = max(0.0, float(centre - half)), min(1.0, float(centre + half))
    return Interval(
        estimate=float(p), low=min(low, p), high=max(high, p), n=int(n), level=level, method="wilson"
    )


def clopper_pearson(successes: float, n: float, level: float = 0.95) -> Interval:
    """Exact interval of a share: never covers less than it says (Clopper and Pearson 1934)."""
    _check(successes, n)
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(beta.ppf(1 - tail, successes + 1, n - successes))
    estimate = successes / n if n else float("nan")
    return Interval(estimate=estimate, low=low, high=high, n=int(n), level=level, method="clopper-pearson")


def standard_error(scores: np.ndarray, clusters: np.ndarray) -> float:
    """Standard error of the mean of (n,) scores from the sums of each cluster's residuals; nan with one cluster."""
    scores = np.asarray(scores, float)
    _, inverse = np.unique(clusters, return_inverse=True)
    groups = int(inverse.max()) + 1 if len(inverse) else 0
    if groups < 2:
        return float("nan")
    sums = np.bincount(inverse, weights=scores - scores.mean())
    error = float(np.sqrt(groups / (groups - 1) * (sums**2).sum()) / len(scores))
    return error if error > ROUNDING * max(1.0, float(np.abs(scores).max())) else 0.0


def design_effect(scores: np.ndarray, clusters: np.ndarray) -> float:
    """How many times the variance of independent items the clusters make it, at least 1."""
    scores = np.asarray(scores, float)
    spread, error = float(scores.var()), standard_error(scores, clusters)
    if spread == 0 or not np.isfinite(error):
        return 1.0
    return max(1.0, error**2 * len(scores) / spread)


def clustered_mean(values: np.ndarray, clusters: np.ndarray, level: float = 0.95) -> Interval:
    """Mean of (n,) values whose rows share clusters (n,): Var = G/(G-1) * sum_g (sum of residuals)^2 / n^2, t with G-1."""
    from scipy.stats import t

    values = np.asarray(values, float)
    groups, n, mean = len(np.unique(clusters)), len(values), float(values.mean())
    if groups < 2:
        return Interval(estimate=mean, low=0.0, high=1.0, n=n, level=level, method="one cluster")
    # no spread to measure: each cluster counts as one row
    if np.ptp(values) == 0 and mean in (0.0, 1.0):
        flat = wilson(mean * groups, groups, level)
        return Interval(
            estimate=mean, low=flat.low, high=flat.high, n=n, level=level, method="wilson on clusters"
        )
    error = standard_error(values, clusters)
    half = float(t.ppf(0.5 + level / 2, groups - 1)) * error
    bounded = values.min() >= 0 and values.max() <= 1
    low, high = mean - half, mean + half
    if bounded:
        low, high = max(0.0, low), min(1.0, high)
    return Interval(estimate=mean, low=float(low), high=float(high), n=n, level=level, method="clustered")


def of_odds(found: Interval) -> Interval:
    """The interval of a share from that of its log odds, with the same standard error by the delta method."""
    mean = found.estimate
    if not 0 < mean < 1:
        return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))
    half = (found.high - mean) / (mean * (1 - mean))
    low, high = (1 / (1 + np.exp(-(np.log(mean / (1 - mean)) + side * half))) for side in (-1, 1))
    return replace(found, low=float(low), high=float(high))


def by_student(values: np.ndarray, error: float, freedom: float) -> Interval:
    """Mean of (n,) values with Student's interval of a given standard error."""
    from scipy.stats import t

    mean, half = float(np.mean(values)), float(t.ppf(0.975, freedom)) * error
    return Interval(estimate=mean, low=mean - half, high=mean + half, n=len(values), method="clustered")


def p_of_mean(values: np.ndarray, error: float, freedom: float) -> float:
    """Two-sided p value of a mean of zero; 1 where nothing differs or the error is unknown."""
    from scipy.stats import t

    mean = float(np.mean(values))
    if not np.isfinite(error):
        return 1.0
    if error == 0:
        return 1.0 if abs(mean) <= ROUNDING * max(1.0, float(np.abs(values).max())) else 0.0
    return float(2 * t.sf(abs(mean) / error, freedom))


def independent_rows(values: np.ndarray, clusters: np.ndarray | None) -> float:
    """As how many independent rows (n,) values count for their mean when rows come in groups, `clusters` (n,); n without groups.

    n over the design effect (Kish 1965), the variance of the mean over that of independent rows, and less where few groups say how
    large it is: the normal quantile is to Student's as 1 to the root of that. Values without a spread count once a group.
    """
    from scipy.stats import t

    values, n = np.asarray(values, float), len(values)
    groups = n if clusters is None else len(np.unique(clusters))
    if clusters is None or groups == n:
        return float(n)
    if groups < 2 or np.ptp(values) == 0:
        return float(min(groups, n))
    few = (float(t.ppf(0.975, groups - 1)) / normal_quantile(0.95)) ** 2
    return float(n / (design_effect(values, clusters) * few))


def class_error(
    values: np.ndarray, labels: np.ndarray, clusters: np.ndarray | None = None
) -> tuple[float, float]:
    """(standard error, degrees of freedom) of the mean of (n,) values that weigh the classes of `labels` (n,) alike.

    A rare class has few rows and all of its weight: where they all come out alike it looks certain and is not. So each class's
    share of the variance is never less than one more row of it would make it (Agresti and Min 2005, by class), and the freedom is
    Satterthwaite's over the classes: that of the rare class where it decides. In groups the rows of a class are as many as they
    are worth by the design effect.
    """
    values, n = np.asarray(values, float), len(values)
    groups = n if clusters is None else len(np.unique(clusters))
    if groups < 2:
        return float("inf"), 1.0
    effect = 1.0 if clusters is None or groups == n else design_effect(values, clusters)
    _, number, rows = np.unique(labels, return_inverse=True, return_counts=True)
    worth = rows / effect
    few = np.maximum(worth - 1, 1)
    squares = np.bincount(number, weights=(values - values.mean()) ** 2)
    parts = effect * squares / n**2 * worth / few + (1 / (len(rows) * (worth + 2))) ** 2
    freedom = float(parts.sum() ** 2 / (parts**2 / few).sum())
    return float(np.sqrt(parts.sum())), freedom if groups == n else min(freedom, groups - 1.0)


def share_of(
    hits: np.ndarray,
    clusters: np.ndarray | None = None,
    level: float = 0.95,
    interval: Callable[[float, float, float], Interval] = wilson,
) -> Interval:
    """The share of (n,) hits with an interval (`wilson`, `clopper_pearson`) of as many rows as they are worth in their groups."""
    hits = np.asarray(hits, float)
    worth = independent_rows(hits, clusters)
    return replace(interval(float(hits.mean()) * worth if worth else 0.0, worth, level), n=len(hits))


def newcombe(a: Interval, b: Interval) -> Interval:
    """A share less another one of other rows, from the interval of each (Newcombe 1998, method 10)."""
    value = a.estimate - b.estimate
    below = float(np.hypot(a.estimate - a.low, b.high - b.estimate))
    above = float(np.hypot(a.high - a.estimate, b.estimate - b.low))
    return Interval(
        estimate=value, low=value - below, high=value + above, n=a.n + b.n, level=a.level, method="newcombe"
    )


def bootstrap_counts(
    n: int, resamples: int = 2_000, seed: int = 0, clusters: np.ndarray | None = None
) -> np.ndarray:
    """(resamples, n) how often each row is drawn; with clusters (n,), whole clusters are drawn."""
    if clusters is None:
        return _counts(n, resamples, seed)
    _, inverse = np.unique(np.asarray(clusters), return_inverse=True)
    return _counts(int(inverse.max()) + 1, resamples, seed)[:, inverse]


def _counts(units: int, resamples: int, seed: int) -> np.ndarray:
    """(resamples, units) multinomial counts; drawing and counting indices is several times faster than binomials."""
    rng = np.random.default_rng(seed)
    out = np.empty((resamples, units))
    step = max(1, 1_000_000 // max(1, units))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(0, units, (size, units)) + units * np.arange(size)[:, None]
        out[start : start + size] = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)
    return out

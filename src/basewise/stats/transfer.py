"""Labels saved: how many times the labels a control needs to be as good as the base is with n.

Curves are made monotone (a larger subset is not worse, on average) and joined on a log scale; the control's curve is
inverted at the base's level. The interval holds every factor that a paired test of the two errors does not reject; a
bootstrap of the inverted curve counts the chance of single rows twice (once with rows, once with draws). Where the control
never gets there within its sizes, the factor is right-censored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SMALLEST = 1e-3
"""Errors below this are taken as this where curves are joined: the log of no error is not to be had."""
PICKED = 0.005
"""Level of the test behind "at least", which is only said of curves picked for looking so."""


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """sizes (T,); errors (S draws, T sizes); right (T, S, rows) outcomes where known, for paired resampling."""

    sizes: np.ndarray
    errors: np.ndarray
    right: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class LabelsSaved:
    """`factor`: control labels over base labels at `at`; when `censored` a lower bound, true in 95 % of the curves it is said of.

    low, high: 95 % interval, from `factor` up when `censored`. `share_censored`: how sure it is that the control is not there at its last size.
    """

    factor: float
    low: float
    high: float
    censored: bool
    at: float
    catches_up_at: float | None
    share_censored: float


def monotone(errors: np.ndarray) -> np.ndarray:
    """(T,) least-squares non-increasing fit (pool adjacent violators)."""
    blocks: list[list[float]] = []
    for value in errors:
        blocks.append([float(value), 1.0])
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            value_b, weight_b = blocks.pop()
            value_a, weight_a = blocks.pop()
            weight = weight_a + weight_b
            blocks.append([(value_a * weight_a + value_b * weight_b) / weight, weight])
    return np.concatenate([np.full(int(weight), value) for value, weight in blocks])


def error_at(sizes: np.ndarray, errors: np.ndarray, at: float) -> float:
    """Error of a curve at a size, joined on the logs of both, so that a power law is joined without a bend."""
    return float(np.exp(np.interp(np.log(at), np.log(sizes), np.log(np.maximum(errors, SMALLEST)))))


def size_for(sizes: np.ndarray, errors: np.ndarray, level: float) -> float:
    """Smallest size at which a monotone curve reaches `level`; inf beyond its sizes, its first size when there at once."""
    if errors[-1] > level:
        return float("inf")
    if errors[0] <= level:
        return float(sizes[0])
    j = int(np.argmax(errors <= level))
    before, after, wanted = np.log(np.maximum([errors[j - 1], errors[j], level], SMALLEST))
    share = (before - wanted) / max(before - after, 1e-12)
    return float(np.exp(np.log(sizes[j - 1]) + share * (np.log(sizes[j]) - np.log(sizes[j - 1]))))


def _read(sizes: np.ndarray, errors: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(G,) errors of a curve at the sizes `at`, and (G, T) how they move with the T errors it is joined from."""
    share = np.stack([np.interp(np.log(at), np.log(sizes), unit) for unit in np.eye(len(sizes))], axis=1)
    errors = np.maximum(errors, SMALLEST)
    found = np.exp(share @ np.log(errors))
    return found, found[:, None] * share / errors


def _draw_deviations(curve: LearningCurve) -> np.ndarray:
    """(S, T) deviations of the draws from their mean, less the part that is chance of the rows and counted there."""
    deviations = curve.errors - curve.errors.mean(0)
    draws = len(deviations)
    if curve.right is None or draws < 2:
        return deviations
    wrong = 1.0 - curve.right  # (T, S, rows)
    rows = wrong.shape[2]
    left = (
        wrong
        - wrong.mean(2, keepdims=True)
        - wrong.mean(1, keepdims=True)
        + wrong.mean((1, 2), keepdims=True)
    )
    chance = (left**2).sum() / ((draws - 1) * max(rows - 1, 1) * rows * len(wrong))
    seen = (deviations**2).sum() / ((draws - 1) * len(wrong))
    return deviations * np.sqrt(max(0.0, 1 - chance / seen)) if seen > 0 else deviations


def _row_deviations(curve: LearningCurve) -> np.ndarray:
    """(rows, T) deviations of each row's share of wrong draws from the curve; no rows where outcomes are not known."""
    if curve.right is None:
        return np.zeros((0, len(curve.sizes)))
    wrong = 1.0 - curve.right.mean(1).T
    return wrong - wrong.mean(0)


def _draw_covariance(curve: LearningCurve) -> np.ndarray:
    """(T, T) covariance of a curve's mean errors by the luck of its draws; 0 from one draw.

    Subsets of neighbouring sizes are nested, so their errors move together; how much is read off all neighbours at once,
    since a covariance of one pair from five draws would have too few degrees of freedom to be of use.
    """
    draws, sizes = curve.errors.shape
    if draws < 2:
        return np.zeros((sizes, sizes))
    deviations = _draw_deviations(curve)
    length = np.sqrt((deviations**2).sum(0))
    unit, error = deviations / np.maximum(length, 1e-12), length / np.sqrt(draws * (draws - 1))
    alike = max(0.0, float((unit[:, 1:] * unit[:, :-1]).sum(0).mean()))
    near = np.eye(sizes) + alike * (np.eye(sizes, k=1) + np.eye(sizes, k=-1))
    return near * error[:, None] * error


def _spread_of_rows(deviations: np.ndarray) -> np.ndarray:
    """Variance (G,) of the mean of (rows, G) deviations."""
    rows = len(deviations)
    return (deviations**2).sum(0) / (rows * (rows - 1)) if rows > 1 else np.zeros(deviations.shape[1])


@dataclass(frozen=True, kw_only=True)
class _Gap:
    """Control's error at G sizes minus the base's: over its standard error, and degrees of freedom."""

    score: np.ndarray
    freedom: np.ndarray


def _behind(base: LearningCurve, control: LearningCurve, at: float, sizes: np.ndarray) -> _Gap:
    """How far the control at each of (G,) sizes is behind the base at `at`."""
    level, base_slope = _read(base.sizes, base.errors.mean(0), np.array([at]))
    errors, slope = _read(control.sizes, control.errors.mean(0), sizes)
    b, c = _row_deviations(base) @ base_slope.T, _row_deviations(control) @ slope.T
    rows = _spread_of_rows(c - b) if len(b) == len(c) else _spread_of_rows(b) + _spread_of_rows(c)
    draws, over = np.zeros(1), np.zeros(1)
    for curve, moves in ((base, base_slope), (control, slope)):
        covariance = _draw_covariance(curve)
        draws = draws + ((moves @ covariance) * moves).sum(1)
        over = over + ((moves**2 * np.diag(covariance)) ** 2).sum(1) / max(len(curve.errors) - 1, 1)
    if min(len(base.errors), len(control.errors)) < 2:
        rows = rows * 1.5**2  # one draw says nothing about the spread of draws
    n_rows = max(2, min(len(b), len(c)))
    freedom = (rows + draws) ** 2 / np.maximum(rows**2 / (n_rows - 1) + over, 1e-300)
    error = np.sqrt(np.maximum(rows + draws, 1e-24))
    return _Gap(score=(errors - level) / error, freedom=np.maximum(freedom, 1.0))


def _least(gap: _Gap, factors: np.ndarray) -> float:
    """What the control needs at least, when it was seen behind at its last size: 0 when even its first may be enough.

    That it was seen behind is what makes one say "at least". A bound that fails in 5 of 100 curves can fail in half of
    the few that are picked so; tested at 0.5 % it holds in 95 % of the picked whenever a tenth or more are.
    """
    from scipy.stats import t

    possible = np.flatnonzero(gap.score <= t.ppf(1 - PICKED, gap.freedom))
    if not len(possible):
        return float(factors[-1])
    return 0.0 if possible[0] == 0 else float(factors[possible[0]])


def labels_saved(base: LearningCurve, control: LearningCurve, at: float | None = None) -> LabelsSaved:
    """The factor at `at` labels of the base (its largest size when left out) with a 95 % interval.

    A factor is in the interval when the test "at this many labels the control is as good" does not reject it (Fieller's
    way, 1954), with the variance of test rows (shared by both curves) and of training draws apart and Student's t by
    Satterthwaite. The lower end is 0, the upper infinite, where the control's sizes do not bound it. Coverage by
    simulation: benchmarks/honesty.py.
    """
    from scipy.stats import t

    at = float(at or base.sizes[-1])
    curves = (base.sizes, monotone(base.errors.mean(0))), (control.sizes, monotone(control.errors.mean(0)))
    point = size_for(*curves[1], error_at(*curves[0], at)) / at
    grid = np.union1d(np.geomspace(control.sizes[0], control.sizes[-1], 400), control.sizes)
    gap = _behind(base, control, at, grid)
    share = float(t.cdf(gap.score[-1], gap.freedom[-1]))
    if not np.isfinite(point):
        bound = _least(gap, grid / at)
        low, high = bound, float("inf")
    else:
        bound, (low, high) = float(point), _ends(gap, grid / at, float(point))
    return LabelsSaved(
        factor=bound,
        low=low,
        high=high,
        censored=not np.isfinite(point),
        at=at,
        catches_up_at=_meeting(*curves),
        share_censored=share,
    )


def _ends(gap: _Gap, factors: np.ndarray, point: float) -> tuple[float, float]:
    """Least and greatest of the (G,) factors that the test does not reject; the point lies between them.

    Where the last is not rejected there is no upper end to be wrong about: all 5 % are then the lower end's.
    """
    from scipy.stats import t

    one_sided, two_sided = t.ppf(0.95, gap.freedom), t.ppf(0.975, gap.freedom)
    open_end = gap.score[-1] >= -two_sided[-1]
    possible = factors[(gap.score <= (one_sided if open_end else two_sided)) & (gap.score >= -two_sided)]
    if len(possible):
        low = 0.0 if possible[0] <= factors[0] else float(possible[0])
        high = float("inf") if open_end else float(possible[-1])
    else:  # every size is told from the level: it lies before the first, between two, or beyond the last
        low = 0.0 if gap.score[0] < 0 else point
        high = float("inf") if gap.score[-1] > 0 else point
    return min(low, point), max(high, point)


def _meeting(base: tuple[np.ndarray, np.ndarray], control: tuple[np.ndarray, np.ndarray]) -> float | None:
    """Smallest common size from which on the control is as good as the base with the same labels; None if never."""
    low, high = max(base[0][0], control[0][0]), min(base[0][-1], control[0][-1])
    if high < low:
        return None
    grid = np.geomspace(low, high, 200)
    ahead = np.array([error_at(*control, g) <= error_at(*base, g) for g in grid])
    if not ahead[-1]:
        return None
    behind = np.flatnonzero(~ahead)
    return float(grid[behind[-1] + 1] if len(behind) else grid[0])

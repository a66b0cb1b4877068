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
TAIL = 0.025
"""Level of the lower end of a 95 % interval."""
PICKED = 0.005
"""Least level of the test behind "at least", which is only said of curves picked for looking so."""


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """sizes (T,); errors (S draws, T sizes); right (T, S, rows) outcomes where known; pool: rows that all draws come from.

    pool None: each draw comes fresh, from more rows than can matter.
    """

    sizes: np.ndarray
    errors: np.ndarray
    right: np.ndarray | None = None
    pool: float | None = None


@dataclass(frozen=True, kw_only=True)
class LabelsSaved:
    """`factor`: control labels over base labels at `at`; when `censored` a lower bound, true in 95 % of the curves it is said of.

    low, high: 95 % interval, from `factor` up when `censored`. `share_censored`: how sure it is that the control is not there at its
    last size.
    """

    factor: float
    low: float
    high: float
    censored: bool
    at: float
    catches_up_at: float | None
    share_censored: float


def by_group(right: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(..., G) outcomes of whole groups of rows from (..., rows), with the same mean; the groups are then what chance draws.

    A group's outcome is 1 less its errors over the mean number of rows a group.
    """
    _, inverse = np.unique(groups, return_inverse=True)
    count = int(inverse.max()) + 1 if len(inverse) else 0
    if count == len(inverse):
        return right
    order = np.argsort(inverse, kind="stable")
    starts = np.searchsorted(inverse[order], np.arange(count))
    wrong = 1.0 - np.asarray(right, float)[..., order]
    return 1.0 - np.add.reduceat(wrong, starts, axis=-1) * (count / len(inverse))


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


def _row_deviations(curve: LearningCurve) -> np.ndarray:
    """(rows, T) deviations of each row's share of wrong draws from the curve; no rows where outcomes are not known."""
    if curve.right is None:
        return np.zeros((0, len(curve.sizes)))
    wrong = 1.0 - curve.right.mean(1).T
    return wrong - wrong.mean(0)


def _chance_of_rows(curve: LearningCurve) -> np.ndarray:
    """(T, T) covariance of one draw's errors that is chance of single rows; it is counted with the rows, so not again here."""
    draws, sizes = curve.errors.shape
    if curve.right is None:
        return np.zeros((sizes, sizes))
    # of shape (T, S, rows)
    wrong = 1.0 - curve.right
    rows = wrong.shape[2]
    left = (
        wrong
        - wrong.mean(2, keepdims=True)
        - wrong.mean(1, keepdims=True)
        + wrong.mean((1, 2), keepdims=True)
    ).reshape(sizes, -1)
    return left @ left.T / ((draws - 1) * max(rows - 1, 1) * rows)


def _shared(curve: LearningCurve) -> tuple[np.ndarray, np.ndarray]:
    """(T, T) map of the luck seen at each size to what it is there, and (T,) its variance in the mean of S draws over that seen.

    Two draws of n of N rows share n / N of them. By so much draws differ less than fresh ones would, while their mean keeps the
    luck they share: of a variance v, v (1 - n / N) is seen and v (n / N + (1 - n / N) / S) is in the mean. Draws that share more than
    half say too little: there the luck is taken in proportion to the error from the last size that is below.
    """
    draws, sizes = curve.errors.shape
    share = np.minimum(curve.sizes / curve.pool, 1.0) if curve.pool else np.zeros(sizes)
    known = np.flatnonzero(share <= 0.5)
    seen = np.minimum(np.arange(sizes), known[-1] if len(known) else 0)
    errors = np.maximum(curve.errors.mean(0), SMALLEST)
    moved = np.zeros((sizes, sizes))
    moved[np.arange(sizes), seen] = errors / errors[seen]
    return moved, (share + (1 - share) / draws) / (1 - np.minimum(share[seen], 0.5))


def _draw_covariance(curve: LearningCurve) -> tuple[np.ndarray, np.ndarray]:
    """(T, T) covariance of a curve's mean errors by the luck of its draws, and (T,) variances before chance is taken off.

    Zeros from one draw. Chance of rows is taken off each size by itself: errors of few labels vary more than those of many, and a
    share of chance that is the mean of all sizes leaves too much at the larger ones. What is left may be below 0, and is not cut off here,
    since that would lift the mean. Subsets of neighbouring sizes are nested, so their errors move together; how much is read
    off all neighbours at once, since a covariance of one pair from five draws would have too few degrees of freedom.
    """
    draws, sizes = curve.errors.shape
    if draws < 2:
        return np.zeros((sizes, sizes)), np.zeros(sizes)
    deviations = curve.errors - curve.errors.mean(0)
    length = np.sqrt((deviations**2).sum(0))
    unit, spread = deviations / np.maximum(length, 1e-12), length / np.sqrt(draws - 1)
    alike = max(0.0, float((unit[:, 1:] * unit[:, :-1]).sum(0).mean()))
    near = np.eye(sizes) + alike * (np.eye(sizes, k=1) + np.eye(sizes, k=-1))
    moved, share = _shared(curve)
    scale = moved * np.sqrt(share)[:, None]
    return scale @ (near * spread[:, None] * spread - _chance_of_rows(curve)) @ scale.T, scale**2 @ spread**2


def _spread_of_rows(deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variance (G,) of the mean of (rows, G) deviations, and its covariance with the last."""
    rows, sizes = deviations.shape
    if rows < 2:
        return np.zeros(sizes), np.zeros(sizes)
    of = rows * (rows - 1)
    return (deviations**2).sum(0) / of, (deviations * deviations[:, -1:]).sum(0) / of


@dataclass(frozen=True, kw_only=True)
class _Gap:
    """Control's error at G sizes minus the base's: over its standard error, and degrees of freedom.

    ahead: how much less the control errs at its last size than at each, over the standard error there. alike: correlation of the score
    with the last one.
    """

    score: np.ndarray
    freedom: np.ndarray
    ahead: np.ndarray
    alike: np.ndarray


def _behind(base: LearningCurve, control: LearningCurve, at: float, sizes: np.ndarray) -> _Gap:
    """How far the control at each of (G,) sizes is behind the base at `at`."""
    level, base_slope = _read(base.sizes, base.errors.mean(0), np.array([at]))
    errors, slope = _read(control.sizes, control.errors.mean(0), sizes)
    b, c = _row_deviations(base) @ base_slope.T, _row_deviations(control) @ slope.T
    paired = len(b) == len(c)
    rows, near = _spread_of_rows(c - b) if paired else np.add(_spread_of_rows(b), _spread_of_rows(c))
    draws, draws_near, over = np.zeros(1), np.zeros(1), np.zeros(1)
    for curve, moves in ((base, base_slope), (control, slope)):
        covariance, seen = _draw_covariance(curve)
        draws = draws + ((moves @ covariance) * moves).sum(1)
        draws_near = draws_near + moves @ covariance @ moves[-1]
        over = over + ((moves**2 * seen) ** 2).sum(1) / max(len(curve.errors) - 1, 1)
    if min(len(base.errors), len(control.errors)) < 2:
        # one draw says nothing about the spread of draws
        rows = rows * 1.5**2
    n_rows = max(2, min(len(b), len(c)))
    variance = np.maximum(rows + np.maximum(draws, 0.0), 1e-24)
    freedom = variance**2 / np.maximum(rows**2 / (n_rows - 1) + over, 1e-300)
    error = np.sqrt(variance)
    return _Gap(
        score=(errors - level) / error,
        freedom=np.maximum(freedom, 1.0),
        ahead=np.maximum(errors - errors[-1], 0.0) / error[-1],
        alike=np.clip((near + draws_near) / (error * error[-1]), 0.0, 0.999),
    )


def _picked_level(gap: _Gap) -> np.ndarray:
    """(G,) level of the test behind "at least", which is only said where the control was seen behind at its last size.

    A bound that fails in 5 of 100 curves can fail in half of the few that are picked so. If a factor is the true one, curves are picked so
    with a chance that follows from how much the control still gains beyond it; tested at 5 % of that chance, the bound holds in
    95 % of the picked. Below a tenth the chance is too uncertain to be used: tested at 0.5 %, it holds in 95 % whenever
    a tenth or more are picked.
    """
    from scipy.special import ndtr

    return np.maximum(PICKED, 0.05 * ndtr(-gap.ahead))


def _least(gap: _Gap, factors: np.ndarray) -> float:
    """What the control needs at least, when it was seen behind at its last size: 0 when even its first may be enough."""
    from scipy.stats import t

    possible = np.flatnonzero(gap.score <= t.isf(_picked_level(gap), gap.freedom))
    if not len(possible):
        return float(factors[-1])
    return 0.0 if possible[0] == 0 else float(factors[possible[0]])


def _upper_level(gap: _Gap) -> np.ndarray:
    """(G,) level at which a factor is too large: 5 % less what the lower end spends on it, so that each factor has 5 % in all (Neyman).

    The lower end spends 2.5 % on a factor that the control passes for sure. Near its last size what would be a miss there is mostly
    called "at least", and tested at the lower level of that; how often follows from the correlation with the last score.
    """
    from scipy.special import ndtr, ndtri

    # midpoints of 16 equal parts of each tail
    tail = (np.arange(16)[:, None] + 0.5) / 16

    def called(level: np.ndarray | float) -> np.ndarray:
        score = -ndtri(tail * level)
        return ndtr((gap.alike * score - gap.ahead) / np.sqrt(1 - gap.alike**2)).mean(0)

    picked = _picked_level(gap)
    spent = TAIL * (1 - called(TAIL)) + picked * called(picked)
    # never more in truth; the midpoints may be a hair above
    return 0.05 - np.minimum(spent, TAIL)


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
    """Least and greatest of the (G,) factors that the test does not reject; the point lies between them."""
    from scipy.stats import t

    too_large = gap.score < -t.isf(_upper_level(gap), gap.freedom)
    possible = factors[(gap.score <= t.isf(TAIL, gap.freedom)) & ~too_large]
    if len(possible):
        low = 0.0 if possible[0] <= factors[0] else float(possible[0])
        high = float(possible[-1]) if too_large[-1] else float("inf")
    else:
        # every size is told from the level: it lies before the first, between two, or beyond the last
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

"""Labels saved: how many times the labels a control needs to be as good as the base is with n.

Curves are made monotone (a larger subset is not worse, on average) and joined on a log scale; the control's curve is
inverted at the base's level. The interval comes from a bootstrap that draws test rows (shared by both curves) and
training draws within each size. Where the control never gets there within its sizes, the factor is right-censored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """sizes (T,); errors (S draws, T sizes); right (T, S, rows) outcomes where known, for paired resampling."""

    sizes: np.ndarray
    errors: np.ndarray
    right: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class LabelsSaved:
    """`factor`: control labels over base labels at `at`; a lower bound when `censored`. Level of the interval: 0.95."""

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
    """Error of a monotone curve at a size, joined on the log of the size."""
    return float(np.interp(np.log(at), np.log(sizes), errors))


def size_for(sizes: np.ndarray, errors: np.ndarray, level: float) -> float:
    """Smallest size at which a monotone curve reaches `level`; inf beyond its sizes, its first size when there at once."""
    if errors[-1] > level:
        return float("inf")
    if errors[0] <= level:
        return float(sizes[0])
    j = int(np.argmax(errors <= level))
    share = (errors[j - 1] - level) / max(errors[j - 1] - errors[j], 1e-12)
    return float(np.exp(np.log(sizes[j - 1]) + share * (np.log(sizes[j]) - np.log(sizes[j - 1]))))


def _factor(base: tuple[np.ndarray, np.ndarray], control: tuple[np.ndarray, np.ndarray], at: float) -> float:
    return size_for(*control, error_at(*base, at)) / at


def _resampled(curve: LearningCurve, rng: np.random.Generator, rows: np.ndarray | None) -> np.ndarray:
    """(T,) monotone mean errors of one bootstrap draw: training draws within each size, test rows where known."""
    draws, sizes = curve.errors.shape
    pick = rng.integers(0, draws, (draws, sizes))
    if curve.right is not None and rows is not None:
        wrong = 1 - curve.right[:, :, rows].mean(2)  # (T, S)
        return monotone(np.take_along_axis(wrong.T, pick, 0).mean(0))
    return monotone(np.take_along_axis(curve.errors, pick, 0).mean(0))


def labels_saved(
    base: LearningCurve,
    control: LearningCurve,
    at: float | None = None,
    seed: int = 0,
    resamples: int = 1_000,
) -> LabelsSaved:
    """The factor at `at` labels of the base (its largest size when left out) with a 95 % interval.

    The percentile interval is widened by the ratio that makes `draws` draws honest (sqrt(S / (S - 1))), on the log scale.
    """
    at = float(at or base.sizes[-1])
    rng = np.random.default_rng(seed)
    n_rows = base.right.shape[2] if base.right is not None else 0
    curves = (base.sizes, monotone(base.errors.mean(0))), (control.sizes, monotone(control.errors.mean(0)))
    point = _factor(*curves, at)
    cap = float(control.sizes[-1]) / at
    factors = np.empty(resamples)
    for i in range(resamples):
        rows = rng.integers(0, n_rows, n_rows) if n_rows else None
        b, c = _resampled(base, rng, rows), _resampled(control, rng, rows)
        factors[i] = _factor((base.sizes, b), (control.sizes, c), at)
    censored = not np.isfinite(point)
    logs = np.log(np.where(np.isfinite(factors), factors, np.inf))
    low, high = np.quantile(logs, 0.025, method="lower"), np.quantile(logs, 0.975, method="higher")
    centre = np.log(point) if not censored else np.log(cap)
    draws = min(base.errors.shape[0], control.errors.shape[0])
    wider = np.sqrt(draws / (draws - 1)) if draws > 1 else 1.5
    low = min(centre, centre + (low - centre) * wider) if np.isfinite(low) else np.log(cap)
    high = centre + (high - centre) * wider if np.isfinite(high) else np.inf
    return LabelsSaved(
        factor=float(point if not censored else cap),
        low=float(np.exp(low)),
        high=float(np.exp(high)),
        censored=censored,
        at=at,
        catches_up_at=_meeting(*curves),
        share_censored=float(np.isinf(factors).mean()),
    )


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

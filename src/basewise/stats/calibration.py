"""Whether probabilities are probabilities: debiased calibration error and its interval.

The plain calibration error of a perfectly calibrated predictor is 3-5 points at 500 rows; here each bin's sampling
variance is taken off first (Kumar, Liang and Ma 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from basewise.stats.intervals import Interval, bootstrap_counts, design_effect, share_of

MOST_DRAWN = 20_000
"""Rows a bootstrap draws from; more tell how large the error is, not how it is spread."""


def _equal_mass(confidence: np.ndarray, bins: int) -> list[np.ndarray]:
    order = np.argsort(confidence, kind="stable")
    return [part for part in np.array_split(order, max(1, min(bins, len(order)))) if len(part)]


def _squared_gap(
    confidence: np.ndarray, right: np.ndarray, bins: int, groups: np.ndarray | None
) -> tuple[float, float]:
    """(mean squared gap between confidence and accuracy over equal-mass bins, how much of it the chance of rows explains).

    groups (n,): small whole numbers, rows in groups. A group is scattered over the bins, so what its rows have in common is asked of
    each bin by itself; a bin of a single group, which cannot say, is taken to have as much of it as all rows.
    """
    parts, total = _equal_mass(confidence, bins), len(right)
    if not parts:
        return 0.0, 0.0
    order, n = np.concatenate(parts), np.array([len(part) for part in parts])
    place, gap, several = np.repeat(np.arange(len(n)), n), (right - confidence)[order], np.maximum(n - 1, 1)
    mean, accuracy = (np.bincount(place, weights=values) / n for values in (gap, right[order]))
    noise = accuracy * (1 - accuracy) / several
    if groups is not None:
        own, width = groups[order], int(groups.max()) + 1
        cells = place * width + own
        sums = np.bincount(cells, gap - mean[place], len(n) * width).reshape(len(n), width)
        number = (np.bincount(cells, minlength=len(n) * width).reshape(len(n), width) > 0).sum(1)
        # as `standard_error` has it
        together = number / np.maximum(number - 1, 1) * (sums**2).sum(1) / n**2
        single = number < 2
        noise[~single] = together[~single]
        noise[single] *= design_effect(right - confidence, groups) if single.any() else 1.0
    return float(n @ mean**2) / total, float(n @ noise) / total


def ece_debiased(
    confidence: np.ndarray, right: np.ndarray, bins: int = 15, clusters: np.ndarray | None = None
) -> float:
    """Root of the debiased squared gap between confidence and accuracy over equal-mass bins; 0..1. clusters (n,): rows in groups."""
    right = np.asarray(right, float)
    found, noise = _squared_gap(confidence, right, bins, _numbered(clusters))
    return float(np.sqrt(max(found - noise, 0.0)))


def _numbered(clusters: np.ndarray | None) -> np.ndarray | None:
    """(n,) groups as numbers from 0 on; None where each row stands alone."""
    if clusters is None:
        return None
    groups, number = np.unique(clusters, return_inverse=True)
    return number if len(groups) < len(number) else None


def ece_interval(
    confidence: np.ndarray,
    right: np.ndarray,
    bins: int = 15,
    clusters: np.ndarray | None = None,
    resamples: int = 300,
) -> Interval:
    """`ece_debiased` with its 95 % interval from a bootstrap of rows, or of whole groups.

    The bootstrap's world has the plain gap as its truth, noise and all, so its draws lie too high as they are: what they differ from
    the plain gap by is taken as the error of the squared estimate (the basic interval), and the root is taken last. Of many rows
    some are drawn from, of many groups some whole ones, and the error is that of some times the root of their share, which is a little
    too wide. What is drawn shows less than there is where groups are few or nearly all rows are right, so the interval also holds what
    the interval of the share right leaves open (`_open`). One row or one group says nothing: the interval is [0, 1].
    """
    right, n = np.asarray(right, float), len(right)
    groups = _numbered(clusters)
    squared = np.subtract(*_squared_gap(confidence, right, bins, groups))
    estimate = float(np.sqrt(max(squared, 0.0)))
    if n < 2 or (groups is not None and not groups.any()):
        return Interval(estimate=estimate, low=0.0, high=1.0, n=n, method="one group")
    some, shrink = _drawn_from(n, groups)
    few, hits, own = confidence[some], right[some], None if groups is None else _numbered(groups[some])
    plain, draws = _squared_gap(few, hits, bins, own)[0], []
    for counts in bootstrap_counts(len(some), resamples, 0, own):
        times = counts.astype(int)
        rows = np.repeat(np.arange(len(some)), times)
        drawn = None if own is None else _drawn_groups(own, times, rows)
        draws.append(np.subtract(*_squared_gap(few[rows], hits[rows], bins, drawn)))
    low, high = (squared - shrink * (np.quantile(draws, q) - plain) for q in (0.975, 0.025))
    low, high = (float(np.sqrt(max(v, 0.0))) for v in (low, high))
    less, most = _open(confidence, right, clusters)
    return Interval(
        estimate=estimate,
        low=max(0.0, min(low, estimate - less)),
        high=min(1.0, max(high, estimate, most)),
        n=n,
        method="basic bootstrap",
    )


def _drawn_groups(groups: np.ndarray, times: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(len(rows),) group of each drawn row: one that is drawn twice is two groups. times (n,): how often each row is drawn."""
    drawn = np.zeros(int(groups.max()) + 1, int)
    drawn[groups] = times
    before = np.cumsum(drawn) - drawn
    copy = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    return before[groups[rows]] + copy


def _open(confidence: np.ndarray, right: np.ndarray, clusters: np.ndarray | None) -> tuple[float, float]:
    """(how much less the calibration error can be, how large it can be at least) for all that the interval of the share right says.

    The error is never less than the gap between the mean confidence and the share right, and it falls by no more than that gap falls
    where the share moves in its interval.
    """
    share, mean = share_of(right, clusters), float(np.mean(confidence))
    ends = abs(mean - share.low), abs(mean - share.high)
    least = 0.0 if share.low <= mean <= share.high else min(ends)
    return max(0.0, abs(mean - share.estimate) - least), max(ends)


def _drawn_from(n: int, clusters: np.ndarray | None) -> tuple[np.ndarray, float]:
    """(rows to draw from, root of their share): evenly spaced ones, or all rows of evenly spaced groups."""
    if n <= MOST_DRAWN:
        return np.arange(n), 1.0
    if clusters is None:
        return np.linspace(0, n - 1, MOST_DRAWN).astype(int), float(np.sqrt(MOST_DRAWN / n))
    groups, number = np.unique(clusters, return_inverse=True)
    kept = np.zeros(len(groups), bool)
    kept[np.linspace(0, len(groups) - 1, max(2, len(groups) * MOST_DRAWN // n)).astype(int)] = True
    return np.flatnonzero(kept[number]), float(np.sqrt(kept.mean()))


@dataclass(frozen=True, kw_only=True)
class Bin:
    """One bin of a reliability diagram: mean confidence, share right with its interval, rows."""

    confidence: float
    accuracy: float
    low: float
    high: float
    n: int


def reliability(
    confidence: np.ndarray, right: np.ndarray, bins: int = 10, clusters: np.ndarray | None = None
) -> list[Bin]:
    """Equal-mass bins from the least to the most confident rows; clusters (n,): rows in groups count as many as they are worth."""
    out = []
    for part in _equal_mass(confidence, bins):
        share = share_of(np.asarray(right)[part], None if clusters is None else clusters[part])
        out.append(
            Bin(
                confidence=float(confidence[part].mean()),
                accuracy=share.estimate,
                low=share.low,
                high=share.high,
                n=len(part),
            )
        )
    return out

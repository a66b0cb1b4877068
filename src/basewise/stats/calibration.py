"""Whether probabilities are probabilities: proper scores, debiased calibration error, one temperature.

The plain calibration error of a perfectly calibrated predictor is 3-5 points at 500 rows; here each bin's sampling
variance is taken off first (Kumar, Liang and Ma 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from basewise.stats.intervals import Interval, bootstrap_counts, design_effect, share_of

MOST_DRAWN = 20_000
"""Rows a bootstrap draws from; more tell how large the error is, not how it is spread."""

FLOOR = 1e-12


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean nats of the true class, from (n, C) probabilities floored at 1e-12."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], FLOOR)).mean())


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared distance to the truth, 0 to 2."""
    truth = np.zeros_like(probabilities)
    truth[np.arange(len(labels)), labels] = 1
    return float(((probabilities - truth) ** 2).sum(1).mean())


def apply_temperature(log_probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """(n, C) probabilities with logits divided by the temperature."""
    scaled = log_probabilities / temperature
    scaled = scaled - scaled.max(1, keepdims=True)
    out = np.exp(scaled)
    return out / out.sum(1, keepdims=True)


def temperature(
    log_probabilities: np.ndarray, labels: np.ndarray, low: float = 0.05, high: float = 20.0
) -> float:
    """The temperature with the least log-loss on (n, C) log-probabilities (golden section on its log)."""
    ratio = (np.sqrt(5) - 1) / 2
    a, b = np.log(low), np.log(high)

    def loss(value: float) -> float:
        return log_loss(apply_temperature(log_probabilities, float(np.exp(value))), labels)

    c, d = b - ratio * (b - a), a + ratio * (b - a)
    fc, fd = loss(c), loss(d)
    for _ in range(40):
        if fc < fd:
            b, d, fd = d, c, fc
            c = b - ratio * (b - a)
            fc = loss(c)
        else:
            a, c, fc = c, d, fd
            d = a + ratio * (b - a)
            fd = loss(d)
    return float(np.exp((a + b) / 2))


def _equal_mass(confidence: np.ndarray, bins: int) -> list[np.ndarray]:
    order = np.argsort(confidence, kind="stable")
    return [part for part in np.array_split(order, max(1, min(bins, len(order)))) if len(part)]


def _squared_gap(confidence: np.ndarray, right: np.ndarray, bins: int, effect: float) -> tuple[float, float]:
    """(mean squared gap between confidence and accuracy over equal-mass bins, how much of it the chance of rows explains)."""
    found = noise = 0.0
    for part in _equal_mass(confidence, bins):
        n, accuracy = len(part), right[part].mean()
        found += n / len(right) * float(confidence[part].mean() - accuracy) ** 2
        noise += n / len(right) * (effect * accuracy * (1 - accuracy) / (n - 1) if n > 1 else 0.0)
    return found, noise


def ece_debiased(
    confidence: np.ndarray, right: np.ndarray, bins: int = 15, clusters: np.ndarray | None = None
) -> float:
    """Root of the debiased squared gap between confidence and accuracy over equal-mass bins; 0..1. clusters (n,): rows in groups."""
    right = np.asarray(right, float)
    found, noise = _squared_gap(confidence, right, bins, _effect(confidence, right, clusters))
    return float(np.sqrt(max(found - noise, 0.0)))


def _effect(confidence: np.ndarray, right: np.ndarray, clusters: np.ndarray | None) -> float:
    """How many times the variance of independent rows the groups make that of the gap."""
    if clusters is None or len(np.unique(clusters)) == len(right):
        return 1.0
    return design_effect(right - confidence, clusters)


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
    too wide. One group says nothing: the interval is [0, 1].
    """
    right, n = np.asarray(right, float), len(right)
    effect = _effect(confidence, right, clusters)
    squared = np.subtract(*_squared_gap(confidence, right, bins, effect))
    if clusters is not None and len(np.unique(clusters)) < 2:
        return Interval(
            estimate=float(np.sqrt(max(squared, 0.0))), low=0.0, high=1.0, n=n, method="one group"
        )
    some, shrink = _drawn_from(n, clusters)
    few, hits = confidence[some], right[some]
    plain, draws = _squared_gap(few, hits, bins, effect)[0], []
    for counts in bootstrap_counts(len(some), resamples, 0, None if clusters is None else clusters[some]):
        rows = np.repeat(np.arange(len(some)), counts.astype(int))
        draws.append(np.subtract(*_squared_gap(few[rows], hits[rows], bins, effect)))
    low, high = (squared - shrink * (np.quantile(draws, q) - plain) for q in (0.975, 0.025))
    estimate, low, high = (float(np.sqrt(max(v, 0.0))) for v in (squared, low, high))
    return Interval(
        estimate=estimate,
        low=min(low, estimate),
        high=max(high, estimate),
        n=len(right),
        method="basic bootstrap",
    )


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

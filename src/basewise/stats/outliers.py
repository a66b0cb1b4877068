"""How far a row is from what was learned: relative Mahalanobis, nearest neighbours and confidence, as one score.

Features come from the frozen base, not from a tuned network, whose directions outside its task collapse (arXiv 2603.11269). Each
score becomes the share of in-scope rows that are at least as odd (a conformal p value); their logs are added up, over layers
too, because the last layer is rarely the best one (arXiv 2302.09852). Higher is further out throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from basewise.stats.intervals import Interval, normal_quantile

NEIGHBOURS = 10
DIMENSIONS = 128
"""Features are turned to at most so many principal directions: covariances of more need more rows than a task has."""
BLOCK = 2_048


def unit(x: np.ndarray) -> np.ndarray:
    """(n, D) float64 rows of length 1; rows of zeros stay."""
    x = np.asarray(x, np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Class means (C, d) under one shared covariance, and one Gaussian of all rows behind them.

    `shift` (D,), `turn` (D, d): to principal directions; `whiten`, `whiten_all` (d, d): to unit covariance.
    """

    shift: np.ndarray
    turn: np.ndarray
    means: np.ndarray
    whiten: np.ndarray
    whiten_all: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, labels: np.ndarray) -> Gaussian:
        """From rows (n, D) and their class (n,); classes without rows are left out."""
        rows = unit(x)
        shift = rows.mean(0)
        centred = rows - shift
        _, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
        turn = vectors[:, ::-1][:, : min(DIMENSIONS, len(rows) - 1, rows.shape[1])]
        z = centred @ turn
        known = np.unique(labels[labels >= 0])
        means = np.stack([z[labels == c].mean(0) for c in known])
        within = z[labels >= 0] - means[np.searchsorted(known, labels[labels >= 0])]
        return cls(shift=shift, turn=turn, means=means, whiten=_whiten(within), whiten_all=_whiten(z))

    def _z(self, x: np.ndarray) -> np.ndarray:
        return (unit(x) - self.shift) @ self.turn

    def mahalanobis(self, x: np.ndarray) -> np.ndarray:
        """(n,) squared distance to the nearest class mean."""
        z, means = self._z(x) @ self.whiten, self.means @ self.whiten
        out = np.empty(len(z))
        for start in range(0, len(z), BLOCK):
            part = z[start : start + BLOCK]
            gaps = (part**2).sum(1)[:, None] - 2 * part @ means.T + (means**2).sum(1)
            out[start : start + BLOCK] = gaps.min(1)
        return out

    def relative(self, x: np.ndarray) -> np.ndarray:
        """(n,) the same minus the distance to all rows as one (Ren et al. 2021): better near the scope's border."""
        return self.mahalanobis(x) - ((self._z(x) @ self.whiten_all) ** 2).sum(1)


def _whiten(z: np.ndarray) -> np.ndarray:
    """(d, d) W with W W' the inverse of the covariance, shrunk after Ledoit and Wolf (2004)."""
    n, d = z.shape
    covariance = z.T @ z / max(n, 1)
    mean = float(np.trace(covariance)) / d
    spread = float(((covariance - mean * np.eye(d)) ** 2).sum())
    noise = float(((z**2).sum(1) ** 2).sum() / max(n, 1) - (covariance**2).sum()) / max(n, 1)
    share = min(1.0, max(0.0, noise / max(spread, 1e-300)))
    values, vectors = np.linalg.eigh((1 - share) * covariance + share * mean * np.eye(d))
    return vectors / np.sqrt(np.maximum(values, 1e-12))


def neighbour_distance(reference: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(n,) distance of unit rows of x to their tenth nearest of the reference rows (m, D) (Sun et al. 2022)."""
    if not len(reference):
        raise ValueError("no reference rows came")
    known, rows = unit(reference), unit(x)
    k = min(NEIGHBOURS, len(known))
    out = np.empty(len(rows))
    for start in range(0, len(rows), BLOCK):
        cosine = rows[start : start + BLOCK] @ known.T
        nearest = np.partition(cosine, len(known) - k, axis=1)[:, len(known) - k]
        out[start : start + BLOCK] = np.sqrt(np.maximum(2 - 2 * nearest, 0))
    return out


def doubt(probabilities: np.ndarray) -> np.ndarray:
    """(n,) 1 minus the largest of (n, C) probabilities."""
    return 1 - np.asarray(probabilities, np.float64).max(1)


def tail(inside: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(n,) share of in-scope rows (m,) at least as odd as each value, with the row itself counted: a conformal p value."""
    ordered = np.sort(np.asarray(inside, np.float64))
    above = len(ordered) - np.searchsorted(ordered, np.asarray(values, np.float64), side="left")
    return (above + 1) / (len(ordered) + 1)


def combine(inside: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) one score from several: minus the mean log of their p values, ties beyond the odd-most in-scope row kept apart.

    `inside[i]` (m,): the i-th score of in-scope rows that nothing was fitted on; `values[i]` (n,): of the rows in question.
    """
    total = np.zeros(len(values[0]))
    for known, asked in zip(inside, values, strict=True):
        scale = float(np.std(known)) or 1.0
        beyond = np.maximum((np.asarray(asked) - known.max()) / scale, 0)
        total += -np.log(tail(known, asked)) + beyond
    return total / len(values)


def auroc(inside: np.ndarray, outside: np.ndarray, level: float = 0.95) -> Interval:
    """Chance that an outside row scores above an inside one, ties half; interval after Newcombe (2006, method 5).

    The score interval of Hanley and McNeil's variance: it does not collapse where the ranking is perfect. `n` counts both sides.
    """
    m, n = len(inside), len(outside)
    if not m or not n:
        raise ValueError(f"{m} rows inside and {n} outside came, at least one of each was expected")
    known = np.sort(np.asarray(inside, float))
    places = np.searchsorted(known, outside, "left") + np.searchsorted(known, outside, "right")
    area = float(places.mean()) / (2 * m)
    z, mean = normal_quantile(level), (m + n) / 2 - 1

    def beyond(guess: float) -> bool:
        spread = 1 + mean * ((1 - guess) / (2 - guess) + guess / (1 + guess))
        return abs(area - guess) > z * np.sqrt(max(guess * (1 - guess), 0.0) * spread / (m * n))

    ends = []
    for outer in (0.0, 1.0):
        near, far = area, outer
        for _ in range(50):
            middle = (near + far) / 2
            near, far = (near, middle) if beyond(middle) else (middle, far)
        ends.append(far)
    return Interval(estimate=area, low=ends[0], high=ends[1], n=m + n, level=level, method="newcombe")

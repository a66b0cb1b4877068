"""The winner's score, corrected for having been picked, and the verdict between arms.

The arm that looks best in K is best partly by luck. The correction measures that luck by bootstrap: pick the winner in
each resample and see how much better it looks there than on all rows. The interval adds to the sampling error of the
share the spread that comes from picking (see docs/decisions; the plain bootstrap-bias-corrected one, Tsamardinos et al.
2018, covers 99-100 % and is a third too wide).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from basewise.stats.intervals import Interval, bootstrap_counts, normal_quantile
from basewise.stats.paired import holm, mcnemar_midp


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """`naive`: the winner's share as it looks; `estimate`: corrected; `pessimistic`: out-of-bag (BBC)."""

    winner: int
    naive: float
    estimate: float
    interval: Interval
    optimism: float
    pessimistic: float


def corrected_winner(
    right: np.ndarray,
    seed: int = 0,
    level: float = 0.95,
    clusters: np.ndarray | None = None,
    resamples: int = 1_000,
    weights: np.ndarray | None = None,
) -> Corrected:
    """The best of (K, n) bool outcomes with its share corrected for the choice.

    weights: (resamples, n) bootstrap counts drawn before, where many races run over the same number of rows.
    """
    right = np.asarray(right, float)
    arms, n = right.shape
    means = right.mean(1)
    winner = int(means.argmax())
    if weights is None:
        weights = bootstrap_counts(n, resamples, seed, clusters)
    each = np.arange(len(weights))
    in_bag = (weights @ right.T) / weights.sum(1, keepdims=True)
    picked = in_bag.argmax(1)
    optimism = float((in_bag[each, picked] - means[picked]).mean()) if arms > 1 else 0.0
    estimate = float(np.clip(means[winner] - optimism, 0, 1))
    out = (weights == 0).astype(right.dtype)
    left = out.sum(1)
    seen = left > 0
    out_of_bag = (out @ right.T)[each, picked][seen] / left[seen] if seen.any() else np.array([estimate])
    design = 1.0
    if (
        clusters is not None
    ):  # rows that come in groups carry less: the design effect of the winner's own residuals
        _, inverse = np.unique(clusters, return_inverse=True)
        residual = np.bincount(inverse, weights=right[winner] - means[winner])
        design = max(
            1.0, float((residual**2).sum() / max(((right[winner] - means[winner]) ** 2).sum(), 1e-12))
        )
    z = normal_quantile(level)
    middle = (estimate + z * z / (2 * n)) / (
        1 + z * z / n
    )  # Wilson's centre keeps small n and shares near 1 honest
    variance = design * (estimate * (1 - estimate) + z * z / (4 * n)) / n / (1 + z * z / n) ** 2
    half = z * np.sqrt(variance + float(means[picked].var()))
    interval = Interval(
        estimate=estimate,
        low=max(0.0, float(middle - half)),
        high=min(1.0, float(middle + half)),
        n=n,
        level=level,
        method="optimism-corrected",
    )
    return Corrected(
        winner=winner,
        naive=float(means[winner]),
        estimate=estimate,
        interval=interval,
        optimism=optimism,
        pessimistic=float(out_of_bag.mean()),
    )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`kind`: "winner" or "tie"; arms by index. `chosen`: the cheapest of the tied."""

    kind: str
    leader: int
    tied: tuple[int, ...]
    chosen: int


def decide(right: np.ndarray, costs: np.ndarray, margin: float = 0.01, alpha: float = 0.05) -> Verdict:
    """Leader of (K, n) bool outcomes, the arms it cannot be told from and that lose at most `margin`, the cheapest one."""
    right = np.asarray(right, bool)
    means = right.mean(1)
    leader = int(means.argmax())
    others = [k for k in range(len(right)) if k != leader]
    adjusted = (
        holm(np.array([mcnemar_midp(right[leader], right[k]) for k in others])) if others else np.zeros(0)
    )
    close = [
        k for k, p in zip(others, adjusted, strict=True) if p > alpha and means[leader] - means[k] <= margin
    ]
    tied = (leader, *close)
    chosen = min(tied, key=lambda k: (costs[k], k != leader))
    return Verdict(kind="tie" if close else "winner", leader=leader, tied=tied, chosen=chosen)

"""How small a difference so many rows can show (paired, two-sided): by the power of the mid-p test that decides it.

Two predictors that differ by d in their shares right disagree on at least d of the rows, so the share of rows on which they disagree is
never taken below d. Without five rows on which they disagree that test cannot speak at all, whatever the difference.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

EXACT_ROWS = 1_000
"""Up to here the power is summed over all outcomes; beyond, the normal law is within a point or two of it."""


@lru_cache(maxsize=32)
def _critical(n: int, alpha: float) -> np.ndarray:
    """(n + 1,) for each number of rows that disagree the most rows on the smaller side at which the mid-p test decides; -1 for none."""
    from scipy.stats import binom

    m = np.arange(n + 1)
    # below it the tail is under alpha / 2; at it half of its own mass may be
    most = binom.ppf(alpha / 2, m, 0.5)
    middle = binom.cdf(most, m, 0.5) - binom.pmf(most, m, 0.5) / 2
    return np.where((m > 0) & (middle <= alpha / 2), most, most - 1).clip(-1)


def power_of(n: int, gap: float, discordance: float, alpha: float = 0.05) -> float:
    """How often McNemar's mid-p test of n rows is at most alpha, exactly, where the true difference is `gap` (a share).

    discordance: share of rows on which the two disagree; taken as the gap where that is more.
    """
    from scipy.stats import binom

    apart = max(gap, discordance)
    if apart <= 0:
        return 0.0
    critical, m = _critical(n, alpha), np.arange(n + 1)
    here = (critical >= 0) & ((weight := binom.pmf(m, n, apart)) > 1e-12)
    side = min(1.0, (1 + gap / apart) / 2)
    k, m = critical[here], m[here]
    return float(weight[here] @ (binom.cdf(k, m, side) + binom.sf(m - k - 1, m, side)))


def smallest_gap(n: float, discordance: float = 0.1, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest difference (a share) that n paired rows show with the stated power; None where they show none so often.

    n: as many independent rows as they are worth; discordance: share of rows on which the two disagree, at least.
    """
    from scipy.special import ndtri

    if n > EXACT_ROWS:
        z2 = float(ndtri(1 - alpha / 2) + ndtri(power)) ** 2
        return float(max(np.sqrt(z2 * discordance / (n + z2)), z2 / (n + z2)))
    rows = int(n)
    if power_of(rows, 1.0, discordance, alpha) < power:
        return None
    low, high = 0.0, 1.0
    # power grows with the gap
    for _ in range(30):
        middle = (low + high) / 2
        shown = power_of(rows, middle, discordance, alpha) >= power
        low, high = (low, middle) if shown else (middle, high)
    return high

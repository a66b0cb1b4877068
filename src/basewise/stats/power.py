"""How small a difference so many rows can show, and how many rows a difference needs (paired, two-sided).

n = (z_a + z_b)^2 (p_d - d^2) / d^2 with the share p_d of rows on which two predictors disagree in being right.
"""

from __future__ import annotations

import numpy as np


def _z(alpha: float, power: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(1 - alpha / 2) + ndtri(power))


def rows_needed(gap: float, discordance: float = 0.1, alpha: float = 0.05, power: float = 0.8) -> int:
    """Rows that show a difference of `gap` (a share) with the stated power."""
    if not 0 < abs(gap) <= discordance:
        raise ValueError(
            f"a gap of {gap} with a discordance of {discordance} came, 0 < gap <= discordance was expected"
        )
    return int(np.ceil(_z(alpha, power) ** 2 * (discordance - gap**2) / gap**2))


def smallest_gap(n: float, discordance: float = 0.1, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest difference (a share, at most 1) that n paired rows show with the stated power."""
    if n <= 0:
        return 1.0
    z2 = _z(alpha, power) ** 2
    return float(min(1.0, np.sqrt(z2 * discordance / (n + z2)))) if n > z2 else 1.0

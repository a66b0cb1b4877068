"""Between-class over total variance with a shrunk covariance (H-score, Ibrahim et al. 2021)."""

from __future__ import annotations

import numpy as np

from basewise.core.base import Card
from basewise.stats.estimators import hscore_shrunk


def rank(features: np.ndarray, labels: np.ndarray, card: Card) -> float:
    """A score without unit from (n, D) features and (n,) labels."""
    return float(hscore_shrunk(features, labels))

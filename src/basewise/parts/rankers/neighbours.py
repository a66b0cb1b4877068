"""Leave-one-out accuracy of the nearest neighbours, the sturdiest cheap estimate (arXiv 2503.18528)."""

from __future__ import annotations

import numpy as np

from basewise.core.base import Card
from basewise.stats.estimators import neighbours


def rank(features: np.ndarray, labels: np.ndarray, card: Card) -> float:
    """Accuracy in 0..1 from (n, D) features and (n,) labels."""
    return float(neighbours(features, labels))

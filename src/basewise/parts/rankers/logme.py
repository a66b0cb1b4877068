"""Log evidence of a linear model on the features (LogME, You et al. 2021), corrected for more features than rows."""

from __future__ import annotations

import numpy as np

from basewise.core.base import Card
from basewise.stats.estimators import logme


def rank(features: np.ndarray, labels: np.ndarray, card: Card) -> float:
    """Nats a row from (n, D) features and (n,) labels."""
    return float(logme(features, labels))

"""Number of weights, on a log scale: the prior that cleverer scores must beat (arXiv 2510.06448)."""

from __future__ import annotations

import math

import numpy as np

from basewise.core.base import Card


def rank(features: np.ndarray, labels: np.ndarray, card: Card) -> float:
    """log10 of the parameters; the rows are not looked at."""
    return math.log10(max(card.parameters, 1))

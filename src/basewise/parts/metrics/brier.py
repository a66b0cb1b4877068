"""Squared distance between the probabilities and the truth (Brier 1950), 0 best, 2 worst."""

from __future__ import annotations

import numpy as np

NAME = "Brier score"
HIGHER_IS_BETTER = False
RANGE = (0.0, 2.0)


def score(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) values, from (n, C) probabilities and (n,) true labels."""
    truth = np.zeros_like(probabilities)
    truth[np.arange(len(labels)), labels] = 1.0
    return ((probabilities - truth) ** 2).sum(1)

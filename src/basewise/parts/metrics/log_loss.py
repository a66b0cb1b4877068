"""Minus the log of the probability given to the true class, in nats."""

from __future__ import annotations

import numpy as np

NAME = "log-loss"
HIGHER_IS_BETTER = False
FLOOR = 1e-12
RANGE = (0.0, float(-np.log(FLOOR)))


def score(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) nats, from (n, C) probabilities and (n,) true labels; probabilities are floored at 1e-12."""
    return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], FLOOR))

"""Share of rows whose most probable class is the true one."""

from __future__ import annotations

import numpy as np

NAME = "accuracy"
HIGHER_IS_BETTER = True
SHARE = True


def score(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) 1.0 where right, else 0.0, from (n, C) probabilities and (n,) true labels."""
    return (probabilities.argmax(1) == labels).astype(float)

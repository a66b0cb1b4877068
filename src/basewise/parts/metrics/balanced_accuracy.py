"""Mean over the classes of the share of their rows that is right: a rare class counts as much as a common one."""

from __future__ import annotations

import numpy as np

NAME = "balanced accuracy"
HIGHER_IS_BETTER = True
SHARE = True
BY_CLASS = True


def score(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) pseudo-values from (n, C) probabilities and (n,) true labels; classes without a row are left out."""
    classes = probabilities.shape[1]
    right = probabilities.argmax(1) == labels
    rows = np.bincount(labels, minlength=classes)
    recall = np.bincount(labels, weights=right, minlength=classes) / np.maximum(rows, 1)
    seen = rows > 0
    weight = len(labels) / (seen.sum() * np.maximum(rows, 1))
    return recall[seen].mean() + weight[labels] * (right - recall[labels])

"""Mean over the classes of F1, the harmonic mean of precision and recall: false alarms count as well as misses."""

from __future__ import annotations

import numpy as np

NAME = "macro F1"
HIGHER_IS_BETTER = True
SHARE = True
BY_CLASS = True


def score(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) pseudo-values from (n, C) probabilities and (n,) true labels; classes without a true row are left out.

    F1 of a class is a ratio of sums, 2 hits / (true rows + given rows), and is linearised as one (Cochran 1977, ch. 6).
    """
    classes, given = probabilities.shape[1], probabilities.argmax(1)
    right = given == labels
    rows = np.bincount(labels, minlength=classes)
    size = rows + np.bincount(given, minlength=classes)
    f1 = 2 * np.bincount(labels, weights=right, minlength=classes) / np.maximum(size, 1)
    share = np.where(rows > 0, len(labels) / (np.maximum(size, 1) * (rows > 0).sum()), 0.0)
    own = share[labels] * (2 * right - f1[labels])
    return f1[rows > 0].mean() + own - share[given] * f1[given]

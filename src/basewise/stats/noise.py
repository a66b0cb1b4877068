"""Labels to check first: confident learning (Northcutt, Jiang and Chuang 2021) on out-of-fold probabilities.

A row is suspect when the model gives another class more than that class's usual self-confidence; suspects are ordered by how
much more likely the other class is than the given one.
"""

from __future__ import annotations

import numpy as np

ALIKE = 1e-9
"""A probability this near to its threshold is a predictor that gives all rows the same, and speaks against none."""


def thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(C,) mean probability that rows of a class give to it; 1 for a class without rows."""
    classes = probabilities.shape[1]
    total = np.bincount(labels, weights=probabilities[np.arange(len(labels)), labels], minlength=classes)
    count = np.bincount(labels, minlength=classes)
    return np.where(count > 0, total / np.maximum(count, 1), 1.0)


def _confident(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n, C) probabilities beyond those that rows of the class usually get, -1 elsewhere."""
    return np.where(probabilities > thresholds(probabilities, labels) + ALIKE, probabilities, -1.0)


def label_margins(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) largest probability of another class minus that of the given label; positive where the model disagrees."""
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -np.inf
    return others.max(1) - probabilities[rows, labels]


def label_suspects(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Positions of the rows whose label is doubted, the most doubtful first."""
    labels = np.asarray(labels)
    confident = _confident(probabilities, labels)
    doubted = (confident.max(1) >= 0) & (confident.argmax(1) != labels)
    margin = label_margins(probabilities, labels)
    found = np.flatnonzero(doubted & (margin > 0))
    return found[np.argsort(-margin[found], kind="stable")]

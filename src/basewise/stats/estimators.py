"""What features promise before anything is trained: neighbours, LogME (corrected), H-score (shrunk).

Both public implementations of LogME take the term D/2 log a over all D dimensions but sum log|A| over only min(n, D)
singular values, so with fewer rows than dimensions they mostly rank by D. Here k, the number of non-zero singular values,
stands in both places: adding empty columns or rotating the features changes nothing, which is tested.
"""

from __future__ import annotations

import numpy as np


def neighbours(features: np.ndarray, labels: np.ndarray, k: int = 7) -> float:
    """Leave-one-out accuracy of a cosine-weighted vote of the k nearest rows; (n, D) features, (n,) labels."""
    x = np.asarray(features, np.float32)
    x = x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-12)
    classes, y = np.unique(labels, return_inverse=True)
    k = max(1, min(k, len(y) - 1))
    right = 0
    for begin in range(0, len(y), 2_048):
        near = x[begin : begin + 2_048] @ x.T
        rows = np.arange(len(near))
        near[rows, begin + rows] = -np.inf
        top = np.argpartition(-near, k - 1, axis=1)[:, :k]
        votes = np.zeros((len(near), len(classes)))
        weight = np.maximum(np.take_along_axis(near, top, 1), 0) + 1e-3
        np.add.at(votes, (rows[:, None], y[top]), weight)
        right += int((votes.argmax(1) == y[begin : begin + 2_048]).sum())
    return right / len(y)


def _decompose(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, k) left singular vectors and (k,) squared singular values above rounding."""
    x = np.asarray(features, np.float64)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    keep = s > s.max(initial=0.0) * 1e-7
    return u[:, keep], s[keep] ** 2


def logme(features: np.ndarray, labels: np.ndarray) -> float:
    """Mean log evidence a row of a linear model of each class (You et al. 2021), with k non-zero directions throughout."""
    n = len(labels)
    u, sigma = _decompose(features)
    k = len(sigma)
    scores = []
    for c in np.unique(labels):
        t = (labels == c).astype(np.float64)
        projected = (u.T @ t) ** 2
        outside = max(float(t @ t - projected.sum()), 0.0)
        alpha, beta = 1.0, 1.0
        for _ in range(100):
            gamma = float((beta * sigma / (alpha + beta * sigma)).sum())
            size = float((beta**2 * sigma * projected / (alpha + beta * sigma) ** 2).sum())
            residual = outside + float((projected * (alpha / (alpha + beta * sigma)) ** 2).sum())
            new = gamma / max(size, 1e-12), (n - gamma) / max(residual, 1e-12)
            done = abs(new[0] / alpha - 1) < 1e-4 and abs(new[1] / beta - 1) < 1e-4
            alpha, beta = min(max(new[0], 1e-9), 1e9), min(max(new[1], 1e-9), 1e9)
            if done:
                break
        size = float((beta**2 * sigma * projected / (alpha + beta * sigma) ** 2).sum())
        residual = outside + float((projected * (alpha / (alpha + beta * sigma)) ** 2).sum())
        evidence = k / 2 * np.log(alpha) + n / 2 * np.log(beta) - 0.5 * np.log(alpha + beta * sigma).sum()
        scores.append((evidence - beta / 2 * residual - alpha / 2 * size - n / 2 * np.log(2 * np.pi)) / n)
    return float(np.mean(scores))


def hscore_shrunk(features: np.ndarray, labels: np.ndarray) -> float:
    """tr(Sigma^-1 Sigma_between) with a Ledoit-Wolf covariance (Ibrahim et al. 2021); (n, D) features, (n,) labels.

    Shrinks towards the mean variance of the k directions that the rows span, not of all D columns: the published target
    falls with every empty column that is added. In the row space, so it costs n^3, not D^3, when n < D.
    """
    x = np.asarray(features, np.float64)
    x = x - x.mean(0)
    u, sigma = _decompose(x)
    n, k = len(x), len(sigma)
    if k == 0:
        return 0.0
    # the rows in the basis of their principal directions
    scores = u * np.sqrt(sigma)
    variance = sigma / n
    mean_variance = variance.mean()
    spread = float(((variance - mean_variance) ** 2).sum())
    noise = float(((scores**2).sum(1) ** 2).sum() / n - (variance**2).sum()) / n
    shrink = float(np.clip(noise / spread, 0.0, 1.0)) if spread > 1e-12 * mean_variance**2 else 1.0
    shrunk = (1 - shrink) * variance + shrink * mean_variance
    total = 0.0
    for c in np.unique(labels):
        members = labels == c
        total += members.mean() * float((scores[members].mean(0) ** 2 / shrunk).sum())
    return (1 - shrink) * total

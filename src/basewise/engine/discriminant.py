"""Linear discriminant analysis, shrunk: a linear head in closed form, at its best where a class has few rows.

Every class is taken for a Gaussian, all with one covariance S: that within classes, drawn towards a sphere by the shrinkage s,
S_s = (1 - s) S + s tr(S)/D I (Friedman 1989, Regularized Discriminant Analysis). Then log p(c | x) is x·w_c + b_c with
w_c = S_s^-1 m_c and b_c = log n_c/n - m_c·w_c / 2 (Hastie, Tibshirani, Friedman, ESL, 4.3): where logistic regression has to find the
directions in which rows of a class differ for no reason, this has them from all classes together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from basewise.engine.heads import Head, threads_for

SHRINKAGES = (0.1, 0.3, 0.6, 0.9)
ROUGH_SHRINKAGES = (0.3, 0.6)
"""Enough to rank one matrix of features against another."""
USUAL_SHRINKAGE = 0.6


def discriminants(
    design: np.ndarray, labels: np.ndarray, n_classes: int, shrinkages: Sequence[float]
) -> dict[float, Head]:
    """{shrinkage: head} from dense rows (n, D), centred or not, and labels (n,) in 0..C-1; shrinkages in (0, 1]."""
    import torch

    labels = np.asarray(labels)
    n, width = design.shape
    counts = np.bincount(labels, minlength=n_classes)
    present, floor = counts > 0, 1.0 / (n + n_classes)
    seen = np.flatnonzero(present)
    heads: dict[float, Head] = {}
    with threads_for(2.0 * n * width * width):
        rows = torch.from_numpy(np.ascontiguousarray(design, np.float32))
        centre = rows.mean(0)
        index = torch.from_numpy(np.searchsorted(seen, labels))
        sizes = torch.from_numpy(counts[seen].astype(np.float32))
        means = torch.zeros(len(seen), width).index_add_(0, index, rows) / sizes[:, None]
        # one row a class tells nothing about the spread within: then all that varies is taken for it
        known = n > len(seen)
        apart = means[index] if known else centre.expand(n, -1).contiguous()
        torch.sub(rows, apart, out=apart)
        covariance = apart.T @ apart / (n - len(seen) if known else max(n - 1, 1))
        del apart
        means -= centre
        level = max(float(covariance.diagonal().mean()), 1e-12)
        for shrinkage in shrinkages:
            shrunk = (1.0 - shrinkage) * covariance
            shrunk.diagonal().add_(shrinkage * level)
            torch.linalg.cholesky(shrunk, out=shrunk)
            solved = torch.cholesky_solve(means.T, shrunk)
            offsets = torch.log(sizes / n) - 0.5 * (means.T * solved).sum(0) - centre @ solved
            weights, bias = np.zeros((width, n_classes), np.float32), np.zeros(n_classes)
            weights[:, seen], bias[seen] = solved.numpy(), offsets.double().numpy()
            heads[shrinkage] = Head(weights, bias, present, floor)
    return heads


def seconds_of(rows: float, columns: int, classes: int, shrinkages: int, rate: float) -> float:
    """Seconds of `discriminants` at `rate` FLOP/s; of nine measured (4 ms to 0.5 s, docs/log.md) eight
    within 30 %, the smallest four times as long as told."""
    factors = shrinkages * (columns**3 / 3.0 + 2.0 * columns**2 * classes)
    return 3e-3 + 1.3 * (2.0 * rows * columns**2 + factors) / rate


def held_out_discriminants(
    design: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    shrinkages: Sequence[float],
    fold: np.ndarray,
    held_out: Sequence[int],
) -> dict[float, np.ndarray]:
    """{shrinkage: (n, C) logits of rows while held out}; rows of folds that are not in `held_out` are NaN."""
    out = {s: np.full((len(labels), n_classes), np.nan) for s in shrinkages}
    for k in held_out:
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        for s, head in discriminants(design[train], labels[train], n_classes, shrinkages).items():
            out[s][test] = head.logits(design[test])
    return out

"""Out-of-fold class probabilities from words alone, in a second: ridge regression on TF-IDF, for the audit's checks.

One-against-rest ridge by conjugate gradients on all classes at once (Hestenes & Stiefel 1952); its scores become
probabilities by one softmax scale, chosen by log loss on the out-of-fold scores. Needs numpy and scipy only, so an audit
never waits for a learning library to load.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from basewise.engine.heads import log_loss, softmax

TOKEN = re.compile(r"\w+")
MAX_TOKENS = 400
RIDGE = 1.0
ITERATIONS = 30
SCALES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)


def tfidf(texts: Sequence[str]) -> Any:
    """(n, V) CSR matrix with unit rows: words and pairs of neighbouring words that occur in at least two texts."""
    from scipy.sparse import csr_matrix

    vocabulary: dict[str, int] = {}
    indices: list[int] = []
    starts = [0]
    for text in texts:
        words = TOKEN.findall(text[: 20 * MAX_TOKENS].lower())[:MAX_TOKENS]
        # a set's order changes by process
        terms = dict.fromkeys([*words, *(f"{a} {b}" for a, b in pairwise(words))])
        indices.extend(vocabulary.setdefault(term, len(vocabulary)) for term in terms)
        starts.append(len(indices))
    data = np.ones(len(indices), np.float64)
    shape = (len(texts), max(1, len(vocabulary)))
    matrix = csr_matrix((data, np.array(indices, np.int64), np.array(starts)), shape=shape)
    rows_with = np.asarray(matrix.sum(0)).ravel()
    often = np.flatnonzero(rows_with >= 2)
    if not len(often):
        return matrix
    matrix = matrix[:, often].multiply(np.log(len(texts) / rows_with[often]) + 1.0).tocsr()
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
    return csr_matrix(matrix.multiply(1 / np.maximum(norms, 1e-12)[:, None]))


def words_out_of_fold(
    texts: Sequence[str], labels: np.ndarray, folds: np.ndarray, n_classes: int
) -> np.ndarray:
    """(n, C) probabilities of every row from the other folds; labels (n,) in 0..C-1, folds (n,)."""
    matrix = tfidf(texts)
    targets = np.eye(n_classes)[labels]
    scores = np.zeros((len(texts), n_classes))
    for fold in np.unique(folds):
        train = folds != fold
        mean = targets[train].mean(0)
        weights = _ridge(matrix[train], targets[train] - mean)
        scores[~train] = matrix[~train] @ weights + mean
    options = [softmax(scale * scores) for scale in SCALES]
    losses = [log_loss(p, labels) for p in options]
    return options[int(np.argmin(losses))]


def _ridge(x: Any, targets: np.ndarray) -> np.ndarray:
    """(V, C) solution of (X'X + ridge) W = X'T, every column by its own conjugate gradients, all at once."""
    transposed = x.T.tocsr()
    weights = np.zeros((x.shape[1], targets.shape[1]))
    residual = transposed @ targets
    direction = residual.copy()
    size = (residual**2).sum(0)
    first = np.maximum(size, 1e-30)
    for _ in range(ITERATIONS):
        if (size / first).max() < 1e-5:
            break
        image = transposed @ (x @ direction) + RIDGE * direction
        step = size / np.maximum((direction * image).sum(0), 1e-30)
        weights += step * direction
        residual -= step * image
        new = (residual**2).sum(0)
        direction = residual + new / np.maximum(size, 1e-30) * direction
        size = new
    return weights

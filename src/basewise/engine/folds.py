"""Which rows of a table are held out while a fit chooses: stratified folds, samples that leave no class out."""

from __future__ import annotations

import numpy as np

from basewise.core.split import folds

GROUPS_A_FOLD = 4
"""Groups that a fold must have at least to be made of whole groups."""


def rows_a_class(counts: np.ndarray) -> int:
    """Rows of a usual class, from the rows of each: nine rows in ten are in classes of at least so many, 0 without rows.

    What a fit dares to choose hangs on it; one rare class must not decide that for all the others.
    """
    sizes = np.sort(np.asarray(counts)[np.asarray(counts) > 0])
    if not len(sizes):
        return 0
    return int(sizes[np.searchsorted(np.cumsum(sizes), 0.1 * sizes.sum(), side="right")])


def folds_of(
    labels: np.ndarray, n_folds: int, rng: np.random.Generator, groups: np.ndarray | None = None
) -> np.ndarray:
    """(n,) fold numbers, stratified: every class is dealt out in turn, starting at a random fold.

    The only row of a class is in no fold, -1: held out, nothing could be known of its class. groups (n,): rows that belong together
    are in one fold, as in the race, or what is chosen would suit rows that were seen already.
    """
    labels = np.asarray(labels)
    fold = np.empty(len(labels), np.int64)
    offset = 0
    for c in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == c))
        fold[rows] = (np.arange(len(rows)) + offset) % n_folds if len(rows) > 1 else -1
        offset += len(rows)
    many = 0 if groups is None else len(np.unique(groups))
    if groups is None or many == len(labels) or many < GROUPS_A_FOLD * n_folds:
        return fold
    fold = folds(labels, groups, n_folds, int(rng.integers(2**31)))
    for c in np.unique(labels):
        if len(np.unique(fold[labels == c])) == 1:
            fold[labels == c] = -1
    return fold


def some_of_each(labels: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of at most about `most` rows, with at least four of every class that has them."""
    if len(labels) <= most:
        return np.arange(len(labels))
    order = rng.permutation(len(labels))
    rank = np.empty(len(labels), np.int64)
    for c in np.unique(labels):
        here = order[labels[order] == c]
        rank[here] = np.arange(len(here))
    kept = (rank < 4) | (np.argsort(order) < most)
    return np.flatnonzero(kept)

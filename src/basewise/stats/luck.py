"""Luck of training: what an arm's score moves from fold to fold beyond the chance of its rows.

An arm is trained anew on each fold, and one training turns out better than another. All rows of a fold share that luck, so
they are not independent, and no test that counts rows can see it: with enough rows a fold it passes any bar. Only folds are
independent, and what they say is their spread. One pair of arms has too few folds for a spread of its own, so that of
all arms is pooled: scores as arms times folds, without the means of arms and of folds, less what rows explain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Luck:
    """`variance`: of an arm's score on one fold by its training; `spread`: that with the chance of rows, as mean square; its degrees
    of `freedom`."""

    variance: float
    spread: float
    freedom: int


def luck_of_training(folds: Sequence[np.ndarray]) -> Luck:
    """Pooled over arms from one (arms, rows) array of per-row scores a fold (bool where they are right and wrong).

    Arms may have stopped: row k is the same arm in each fold, those that went furthest first. The scores of a fold are held against
    the mean of the folds before it (Helmert's contrasts), which are independent of one another whoever stopped when.
    """
    means = [np.asarray(fold, float).mean(1) for fold in folds]
    squares, chance, freedom, compared = 0.0, 0.0, 0, 0
    for j, fold in enumerate(folds):
        arms, rows = fold.shape
        if arms < 2:
            continue
        own = np.asarray(fold, float).var(1).sum() - arms * np.asarray(fold, float).mean(0).var()
        # of arms - 1 contrasts between arms, since what rows do to all alike is no difference
        chance += float(own) / rows
        compared += arms - 1
        if j:
            before = np.mean([m[:arms] for m in means[:j]], axis=0)
            contrast = np.sqrt(j / (j + 1)) * (means[j] - before)
            squares += float(((contrast - contrast.mean()) ** 2).sum())
            freedom += arms - 1
    spread = squares / freedom if freedom else 0.0
    beyond = spread - chance / compared if freedom else 0.0
    return Luck(variance=max(0.0, beyond), spread=spread, freedom=freedom)


def worse_across_folds(
    ours: np.ndarray,
    theirs: np.ndarray,
    sizes: Sequence[int],
    luck: Luck,
    of_rows: tuple[float, float] | None = None,
) -> float:
    """One-sided p value of "theirs, trained anew, is not worse than ours", from (n,) per-row scores, fold after fold.

    sizes: rows of each fold, sum n; of_rows: (standard error of the mean difference by its rows, degrees of freedom), that of
    independent rows when left out. The variance of the mean difference is that of the rows plus the luck of two trainings a fold,
    and never less than what the differences of this pair's own folds show (arms may differ in luck). Student's t, degrees of freedom
    by Satterthwaite: the rows' part is known well, that of luck only as well as the spread is. From one fold luck cannot be told: 1.
    """
    from scipy.stats import t

    counts = np.asarray(sizes, float)
    gap = np.asarray(ours, float) - np.asarray(theirs, float)
    if len(counts) < 2 or luck.freedom < 1:
        return 1.0
    # of the luck of one training in the mean of all folds
    share = 2 * float((counts**2).sum()) / len(gap) ** 2
    by_fold = np.add.reduceat(gap, np.r_[0, np.cumsum(sizes)[:-1]]) / counts
    error, rows_freedom = of_rows or (float(np.sqrt(gap.var() / len(gap))), np.inf)
    variance = max(
        error**2 + share * luck.variance,
        float(by_fold.var(ddof=1)) / len(counts),
        1e-12,
    )
    freedom = luck.freedom * (variance / max(share * luck.spread, 1e-12)) ** 2
    return float(t.sf(gap.mean() / np.sqrt(variance), max(1.0, min(freedom, rows_freedom))))

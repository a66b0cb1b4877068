"""Answering only when sure: risk against coverage, a threshold with a promised risk, conformal quantiles."""

from __future__ import annotations

import numpy as np

from basewise.stats.intervals import independent_rows


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(coverage, risk), both (n,): share answered and share wrong among them, from the most confident row on."""
    order = np.argsort(-np.asarray(confidence), kind="stable")
    wrong = 1 - np.asarray(right, float)[order]
    count = np.arange(1, len(order) + 1)
    return count / max(1, len(order)), np.cumsum(wrong) / count


def threshold_for_risk(
    confidence: np.ndarray,
    right: np.ndarray,
    risk: float = 0.05,
    delta: float = 0.05,
    clusters: np.ndarray | None = None,
) -> tuple[float, float] | None:
    """(threshold, coverage): answering at this confidence or above errs at most `risk`, with probability 1 - delta.

    Largest coverage whose exact upper bound holds, tried at log2(n) sizes with delta shared among them (after Geifman and
    El-Yaniv 2017). The bound does not grow with the size, since few rows bound little, so half of the sizes are fixed, evenly from
    all rows to the fewest that can promise it; the others halve what lies between the largest that holds and the next. None when
    none holds. clusters (n,): rows in groups count as many as they are worth.
    """
    from scipy.stats import beta

    n = len(confidence)
    if n == 0:
        return None
    order = np.argsort(-np.asarray(confidence), kind="stable")
    down = np.asarray(confidence, float)[order]
    wrong = np.cumsum(1 - np.asarray(right, int)[order])
    worth = independent_rows(right, clusters) / n
    tries = max(1, int(np.ceil(np.log2(n))) + 1)
    fewest = int(np.ceil(np.log(delta / tries) / np.log1p(-risk) / worth))
    if fewest > n:
        return None

    def held(rank: int) -> int | None:
        # all rows as confident as this
        size = int(np.searchsorted(-down, -down[rank - 1], side="right"))
        errors, rows = worth * wrong[size - 1], worth * size
        upper = 1.0 if errors == rows else float(beta.ppf(1 - delta / tries, errors + 1, rows - errors))
        return size if upper <= risk else None

    sizes = np.linspace(n, fewest, (tries + 1) // 2).astype(int)
    place = next((i for i, size in enumerate(sizes) if held(size)), None)
    if place is None:
        return None
    best = held(sizes[place]) or 0
    low, high = best + 1, int(sizes[place - 1]) - 1 if place else 0
    for _ in range(tries - len(sizes)):
        if low > high:
            break
        middle = (low + high) // 2
        if found := held(middle):
            best, low = found, found + 1
        else:
            high = middle - 1
    return float(down[best - 1]), best / n


def conformal_quantile(
    true_probability: np.ndarray, alpha: float = 0.1, clusters: np.ndarray | None = None
) -> float:
    """Least probability a class needs to be in the set, so that the truth is in it with 1 - alpha (split conformal).

    clusters (n,): rows in groups count as many as they are worth, so that a row of a new group is covered as often.
    """
    n, down = len(true_probability), -np.sort(-np.asarray(true_probability, float))
    worth = calibration_rows(true_probability, alpha, clusters)
    rank = int(np.ceil((worth + 1) * (1 - alpha) * (1 if worth == n else n / worth)))
    return 0.0 if rank > n else float(down[rank - 1])


def calibration_rows(true_probability: np.ndarray, alpha: float, clusters: np.ndarray | None) -> float:
    """As how many independent rows these count for whether the truth is in the set; n without groups.

    The least of two: by the truth being in the set, and by its rank among the rows. Few rows are outside, and where all groups are
    few those rows alone understate how much a group has in common.
    """
    n = len(true_probability)
    if clusters is None or not n:
        return float(n)
    rank = np.argsort(np.argsort(-np.asarray(true_probability, float), kind="stable"), kind="stable")
    inside = rank < np.ceil((n + 1) * (1 - alpha))
    return min(independent_rows(inside, clusters), independent_rows(rank, clusters))


def coverage_band(n: float, alpha: float = 0.1, level: float = 0.95) -> tuple[float, float]:
    """Where the realised coverage lies with probability `level` after calibrating on n independent rows: a Beta distribution."""
    from scipy.stats import beta

    rank = (n + 1) * (1 - alpha)
    # what grouped rows are worth need not be whole
    rank = np.ceil(rank) if n == int(n) else rank
    if rank > n:
        return 1.0, 1.0
    tail = (1 - level) / 2
    low, high = beta.ppf([tail, 1 - tail], rank, n + 1 - rank)
    return float(low), float(high)

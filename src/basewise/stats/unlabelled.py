"""Accuracy without labels, and the shift of classes behind the answers; each with a bootstrap interval.

ATC: the share of rows above the confidence that as many held-out rows exceeded as were right (Garg et al. 2022). DoC: held-out accuracy
plus the change of the mean confidence (Guillory et al. 2021). Both assume that confidence means now what it meant then: under
label noise or new classes they do not see the harm, only labels do. BBSE: class weights from the confusion of held-out rows
(Lipton et al. 2018), under the assumption that only the shares of the classes have moved. Held-out rows that belong together are
drawn by whole groups, and the ends lie further out where groups are few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from basewise.stats.intervals import bootstrap_counts, normal_quantile, wilson

DRAWS = 200
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """Accuracy of rows without labels: by ATC with its interval, and by DoC; `rows` now, `reference` held-out rows."""

    estimate: float
    low: float
    high: float
    by_confidence: float
    rows: int
    reference: int


def estimated_accuracy(
    confidence_then: np.ndarray,
    right_then: np.ndarray,
    confidence: np.ndarray,
    rng: np.random.Generator,
    groups: np.ndarray | None = None,
) -> Estimated:
    """From held-out confidences (m,) with their outcomes (m,) and confidences now (n,); groups (m,) of held-out rows, if any."""
    then, right, now = np.asarray(confidence_then), np.asarray(right_then, float), np.asarray(confidence)
    draws = np.empty(DRAWS)
    whole = None if groups is None else _times(groups, rng)
    for i in range(DRAWS):
        a = (
            rng.integers(0, len(then), len(then))
            if whole is None
            else np.repeat(np.arange(len(then)), whole[i])
        )
        b = rng.integers(0, len(now), len(now))
        draws[i] = _atc(then[a], right[a], now[b])
    estimate = _atc(then, right, now)
    low, high = (float(end) for end in _ends(draws, np.asarray(estimate), groups))
    # draws of rows that are all above the threshold are all alike, and the share of so many rows is not certain for that
    share = wilson(estimate * len(now), len(now), LEVEL)
    by_confidence = float(np.clip(right.mean() + now.mean() - then.mean(), 0, 1))
    return Estimated(
        estimate=estimate,
        low=min(low, share.low),
        high=max(high, share.high),
        by_confidence=by_confidence,
        rows=len(now),
        reference=len(then),
    )


def _times(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(DRAWS, m) how often each held-out row is drawn with its group."""
    return bootstrap_counts(len(groups), DRAWS, int(rng.integers(2**31)), groups).astype(int)


def _ends(
    draws: np.ndarray, estimate: np.ndarray, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the draws (DRAWS, ...), around the estimate (...), as far out as so few groups leave uncertain; within 0 and 1."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    if groups is None:
        return low, high
    from scipy.stats import t

    if (number := len(np.unique(groups))) < 2:
        return np.zeros_like(low), np.ones_like(high)
    more = float(t.ppf(0.5 + LEVEL / 2, number - 1)) / normal_quantile(LEVEL) * np.sqrt(number / (number - 1))
    return np.clip(estimate - more * (estimate - low), 0, 1), np.clip(
        estimate + more * (high - estimate), 0, 1
    )


def _atc(then: np.ndarray, right: np.ndarray, now: np.ndarray) -> float:
    """Share of `now` at or above the threshold; a share of the rows that lie on it counts, as it did then."""
    wanted = right.mean()
    threshold = float(np.quantile(then, 1 - wanted, method="higher")) if wanted < 1 else float(then.min())
    above, on = float((then > threshold).mean()), float((then == threshold).mean())
    part = (wanted - above) / on if on else 0.0
    return float(np.clip((now > threshold).mean() + part * (now == threshold).mean(), 0, 1))


def label_shift(
    confusion: np.ndarray,
    counts: np.ndarray,
    rng: np.random.Generator,
    rows: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Shares of the classes now: "before", "now", "low", "high", each (C,).

    confusion (C, C): held-out rows by class said (first) and true class; counts (C,): rows now by class said. rows: class said, true
    class and group (m,) of held-out rows that come in groups.
    """
    confusion, counts = np.asarray(confusion, float), np.asarray(counts, float)
    draws = np.empty((DRAWS, len(counts)))
    cells, n = confusion.sum(), counts.sum()
    # few of many: the others are never drawn
    filled = np.nonzero(confusion)
    again = np.zeros_like(confusion)
    whole = None if rows is None else _times(rows[2], rng)
    for i in range(DRAWS):
        if rows is None or whole is None:
            again[filled] = rng.multinomial(int(cells), confusion[filled] / cells)
        else:
            again[:] = 0
            np.add.at(again, (rows[0], rows[1]), whole[i])
        draws[i] = _shares(again, rng.multinomial(int(n), counts / n).astype(float))
    now = _shares(confusion, counts)
    low, high = _ends(draws, now, None if rows is None else rows[2])
    return {
        "before": confusion.sum(0) / cells,
        "now": now,
        "low": np.minimum(low, now),
        "high": np.maximum(high, now),
    }


def _shares(confusion: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Least squares with a little ridge towards no shift, clipped to shares."""
    joint, said = confusion / confusion.sum(), counts / counts.sum()
    ridge = 1.0 / confusion.sum()
    gram = joint.T @ joint + ridge * np.eye(len(said))
    weights = 1 + np.linalg.solve(gram, joint.T @ (said - joint.sum(1)))
    shares = np.clip(weights, 0, None) * joint.sum(0)
    return shares / shares.sum() if shares.sum() > 0 else joint.sum(0)

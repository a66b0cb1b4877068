"""Accuracy without labels, and the shift of classes behind the answers; each with a bootstrap interval.

ATC: the share of rows above the confidence that as many held-out rows exceeded as were right (Garg et al. 2022). DoC: held-out accuracy
plus the change of the mean confidence (Guillory et al. 2021). Both assume that confidence means now what it meant then: under
label noise or new classes they do not see the harm, only labels do. BBSE: class weights from the confusion of held-out rows
(Lipton et al. 2018), under the assumption that only the shares of the classes have moved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    confidence_then: np.ndarray, right_then: np.ndarray, confidence: np.ndarray, rng: np.random.Generator
) -> Estimated:
    """From held-out confidences (m,) with their outcomes (m,) and confidences now (n,)."""
    then, right, now = np.asarray(confidence_then), np.asarray(right_then, float), np.asarray(confidence)
    draws = np.empty(DRAWS)
    for i in range(DRAWS):
        a, b = rng.integers(0, len(then), len(then)), rng.integers(0, len(now), len(now))
        draws[i] = _atc(then[a], right[a], now[b])
    tail = 100 * (1 - LEVEL) / 2
    estimate = _atc(then, right, now)
    low, high = np.percentile(draws, [tail, 100 - tail])
    by_confidence = float(np.clip(right.mean() + now.mean() - then.mean(), 0, 1))
    return Estimated(
        estimate=estimate,
        low=float(min(low, estimate)),
        high=float(max(high, estimate)),
        by_confidence=by_confidence,
        rows=len(now),
        reference=len(then),
    )


def _atc(then: np.ndarray, right: np.ndarray, now: np.ndarray) -> float:
    """Share of `now` at or above the threshold; a share of the rows that lie on it counts, as it did then."""
    wanted = right.mean()
    threshold = float(np.quantile(then, 1 - wanted, method="higher")) if wanted < 1 else float(then.min())
    above, on = float((then > threshold).mean()), float((then == threshold).mean())
    part = (wanted - above) / on if on else 0.0
    return float(np.clip((now > threshold).mean() + part * (now == threshold).mean(), 0, 1))


def label_shift(confusion: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Shares of the classes now: "before", "now", "low", "high", each (C,).

    confusion (C, C): held-out rows by class said (first) and true class; counts (C,): rows now by class said.
    """
    confusion, counts = np.asarray(confusion, float), np.asarray(counts, float)
    draws = np.empty((DRAWS, len(counts)))
    cells, n = confusion.sum(), counts.sum()
    filled = np.nonzero(confusion)  # few of many: the others are never drawn
    again = np.zeros_like(confusion)
    for i in range(DRAWS):
        again[filled] = rng.multinomial(int(cells), confusion[filled] / cells)
        draws[i] = _shares(again, rng.multinomial(int(n), counts / n).astype(float))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    now = _shares(confusion, counts)
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

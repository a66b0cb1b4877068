"""Whether a probability of 0.8 is right eight times in ten: debiased calibration error, Brier score, log-loss.

From held-out rows, each once. The plain error of a perfect predictor is 3 to 5 points at 500 rows, so it is debiased first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from basewise.core.gate import FAIL, PASS, WARN, CheckResult, Subject, interval
from basewise.core.hashing import generator

THRESHOLDS: dict[str, tuple[Any, str]] = {
    "most": (0.08, "calibration error it may have at most"),
    "least_rows": (50, "held-out rows below which nothing can be said"),
}
RESAMPLES = 300


def check(subject: Subject, limits: dict[str, Any]) -> CheckResult:
    """Fails where even the interval's lower end is above the limit, warns where the estimate is."""
    from basewise.stats.calibration import brier, ece_debiased, log_loss

    probabilities, labels = once(subject)
    n = len(labels)
    if n < limits["least_rows"]:
        return CheckResult(
            check="calibration", verdict=WARN, sentence=f"{n} held-out rows say nothing about probabilities"
        )
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    draws = generator("calibration", n).integers(0, n, (RESAMPLES, n))
    error = _interval(
        ece_debiased(confidence, right), [ece_debiased(confidence[d], right[d]) for d in draws], n
    )
    truth = np.maximum(probabilities[np.arange(n), labels], 1e-12)
    loss = _interval(log_loss(probabilities, labels), [-np.log(truth[d]).mean() for d in draws], n)
    score = _interval(brier(probabilities, labels), [brier(probabilities[d], labels[d]) for d in draws], n)
    verdict = FAIL if error["low"] > limits["most"] else WARN if error["estimate"] > limits["most"] else PASS
    gap = float(confidence.mean() - right.mean())
    side = "too sure" if gap > 0 else "not sure enough"
    return CheckResult(
        check="calibration",
        verdict=verdict,
        sentence=f"calibration error {error['estimate']:.3f} [{error['low']:.3f}, {error['high']:.3f}] on {n} held-out rows"
        + (
            f", {side} by {abs(gap):.3f} on average; at most {limits['most']} is asked for"
            if verdict != PASS
            else ""
        ),
        evidence=(
            interval("calibration error", error),
            interval("log-loss", loss),
            interval("Brier score", score),
        ),
        advice="choose again with more rows, or another method" if verdict == FAIL else "",
    )


def once(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities (n, C), labels (n,)) of the held-out rows of the chosen way, each row once."""
    trial = subject.trial
    if trial is None or not len(trial.row_ids):
        return np.zeros((0, len(subject.classes))), np.zeros(0, np.int64)
    _, first = np.unique(trial.row_ids, return_index=True)
    return trial.probabilities[first], trial.labels[first]


def _interval(estimate: float, draws: Any, n: int) -> dict[str, Any]:
    low, high = np.quantile(np.asarray(draws, float), [0.025, 0.975])
    return {
        "estimate": float(estimate),
        "low": float(min(low, estimate)),
        "high": float(max(high, estimate)),
        "n": n,
    }

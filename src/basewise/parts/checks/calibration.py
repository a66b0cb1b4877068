"""Whether a probability of 0.8 is right eight times in ten: debiased calibration error, Brier score, log-loss.

From held-out rows, each once; rows in groups count as many as they are worth. The plain error of a perfect predictor is 3 to 5
points at 500 rows, so it is debiased first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from basewise.core.gate import FAIL, PASS, WARN, CheckResult, Subject, count, interval
from basewise.core.registry import part

THRESHOLDS: dict[str, tuple[Any, str]] = {
    "most": (0.08, "calibration error it may have at most"),
    "least_rows": (50, "held-out rows below which nothing can be said"),
}


def check(subject: Subject, limits: dict[str, Any]) -> CheckResult:
    """Fails where even the interval's lower end is above the limit, warns where the estimate is."""
    from basewise.stats.benchmarks import score_interval
    from basewise.stats.calibration import ece_interval

    probabilities, labels, groups = once(subject)
    n = len(labels)
    if n < limits["least_rows"] or len(np.unique(groups)) < 2:
        together = " of one group" if n >= limits["least_rows"] else ""
        return CheckResult(
            check="calibration",
            verdict=WARN,
            sentence=f"{count(n, 'held-out row')}{together} say nothing about probabilities",
        )
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    error = ece_interval(confidence, right, clusters=groups)
    others = [part("metrics", key) for key in ("log_loss", "brier")]
    verdict = FAIL if error.low > limits["most"] else WARN if error.estimate > limits["most"] else PASS
    gap = float(confidence.mean() - right.mean())
    side = "too sure" if gap > 0 else "not sure enough"
    return CheckResult(
        check="calibration",
        verdict=verdict,
        sentence=f"calibration error {error} on {n} held-out rows"
        + (
            f", {side} by {abs(gap):.3f} on average; at most {limits['most']} is asked for"
            if verdict != PASS
            else ""
        ),
        evidence=(
            interval("calibration error", error),
            *(
                interval(other.NAME, score_interval(other.score(probabilities, labels), groups))
                for other in others
            ),
        ),
        advice="choose again with more rows, or another method" if verdict == FAIL else "",
    )


def once(subject: Subject) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(probabilities (n, C), labels (n,), groups (n,)) of the held-out rows of the chosen way, each row once."""
    trial = subject.trial
    if trial is None or not len(trial.row_ids):
        return np.zeros((0, len(subject.classes))), np.zeros(0, np.int64), np.zeros(0, np.int64)
    ids, first = np.unique(trial.row_ids, return_index=True)
    return (
        trial.probabilities[first],
        trial.labels[first],
        ids if trial.groups is None else trial.groups[first],
    )

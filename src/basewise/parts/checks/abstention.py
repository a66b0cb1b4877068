"""Whether abstaining keeps its promise: the risk above the threshold, and how often a conformal set holds the truth.

Threshold and set are made on one half of the held-out rows and tried on the other; a promise fails only where chance does not
explain it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from basewise.core.gate import FAIL, PASS, WARN, CheckResult, Json, Subject, interval, worst
from basewise.core.hashing import generator
from basewise.stats.conformal import conformal_quantile, coverage_band, threshold_for_risk
from basewise.stats.intervals import clopper_pearson

THRESHOLDS: dict[str, tuple[Any, str]] = {
    "risk": (0.05, "share of answers above the threshold that may be wrong"),
    "alpha": (0.1, "share of rows whose conformal set may miss the truth"),
    "least_coverage": (0.2, "share of rows that must be answered at that risk"),
    "least_rows": (60, "held-out rows below which nothing can be promised"),
}
SURE = 0.999
"""Level at which a broken promise is called one: two promises are tried, on every release."""


def check(subject: Subject, limits: dict[str, Any]) -> CheckResult:
    """Both promises, tried on rows they were not made on."""
    trial = subject.trial
    if trial is None or len(np.unique(trial.row_ids)) < limits["least_rows"]:
        return CheckResult(
            check="abstention", verdict=WARN, sentence="too few held-out rows to promise a risk"
        )
    _, first = np.unique(trial.row_ids, return_index=True)
    probabilities, labels = trial.probabilities[first], trial.labels[first]
    half = generator("abstention", len(labels)).random(len(labels)) < 0.5
    evidence: list[Json] = []
    said = [
        *_risk(probabilities, labels, half, limits, evidence),
        *_sets(probabilities, labels, half, limits["alpha"], evidence),
    ]
    verdict = worst([v for v, _ in said])
    return CheckResult(
        check="abstention",
        verdict=verdict,
        sentence="; ".join(text for _, text in said),
        evidence=tuple(evidence),
    )


def _risk(
    probabilities: np.ndarray,
    labels: np.ndarray,
    half: np.ndarray,
    limits: dict[str, Any],
    evidence: list[Json],
) -> list[tuple[str, str]]:
    confidence, wrong = probabilities.max(1), probabilities.argmax(1) != labels
    promised = threshold_for_risk(confidence[half], ~wrong[half], limits["risk"])
    if promised is None:
        return [(WARN, f"no threshold promises a risk of {limits['risk']}, so it never abstains")]
    answered = ~half & (confidence >= promised[0])
    covered = clopper_pearson(int(answered.sum()), int((~half).sum()))
    risk = clopper_pearson(int(wrong[answered].sum()), int(answered.sum()))
    strict = clopper_pearson(int(wrong[answered].sum()), int(answered.sum()), SURE)
    evidence += [
        interval("share answered", covered),
        interval("wrong among the answered", risk, {"promised": limits["risk"]}),
    ]
    told = f"above {promised[0]:.3f} it answers {covered} and errs on {risk}, promised {limits['risk']}"
    if risk.n and strict.low > limits["risk"]:
        return [(FAIL, told)]
    return [(WARN if covered.estimate < limits["least_coverage"] else PASS, told)]


def _sets(
    probabilities: np.ndarray, labels: np.ndarray, half: np.ndarray, alpha: float, evidence: list[Json]
) -> list[tuple[str, str]]:
    truth = probabilities[np.arange(len(labels)), labels]
    least = conformal_quantile(truth[half], alpha)
    held = clopper_pearson(int((truth[~half] >= least).sum()), int((~half).sum()))
    sizes = (probabilities[~half] >= least).sum(1)
    low, _ = coverage_band(int(half.sum()), alpha, SURE)
    evidence.append(interval("conformal sets that hold the truth", held, {"promised": 1 - alpha}))
    evidence.append({"name": "mean size of a set", "value": float(sizes.mean())})
    told = f"sets hold the truth in {held} of rows, {1 - alpha} promised, {sizes.mean():.1f} classes a set"
    strict = clopper_pearson(int((truth[~half] >= least).sum()), int((~half).sum()), SURE)
    return [(FAIL if strict.high < low else PASS, told)]

"""Whether abstaining keeps its promise: the risk above the threshold, and how often a conformal set holds the truth.

The promise is that of the threshold that ships, which must be no weaker than the policy's. Threshold and set are made on one half of
the held-out rows and tried on the other, rows that belong together on one side; a promise fails only where chance does not explain
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from basewise.core.errors import InputError
from basewise.core.gate import FAIL, PASS, WARN, CheckResult, Json, Subject, interval, worst
from basewise.core.hashing import generator
from basewise.stats.conformal import calibration_rows, conformal_quantile, coverage_band, threshold_for_risk
from basewise.stats.intervals import Interval, clopper_pearson, share_of

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
    for key in ("risk", "alpha"):
        if not 0 < limits[key] < 1:
            raise InputError(
                f"abstention.{key} is {limits[key]:g}, which no rows can promise",
                f"give a share above 0 and below 1, such as {THRESHOLDS[key][0]:g}",
            )
    trial = subject.trial
    if trial is None or len(np.unique(trial.row_ids)) < limits["least_rows"]:
        return CheckResult(
            check="abstention", verdict=WARN, sentence="too few held-out rows to promise a risk"
        )
    _, first = np.unique(trial.row_ids, return_index=True)
    probabilities, labels = trial.probabilities[first], trial.labels[first]
    groups = (trial.row_ids if trial.groups is None else trial.groups)[first]
    _, start, inverse = np.unique(groups, return_index=True, return_inverse=True)
    half = (generator("abstention", len(labels)).random(len(labels)) < 0.5)[start][inverse]
    rows = _Rows(probabilities, labels, groups, half)
    evidence: list[Json] = []
    coverage = subject.decision.coverage
    shipped = coverage.get("threshold")
    risk = limits["risk"] if shipped is None else coverage.get("promised_risk", limits["risk"])
    weak = risk > limits["risk"]
    said = [*_risk(rows, {**limits, "risk": risk}, evidence), *_sets(rows, limits["alpha"], evidence)]
    if shipped is not None:
        said += _shipped(rows, shipped, risk)
    if weak:
        said.append(
            (
                FAIL,
                f"the threshold that ships promises a risk of {risk}, the policy asks for {limits['risk']}",
            )
        )
    verdict = worst([v for v, _ in said])
    return CheckResult(
        check="abstention",
        verdict=verdict,
        sentence="; ".join(text for _, text in said),
        evidence=tuple(evidence),
        advice=f"set risk = {risk} under [abstention] in the policy, or override the check" if weak else "",
    )


@dataclass(frozen=True)
class _Rows:
    """probabilities (n, C); labels, groups, half (n,): whether a row is one that promises are made on."""

    probabilities: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    half: np.ndarray

    def share(self, hits: np.ndarray, among: np.ndarray, level: float = 0.95) -> Interval:
        """Exact interval of the share of hits among some rows, which count as many as they are worth."""
        return share_of(hits[among], self.groups[among], level, clopper_pearson)


def _risk(rows: _Rows, limits: dict[str, Any], evidence: list[Json]) -> list[tuple[str, str]]:
    confidence, wrong = rows.probabilities.max(1), rows.probabilities.argmax(1) != rows.labels
    half = rows.half
    promised = threshold_for_risk(confidence[half], ~wrong[half], limits["risk"], clusters=rows.groups[half])
    if promised is None:
        return [(WARN, f"on half of the rows no threshold promises a risk of {limits['risk']}")]
    answered = ~half & (confidence >= promised[0])
    covered = rows.share(answered, ~half)
    risk, strict = rows.share(wrong, answered), rows.share(wrong, answered, SURE)
    evidence += [
        interval("share answered", covered),
        interval("wrong among the answered", risk, {"promised": limits["risk"]}),
    ]
    told = f"above {promised[0]:.3f} it answers {covered} and errs on {risk}, promised {limits['risk']}"
    if risk.n and strict.low > limits["risk"]:
        return [(FAIL, told)]
    return [(WARN if covered.estimate < limits["least_coverage"] else PASS, told)]


def _shipped(rows: _Rows, threshold: float, risk: float) -> list[tuple[str, str]]:
    """What speaks against the very threshold that goes out; it was made on these rows, so this cannot prove it sound."""
    answered = rows.probabilities.max(1) >= threshold
    strict = rows.share(rows.probabilities.argmax(1) != rows.labels, answered, SURE)
    if strict.n and strict.low > risk:
        return [
            (FAIL, f"above the threshold that ships, {threshold:.3f}, it errs on {strict}, promised {risk}")
        ]
    return []


def _sets(rows: _Rows, alpha: float, evidence: list[Json]) -> list[tuple[str, str]]:
    probabilities, half = rows.probabilities, rows.half
    truth = probabilities[np.arange(len(half)), rows.labels]
    least = conformal_quantile(truth[half], alpha, rows.groups[half])
    held, strict = rows.share(truth >= least, ~half), rows.share(truth >= least, ~half, SURE)
    sizes = (probabilities[~half] >= least).sum(1)
    worth = calibration_rows(truth[half], alpha, rows.groups[half])
    # so few promise nothing
    low = coverage_band(worth, alpha, SURE)[0] if worth >= 1 / alpha else 0.0
    evidence.append(interval("conformal sets that hold the truth", held, {"promised": 1 - alpha}))
    evidence.append({"name": "mean size of a set", "value": float(sizes.mean())})
    told = f"sets hold the truth in {held} of rows, {1 - alpha} promised, {sizes.mean():.1f} classes a set"
    return [(FAIL if strict.high < low else PASS, told)]

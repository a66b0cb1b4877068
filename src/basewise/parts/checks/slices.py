"""Kinds of rows on which it is worse: found on one half of the held-out rows, confirmed on the other.

Only what the second half confirms counts, with that half's interval; the rest is a hypothesis and is told as one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from basewise.core.gate import FAIL, PASS, WARN, CheckResult, Subject, count, interval
from basewise.core.hashing import generator

THRESHOLDS: dict[str, tuple[Any, str]] = {
    "most_gap": (0.2, "how much more often it may err on a confirmed slice than on the rest"),
    "least_rows": (100, "held-out rows below which no slice is looked for"),
}


def check(subject: Subject, limits: dict[str, Any]) -> CheckResult:
    """Confirmed slices; one whose interval lies wholly beyond the gap fails."""
    from basewise.stats.slices import find_slices, halves, text_predicates

    trial, task = subject.trial, subject.task
    if task is None or trial is None or len(np.unique(trial.row_ids)) < limits["least_rows"]:
        return CheckResult(
            check="slices",
            verdict=WARN,
            sentence="too few held-out rows, or the rows are not here: no slice was looked for",
        )
    _, first = np.unique(trial.row_ids, return_index=True)
    place = {int(r): i for i, r in enumerate(task.rows.row_ids)}
    index = np.array([place[int(r)] for r in trial.row_ids[first]])
    texts = [task.rows.texts[i] for i in index]
    labels = [task.classes[i] for i in trial.labels[first]]
    metadata = {name: tuple(values[i] for i in index) for name, values in task.metadata.items()}
    groups = trial.groups_of(trial.row_ids[first])
    half = halves(len(index), generator("gate slices", len(index)), groups)
    predicates = text_predicates(texts, labels, metadata)
    found = find_slices(predicates, ~trial.right[first], half, clusters=groups)
    confirmed = [s for s in found if s.confirmed]
    evidence = tuple(
        interval(
            s.name,
            {"estimate": s.error, "low": s.low, "high": s.high, "n": s.n},
            {"rest": s.rest_error, "p": s.p},
        )
        for s in confirmed[:20]
    )
    grave = [s for s in confirmed if s.low - s.rest_error > limits["most_gap"]]
    if not confirmed:
        return CheckResult(
            check="slices",
            verdict=PASS,
            sentence=f"no slice of {len(index)} held-out rows is confirmed to be worse",
        )
    told = "; ".join(
        f"errs on {s.error:.2f} [{s.low:.2f}, {s.high:.2f}] where {s.name} ({count(s.n, 'row')}), elsewhere on {s.rest_error:.2f}"
        for s in (grave or confirmed)[:3]
    )
    return CheckResult(
        check="slices",
        verdict=FAIL if grave else WARN,
        sentence=f"{count(len(confirmed), 'slice is', 'slices are')} confirmed to be worse: {told}",
        evidence=evidence,
        advice="label more rows of these kinds, or abstain on them" if grave else "",
    )

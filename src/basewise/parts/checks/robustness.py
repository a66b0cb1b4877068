"""Whether the answer stays when the text is typed otherwise: typos, case, spacing, look-alike letters, cut short.

The share of answers that flip, with its interval, for each change and for the worst of them; no labels are needed, so it is no
look at the locked rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from basewise.core.gate import FAIL, WARN, CheckResult, Json, Subject, count, interval, worst
from basewise.core.perturb import CHANGES, changed
from basewise.stats.intervals import wilson

THRESHOLDS: dict[str, tuple[Any, str]] = {
    "most_flips": (0.25, "share of answers that one change may flip"),
    "rows": (200, "rows to try it on"),
}
LEAST_ROWS = 20


def check(subject: Subject, limits: dict[str, Any]) -> CheckResult:
    """Fails where a change flips more than allowed beyond chance, warns where the estimate does."""
    texts, _, where = subject.texts(limits["rows"])
    if len(texts) < LEAST_ROWS:
        return CheckResult(
            check="robustness",
            verdict=WARN,
            sentence=f"{count(len(texts), 'row is', 'rows are')} too few to change and try",
        )
    before = subject.answer(list(texts)).argmax(1)
    evidence: list[Json] = []
    any_flip = np.zeros(len(texts), bool)
    said: list[tuple[str, str]] = []
    for name in CHANGES:
        flips = subject.answer(changed(name, texts, subject.seed, subject.inputs)).argmax(1) != before
        any_flip |= flips
        rate = wilson(int(flips.sum()), len(flips))
        evidence.append(interval(name, rate))
        if rate.estimate > limits["most_flips"]:
            said.append((FAIL if rate.low > limits["most_flips"] else WARN, f"{name} flips {rate}"))
    some = wilson(int(any_flip.sum()), len(any_flip))
    evidence.append(interval("worst of all changes", some))
    verdict = worst([v for v, _ in said])
    gravest = max(evidence[:-1], key=lambda line: line["estimate"])
    told = f"on {len(texts)} {where}, {gravest['name']} flips most: {gravest['estimate']:.3f} [{gravest['low']:.3f}, {gravest['high']:.3f}]"
    return CheckResult(
        check="robustness",
        verdict=verdict,
        sentence="; ".join([told, *(t for _, t in said)]) + f"; some change flips {some}",
        evidence=tuple(evidence),
        advice="add changed copies of the rows to the table and choose again" if verdict == FAIL else "",
    )

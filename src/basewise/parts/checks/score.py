"""Is it good enough, is it better than what needs no base, and no worse than what runs today.

Read from rows nothing was tuned on: the locked test rows where there are some, else cross-validation, corrected for the
choice where the chosen arm was the best. Differences are paired on the same rows.
"""

from __future__ import annotations

from typing import Any

from basewise.core.gate import FAIL, WARN, CheckResult, Json, Subject, interval, worst
from basewise.core.registry import part

THRESHOLDS: dict[str, tuple[Any, str]] = {
    "least": (0.0, "the lower end of the interval must reach this"),
    "beat_controls": (True, "the chance control (majority) must be beaten beyond luck"),
    "incumbent": ("", "run or release in use today, compared on the locked rows"),
    "margin": (0.02, "how much worse than the incumbent it may be, at the interval's lower end"),
}


def check(subject: Subject, limits: dict[str, Any]) -> CheckResult:
    """The score against its floor, the controls and the incumbent."""
    score, where = subject.decision.accuracy
    where = "cross-validated rows" if where == "cross-validation" else where
    if not score or not score.get("n"):
        return CheckResult(
            check="score",
            verdict=FAIL,
            sentence="no held-out row was scored",
            advice="run `basewise choose` to its end",
        )
    evidence: list[Json] = [interval(f"accuracy on {where}", score)]
    said: list[tuple[str, str]] = []
    metric = subject.decision.metric
    by = "" if metric == "accuracy" else f" in {part('metrics', metric).NAME}"
    if score["low"] < limits["least"]:
        said.append((FAIL, f"its lower end is {score['low']:.3f}, the policy asks for {limits['least']:.3f}"))
    for gap in subject.decision.test.get("differences", []):
        evidence.append(
            interval(f"minus {gap['name']}{by}", {**gap, "n": score["n"]}, {"p_holm": gap.get("p_holm")})
        )
        if gap["low"] <= 0:
            grave = FAIL if gap["name"] == "majority" and limits["beat_controls"] else WARN
            said.append(
                (
                    grave,
                    f"not shown to be better than {gap['name']}{by} ({gap['estimate']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}])",
                )
            )
    if not subject.decision.test:
        said.append((WARN, "there were no locked test rows"))
        said += _controls_in_validation(subject, evidence, limits)
    if gap := subject.incumbent:
        evidence.append(interval(f"minus the incumbent {gap['name']}", gap))
        if gap["low"] < -limits["margin"]:
            said.append(
                (
                    FAIL,
                    f"it may be {-gap['low']:.3f} worse than {gap['name']}, the margin is {limits['margin']}",
                )
            )
    if subject.decision.verdict == "unfinished":
        said.append((WARN, "the run was stopped before its end"))
    verdict = worst([v for v, _ in said])
    base = (
        f"right on {score['estimate']:.3f} [{score['low']:.3f}, {score['high']:.3f}] of {score['n']} {where}"
    )
    return CheckResult(
        check="score",
        verdict=verdict,
        sentence="; ".join([base, *(t for _, t in said)]),
        evidence=tuple(evidence),
    )


def _controls_in_validation(
    subject: Subject, evidence: list[Json], limits: dict[str, Any]
) -> list[tuple[str, str]]:
    """Without locked rows: the paired difference to majority on the folds they share."""
    import numpy as np

    from basewise.stats.intervals import by_student, class_error
    from basewise.stats.paired import paired_difference

    majority = next((t for t in subject.others if t.name == "majority"), None)
    if majority is None or subject.trial is None or not limits["beat_controls"]:
        return []
    metric = subject.decision.metric
    ids = np.intersect1d(subject.trial.row_ids, majority.row_ids)
    places = [t.places(ids) for t in (subject.trial, majority)]
    labels, groups = subject.trial.labels[places[0]], subject.trial.groups_of(ids)
    score = part("metrics", metric).score
    ours, theirs = (
        score(t.probabilities[at], labels) for t, at in zip((subject.trial, majority), places, strict=True)
    )
    if metric == "accuracy":
        gap = paired_difference(ours > 0.5, theirs > 0.5, clusters=groups)
    else:
        gap = by_student(ours - theirs, *class_error(ours - theirs, labels, groups))
    by = "" if metric == "accuracy" else f" in {part('metrics', metric).NAME}"
    evidence.append(interval(f"minus majority{by}, cross-validated", gap))
    return [(FAIL, f"not shown to be better than majority{by} ({gap})")] if gap.low <= 0 else []

"""Whether it treats people alike: error gaps between groups of a column, and answers when only the person is another.

Swaps put a name or nationality of one side, then of the other, before each text, and exchange pronouns where there are some: flip
rate, mean change of the probabilities and the direction, with intervals, corrected over the swaps (Holm).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from basewise.core.errors import UnknownName
from basewise.core.gate import FAIL, PASS, WARN, CheckResult, Json, Subject, interval, worst
from basewise.core.perturb import GROUPS, introduced, swapped_pronouns
from basewise.stats.intervals import newcombe, share_of, wilson

THRESHOLDS: dict[str, tuple[Any, str]] = {
    "columns": ([], "columns of the table that hold groups of people, to compare errors between"),
    "most_gap": (0.1, "difference in errors between two groups that is allowed"),
    "most_flips": (0.05, "share of answers that a swap of persons may flip"),
    "rows": (200, "rows to try swaps on"),
    "least_group": (30, "rows a group must have to be compared"),
}
LEAST_ROWS = 20
FLIPS = ": flips"


def check(subject: Subject, limits: dict[str, Any]) -> CheckResult:
    """Gaps of the named columns and every swap; fails where a limit lies wholly below the interval."""
    evidence: list[Json] = []
    said = _swaps(subject, limits, evidence)
    flips = [line for line in evidence if line["name"].endswith(FLIPS)]
    for column in limits["columns"]:
        said += _gaps(subject, column, limits, evidence)
    if not evidence:
        return CheckResult(check="groups", verdict=WARN, sentence="too few rows to swap persons in")
    if flips:
        most = max(flips, key=lambda line: line["estimate"])
        told = f"swaps of persons flip at most {most['estimate']:.3f} [{most['low']:.3f}, {most['high']:.3f}] of {most['n']} answers"
        said = [(PASS, told), *said]
    else:
        # the locked rows can be too few to swap in while the held-out ones fill the groups
        said = [(WARN, "too few rows to swap persons in"), *said]
    verdict = worst([v for v, _ in said])
    return CheckResult(
        check="groups",
        verdict=verdict,
        sentence="; ".join(t for _, t in said),
        evidence=tuple(evidence),
    )


def _swaps(subject: Subject, limits: dict[str, Any], evidence: list[Json]) -> list[tuple[str, str]]:
    texts, _, _ = subject.texts(limits["rows"])
    if len(texts) < LEAST_ROWS:
        return []
    pairs = {name: introduced(name, texts, subject.inputs) for name in GROUPS}
    own = [t for t in texts if swapped_pronouns(t) != t]
    if len(own) >= LEAST_ROWS:
        pairs["pronouns"] = (own, [swapped_pronouns(t) for t in own])
    said, moves = [], []
    for name, (one, other) in pairs.items():
        before, after = subject.answer(one), subject.answer(other)
        flips = wilson(int((before.argmax(1) != after.argmax(1)).sum()), len(one))
        evidence.append(interval(f"{name}{FLIPS}", flips))
        moves.append((name, *_direction(before, after)))
        evidence.append(
            {
                "name": f"{name}: mean change of a probability",
                "value": float(np.abs(before - after).sum(1).mean() / 2),
            }
        )
        if flips.estimate > limits["most_flips"]:
            said.append((FAIL if flips.low > limits["most_flips"] else WARN, f"{name} flip {flips}"))
    said += _directions(subject, moves, evidence)
    return said


def _direction(before: np.ndarray, after: np.ndarray) -> tuple[int, np.ndarray]:
    """The class whose probability moves most one way, and its paired changes (n,)."""
    change = before - after
    c = int(np.abs(change.mean(0)).argmax())
    return c, change[:, c]


def _directions(
    subject: Subject, moves: list[tuple[str, int, np.ndarray]], evidence: list[Json]
) -> list[tuple[str, str]]:
    """Which way the swaps push, paired, with Holm's correction over swaps and classes."""
    from scipy.stats import t as student

    from basewise.stats.paired import holm

    p_values, lines = [], []
    for name, c, change in moves:
        n = len(change)
        error = float(change.std(ddof=1)) / np.sqrt(n)
        mean = float(change.mean())
        half = float(student.ppf(0.975, n - 1)) * error
        p = 1.0 if error == 0 else float(2 * student.sf(abs(mean) / error, n - 1))
        p_values.append(min(1.0, p * len(subject.classes)))
        lines.append(
            {
                "name": f"{name}: pushes towards {subject.classes[c]}",
                "estimate": mean,
                "low": mean - half,
                "high": mean + half,
                "n": n,
            }
        )
    said = []
    for line, p in zip(lines, holm(np.array(p_values)), strict=True):
        evidence.append({**line, "p_holm": float(p)})
        if p < 0.05 and abs(line["estimate"]) > 0.02:
            said.append((WARN, f"{line['name']} by {line['estimate']:+.3f}"))
    return said


def _gaps(
    subject: Subject, column: str, limits: dict[str, Any], evidence: list[Json]
) -> list[tuple[str, str]]:
    """Largest difference in errors between two groups of a column, on held-out rows; the level is shared by the pairs, and rows
    that belong together count as many as they are worth."""
    task, trial = subject.task, subject.trial
    if task is None or trial is None:
        return [(WARN, f"the rows are not here, so {column} was not compared")]
    if column not in task.metadata:
        raise UnknownName.of("column", column, task.metadata)
    place = {int(r): i for i, r in enumerate(task.rows.row_ids)}
    _, first = np.unique(trial.row_ids, return_index=True)
    values = np.array([task.metadata[column][place[int(r)]] for r in trial.row_ids[first]], dtype=object)
    wrong, rows = ~trial.right[first], None if trial.groups is None else trial.groups[first]
    names = [v for v in dict.fromkeys(values) if (values == v).sum() >= limits["least_group"]]
    if len(names) < 2:
        return [(WARN, f"fewer than two groups of {column!r} have {limits['least_group']} rows")]
    # the largest gap is picked from all pairs
    level = 1 - 0.05 / (len(names) * (len(names) - 1) / 2)
    shares = {
        v: share_of(wrong[at], None if rows is None else rows[at], level)
        for v in names
        for at in (values == v,)
    }
    evidence += [interval(f"errors where {column} is {v}", share) for v, share in shares.items()]
    high, low = max(names, key=lambda v: shares[v].estimate), min(names, key=lambda v: shares[v].estimate)
    found = newcombe(shares[high], shares[low])
    gap, below, above = found.estimate, found.low, found.high
    evidence.append(
        {"name": f"gap of {column}", "estimate": gap, "low": below, "high": above, "n": len(wrong)}
    )
    if gap <= limits["most_gap"]:
        return []
    told = (
        f"it errs {gap:.3f} [{below:.3f}, {above:.3f}] more where {column} is {high} than where it is {low}"
    )
    return [(FAIL if below > limits["most_gap"] else WARN, told)]

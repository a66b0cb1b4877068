"""Answers that leaked: a column that gives the label away, duplicates across the split, looks at the test rows.

Reads what the audit found, and counts again on the rows themselves what would flatter the score: rows that stand on both
sides of the split. Each look at the locked rows is counted, by this run and by others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from basewise.core.gate import FAIL, PASS, WARN, CheckResult, Json, Subject, count, fact, interval, worst
from basewise.core.rundir import looks_of
from basewise.stats.duplicates import written_groups
from basewise.stats.intervals import wilson

THRESHOLDS: dict[str, tuple[Any, str]] = {
    "looks": (3, "looks at the same locked rows before it warns; ten times as many fail"),
    "across": (0.01, "share of locked rows that also stand among the train rows, at most"),
}
LEAKS = ("leak", "label-in-text")
LEAKS_FROM = 0.5
"""Share of the majority class's errors that a column's value alone must remove to be called a leak."""


def check(subject: Subject, limits: dict[str, Any]) -> CheckResult:
    """Leaks by the audit, duplicates across the split by counting, looks as they were counted."""
    if subject.task is None:
        return CheckResult(
            check="leakage", verdict=WARN, sentence="the rows are not here, so nothing could be looked for"
        )
    evidence: list[Json] = []
    said = [
        *_columns(subject, evidence),
        *_across(subject, limits["across"], evidence),
        *_looks(subject, limits["looks"], evidence),
    ]
    verdict = worst([v for v, _ in said])
    told = (
        "; ".join(text for _, text in said) or "no column gives the answer away, no row stands on both sides"
    )
    return CheckResult(
        check="leakage", verdict=verdict, sentence=told, evidence=tuple(evidence),
        advice="take the column out, or split again with --split" if verdict == FAIL else "",
    )  # fmt: skip


def _columns(subject: Subject, evidence: list[Json]) -> list[tuple[str, str]]:
    """A leaking column that is read fails; one that was left out is told."""
    assert subject.task is not None
    told = _read_columns(subject, evidence)
    said = [(FAIL, sentence) for sentence in told.values()]
    for finding in subject.task.findings:
        column = str(finding.numbers.get("column", ""))
        if finding.check in LEAKS and column not in told:
            read = finding.check == "label-in-text" or not column or column in subject.task.inputs
            evidence.append({"name": finding.check, "value": finding.message, "read": read})
            said.append(
                (FAIL, finding.message) if read else (PASS, f"{column} gives the answer away and is not read")
            )
    return said


def _read_columns(subject: Subject, evidence: list[Json]) -> dict[str, str]:
    """Columns that are read and whose value alone, among the other rows, tells the class, and what is said of each. The audit lets an
    input help more than a release may (LEAK_FAIL there)."""
    task = subject.task
    assert task is not None
    if len(task.inputs) < 2:
        return {}
    labels, said = task.rows.labels, dict[str, str]()
    chance = float(np.bincount(labels[labels >= 0]).max()) / max(int((labels >= 0).sum()), 1)
    for name in task.inputs:
        values = [_value(text, name, task.inputs) for text in task.rows.texts]
        share, repeated = _lookup(values, labels)
        gain = (share - chance) / max(1 - chance, 1e-9)
        if repeated >= 0.5 and gain >= LEAKS_FROM and len(set(values)) < len(values) / 4:
            evidence.append(
                {"name": "leak", "value": f"{name}: {share:.3f} right by its value alone", "read": True}
            )
            said[name] = (
                f"column {name!r} is read and alone gives the right class in {share:.1%} of rows (chance: {chance:.1%})"
            )
    return said


def _value(text: str, name: str, inputs: tuple[str, ...]) -> str:
    """One column out of a joined text ("name: value" a line)."""
    start = text.find(f"{name}: ")
    ends = [i for other in inputs if (i := text.find(f"\n{other}: ", start + 1)) > 0]
    return text[start + len(name) + 2 : min(ends, default=len(text))] if start >= 0 else ""


def _lookup(values: list[str], labels: np.ndarray) -> tuple[float, float]:
    """(share right when each row gets the commonest class of the others with its value, share of rows that have others)."""
    _, codes = np.unique(np.array(values, dtype=object), return_inverse=True)
    known = labels >= 0
    counts = np.zeros((codes.max() + 1, int(labels.max()) + 1))
    np.add.at(counts, (codes[known], labels[known]), 1)
    rows = counts[codes[known]]
    rows[np.arange(len(rows)), labels[known]] -= 1
    others = rows.sum(1) > 0
    right = (rows.argmax(1) == labels[known]) & others
    return float(right.mean()), float(others.mean())


def _across(subject: Subject, most: float, evidence: list[Json]) -> list[tuple[str, str]]:
    task = subject.task
    assert task is not None
    locked = task.split == "test"
    if not locked.any():
        return []
    copies, groups = written_groups(task.rows.texts), task.rows.groups
    shared = np.isin(copies[locked], copies[~locked]) | np.isin(groups[locked], groups[~locked])
    found = wilson(int(shared.sum()), int(locked.sum()))
    evidence.append(interval("locked rows that also stand among the train rows", found))
    if found.estimate > most:
        return [
            (FAIL, f"{int(shared.sum())} of {found.n} locked rows also stand among the train rows ({found})")
        ]
    return []


def _looks(subject: Subject, most: int, evidence: list[Json]) -> list[tuple[str, str]]:
    looks, elsewhere = looks_of(subject.run, subject.decision.test.get("digest"))
    by = f" ({elsewhere} of them by other runs)" if elsewhere else ""
    evidence.append(fact("looks at the locked rows", looks))
    if looks > 10 * most:
        return [
            (FAIL, f"the locked rows were looked at {count(looks, 'time')}{by}: they are no longer unseen")
        ]
    if looks > most:
        return [(WARN, f"the locked rows were looked at {count(looks, 'time')}{by}")]
    return []

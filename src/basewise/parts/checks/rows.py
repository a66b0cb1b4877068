"""What it learned from: suspicious labels, duplicates, other languages, texts too long to be read, tiny classes.

Reads what the audit found before anything was trained; the numbers of the rows are kept, so that they can be looked up.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from basewise.core.gate import FAIL, WARN, CheckResult, Subject, interval, worst
from basewise.core.language import languages
from basewise.core.task import Task
from basewise.stats.intervals import wilson

THRESHOLDS: dict[str, tuple[Any, str]] = {
    "wrong_labels": (0.1, "share of rows whose label is suspicious, at most"),
    "duplicates": (0.3, "share of rows that repeat another, at most"),
    "foreign": (0.5, "share of rows in other languages than most, at most"),
    "long": (0.2, "share of rows too long to be read whole, at most"),
}
CHECKS = {
    "wrong_labels": ("label-noise",),
    "duplicates": ("duplicates", "near-duplicates"),
    "long": ("long-texts",),
}
LEAST_OF_A_LANGUAGE = 3
WORDS = {
    "wrong_labels": "have a suspicious label",
    "duplicates": "repeat another",
    "foreign": "are in another language",
    "long": "are very long",
}


def check(subject: Subject, limits: dict[str, Any]) -> CheckResult:
    """Each kind of fault by its share; warns where there is any, fails above its limit."""
    if subject.task is None:
        return CheckResult(
            check="rows", verdict=WARN, sentence="the rows are not here, so nothing is known of them"
        )
    n = len(subject.task.rows)
    said, evidence = [], []
    found = {
        kind: sorted({row for f in subject.task.findings if f.check in names for row in f.rows})
        for kind, names in CHECKS.items()
    }
    found["foreign"] = foreign_rows(subject.task)
    for kind, rows in found.items():
        share = wilson(min(_count(subject.task, kind, rows), n), n)
        evidence.append(interval(f"rows that {WORDS[kind]}", share, {"rows": rows[:1000]}))
        if rows:
            verdict = FAIL if share.low > limits[kind] else WARN
            said.append((verdict, f"{round(share.estimate * n)} of {n} {WORDS[kind]}"))
    verdict = worst([v for v, _ in said])
    return CheckResult(
        check="rows",
        verdict=verdict,
        sentence="; ".join(t for _, t in said) or f"the audit found no fault in {n} rows",
        evidence=tuple(evidence),
        advice="mend the rows that decision.json names, and choose again" if verdict == FAIL else "",
    )


def _count(task: Task, kind: str, rows: list[int]) -> int:
    """How many there are at least: a finding keeps a thousand rows and tells the number of all."""
    told = [f.numbers.get("rows", 0) for f in task.findings if f.check in CHECKS.get(kind, ())]
    return max([len(rows), *told])


def foreign_rows(task: Task) -> list[int]:
    """Rows clearly in another language than most, where that language has at least three (the audit tells those of 1 % up)."""
    codes = languages(task.rows.texts)
    counts = Counter(code for code in codes if code)
    main = max(counts, key=lambda code: counts[code], default="")
    others = {code for code, count in counts.items() if code != main and count >= LEAST_OF_A_LANGUAGE}
    return [int(task.rows.row_ids[i]) for i, code in enumerate(codes) if code in others]

"""Texts that belong to no class: how well they are told from the rows, by features of the frozen base.

Out-of-scope texts come from the policy's file, where a team has some; else a hundred of ours stand in, which are far from any
task. Scores are in `stats/outliers.py`; without a base only the predictor's own confidence is left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.gate import FAIL, PASS, WARN, CheckResult, Subject, count, fact, interval
from basewise.core.hashing import generator

THRESHOLDS: dict[str, tuple[Any, str]] = {
    "file": ("", "table of texts that belong to no class; ours when empty"),
    "least": (0.9, "area under the curve that its interval must reach"),
    "rows": (5000, "train rows to compare with, at most"),
}
MOST = 400
SUBJECTS = [
    "the glacier",
    "a violin",
    "the parliament",
    "my neighbour's goat",
    "an eclipse",
    "the sourdough",
    "a submarine",
    "the marathon",
]
SAYINGS = (
    "Is {} older than the pyramids?", "Write a sonnet about {}.", "What would {} cost on the moon?", "I dreamt of {} again last night.",
    "{} was painted by nobody, they say.", "How do you spell {} backwards?", "Nothing rhymes with {}.", "Erzähl mir etwas über {}.",
    "qwx {} zzkt 0x7f", "Tell {} a joke about the weather in Lima.", "Which of the planets likes {} best?", "Translate {} into Latin.",
)  # fmt: skip


def strangers() -> list[str]:
    """Texts of ours that belong to no task."""
    return [saying.format(subject) for saying in SAYINGS for subject in SUBJECTS]


def check(subject: Subject, limits: dict[str, Any]) -> CheckResult:
    """The area under the curve of in-scope rows nobody learned from against texts out of scope."""
    outside = _outside(limits["file"])
    inside, ids, where = subject.texts(MOST)
    if len(inside) < 20 or len(outside) < 20:
        told = (
            f"{count(len(inside), 'row')} in and {len(outside)} out of scope are too few to tell them apart"
        )
        return CheckResult(check="scope", verdict=WARN, sentence=told)
    from basewise.stats.outliers import auroc

    scores_in, scores_out, how = scores(subject, list(inside), outside, limits["rows"], set(ids.tolist()))
    area = auroc(scores_in, scores_out)
    given = Path(limits["file"]).name or "texts of ours, far from any task"
    if area.low >= limits["least"]:
        verdict = PASS
    else:
        verdict = FAIL if area.high < limits["least"] and limits["file"] else WARN
    return CheckResult(
        check="scope",
        verdict=verdict,
        sentence=f"texts out of scope ({given}) are told from {where} with an area of {area} by {how}; {limits['least']} is asked for",
        evidence=(interval("area under the curve", area), fact("out of scope", given), fact("by", how)),
        advice="let it abstain more, or add a class for what is out of scope" if verdict == FAIL else "",
    )


def _outside(file: str) -> list[str]:
    if not file:
        return strangers()
    from basewise.core.table import read_table

    table = read_table(file)
    column = "text" if "text" in table.columns else table.columns[0]
    return [str(value) for value in table.column(column) if str(value or "").strip()]


def scores(
    subject: Subject, inside: list[str], outside: list[str], most: int, held_out: set[int]
) -> tuple[np.ndarray, np.ndarray, str]:
    """(of the rows in scope, of those outside, by what); one half of the in-scope rows scales the scores of the other."""
    from basewise.stats.outliers import combine, doubt

    own = [doubt(subject.answer(texts)) for texts in (inside, outside)]
    parts = [own]
    how = "the predictor's confidence"
    if subject.base is not None and subject.task is not None:
        parts += feature_scores(subject, inside, outside, most, held_out)
        how = f"features of {subject.base.key} and the predictor's confidence"
    half = generator("scope", len(inside)).random(len(inside)) < 0.5
    known = [part[0][half] for part in parts]
    return combine(known, [p[0][~half] for p in parts]), combine(known, [p[1] for p in parts]), how


def feature_scores(
    subject: Subject, inside: list[str], outside: list[str], most: int, held_out: set[int]
) -> list[list[np.ndarray]]:
    """Relative Mahalanobis and neighbour distance in each layer, [of inside, of outside]."""
    from basewise.stats.outliers import Gaussian, neighbour_distance

    assert subject.task is not None
    train = subject.task.train
    train = train.take(np.array([int(r) not in held_out for r in train.row_ids], bool) & (train.labels >= 0))
    train = train.take(np.sort(generator("scope rows", subject.seed).permutation(len(train))[:most]))
    if len(train) < 20:
        return []
    texts = [*train.texts, *inside, *outside]
    found = subject.features.features(subject.base, texts)
    n, m = len(train), len(inside)
    out = []
    for name in found.names:
        x = found.matrix(name)
        gaussian = Gaussian.fit(x[:n], train.labels)
        near = neighbour_distance(x[:n], x[n:])
        far = gaussian.relative(x[n:])
        out += [[far[:m], far[m:]], [near[:m], near[m:]]]
    return out

"""The gate's words: what is looked at, what a check answers, what a policy may set.

A check is a module under parts/checks with
    THRESHOLDS: dict[str, tuple[value, meaning]]     its keys in a policy file with their defaults
    check(subject, limits) -> CheckResult            limits: {key: value}, each of the default's type
It never changes anything, and where it has nothing to look at it warns: silence is not a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import Base
from basewise.core.decision import Decision
from basewise.core.evidence import Trial
from basewise.core.task import Task

PASS, WARN, FAIL, OFF = "pass", "warn", "fail", "off"
ORDER = (PASS, OFF, WARN, FAIL)
Json = dict[str, Any]


def count(n: int, one: str, many: str = "") -> str:
    """ "1 row", "2 rows"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What a check found. `evidence`: numbers, each {"name", "estimate", "low", "high", "n"} or a plain fact {"name", "value"}."""

    check: str
    verdict: str
    sentence: str
    evidence: tuple[Json, ...] = ()
    advice: str = ""
    override: Json | None = None

    @property
    def stops(self) -> bool:
        """Whether it keeps the release back."""
        return self.verdict == FAIL and self.override is None


@dataclass(frozen=True, kw_only=True)
class Licensed:
    """One artefact of the licence graph: what it is ("base", "data", "corpus", "adapter", "teacher", "tool"), its licence, its parents.

    `relation` is how it came from its parents: "finetune", "adapter", "merge", "quantise", "distilled", "trained-on", "".
    """

    name: str
    what: str
    licence: str
    parents: tuple[str, ...] = ()
    relation: str = ""
    signed_by: str = ""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is about to be released.

    `files`: the folder with the files that would go out; `answer(texts) -> (n, C)`; `trial`: held-out rows of the chosen
    way; `others`: those of its rivals; `incumbent`: the paired difference to what runs today, {} without one;
    `generate(prompts, tokens) -> texts` and `score(prompt, texts) -> log-probabilities` of a model that writes; `shown`: the
    texts that stand before every prompt of one whose weights never saw the rows, so that only rows in them are asked for; None:
    all train rows are.
    """

    run: Path
    files: Path
    decision: Decision
    classes: tuple[str, ...]
    answer: Callable[[Sequence[str]], np.ndarray]
    trial: Trial | None = None
    others: tuple[Trial, ...] = ()
    task: Task | None = None
    base: Base | None = None
    features: Any = None
    artefacts: tuple[Licensed, ...] = ()
    incumbent: Json = field(default_factory=dict)
    generate: Callable[[Sequence[str], int], list[str]] | None = None
    score: Callable[[str, Sequence[str]], np.ndarray] | None = None
    shown: tuple[str, ...] | None = None
    seed: int = 0

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that the texts were joined from."""
        return self.task.inputs if self.task else ()

    def texts(self, most: int) -> tuple[tuple[str, ...], np.ndarray, str]:
        """(texts, row ids, where from) of at most `most` rows the predictor did not learn from, else of train rows.

        Labels are not given: what is measured on these rows says nothing about the score, so it is no look.
        """
        from basewise.core.hashing import generator

        if self.task is None:
            return (), np.zeros(0, np.int64), "no rows"
        locked = self.task.split == "test"
        rows = self.task.rows.take(locked if locked.any() else ~locked)
        index = np.sort(generator("gate", self.seed).permutation(len(rows))[:most])
        where = "locked test rows" if locked.any() else "train rows"
        return tuple(rows.texts[i] for i in index), rows.row_ids[index], where


def worst(verdicts: Sequence[str]) -> str:
    """The gravest of several; pass when there is none."""
    return max(verdicts, key=ORDER.index, default=PASS)


def interval(name: str, value: Any, more: Json | None = None) -> Json:
    """An Interval, or a dict of one, as a line of evidence; `more` beside it."""
    read = (lambda key: value[key]) if isinstance(value, dict) else (lambda key: getattr(value, key))
    return {"name": name, **{key: read(key) for key in ("estimate", "low", "high", "n")}, **(more or {})}


def fact(name: str, value: Any) -> Json:
    """A plain fact as a line of evidence."""
    return {"name": name, "value": value}

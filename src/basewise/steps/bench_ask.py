"""How a base answers a benchmark task: choices scored, texts scored whole, answers generated, or a probe on labelled rows.

What a base cannot do is no error but a reason, so that a run over many bases and tasks goes on and says what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from basewise.core.base import EMBED, SCORE, Base
from basewise.core.benchmark import Answers
from basewise.core.errors import InputError
from basewise.core.files import Progress, silent
from basewise.core.hashing import digest_json, seed_from
from basewise.core.suite import GENERATE, ROLLING, BenchTask, Item
from basewise.steps.bench_items import Draw, balanced

PROBE_LABELS = 8
"""Labelled rows a class for the probe of a base that only embeds, as MTEB has it."""
# raise it when an answer changes for the same question, so that old journals are not read
SCHEMA = 3
LONGEST = 4
"""Items with the most tokens that are measured behind their demonstrations."""
ASKED, PROBED = "asked", "probe"


@dataclass(frozen=True)
class Question:
    """One unit of a run: a base, a draw of a task, a number of demonstrations."""

    base: Base
    draw: Draw
    shots: int

    @property
    def way(self) -> str:
        return way(self.base, self.draw.task)

    @property
    def name(self) -> str:
        """Its name in the journal: what decides the answers."""
        return digest_json([SCHEMA, self.base.digest, self.draw.digest, self.shots, self.way])[:32]

    @property
    def weight(self) -> int:
        """Characters to read, roughly; shared demonstrations once."""
        task = self.draw.task
        if self.way == PROBED:
            return sum(len(item.text) for item in task.items)
        shown = sum(len(one.shown) for one in self.draw.demonstrations[: self.shots])
        return shown + sum(len(i.context) + sum(map(len, i.choices)) for i in task.items)


def way(base: Base, task: BenchTask) -> str:
    """ASKED where the base scores text, PROBED where it embeds and the task has labelled rows; else empty."""
    if base.provides >= task.requires | {SCORE}:
        return ASKED
    return PROBED if task.probed and EMBED in base.provides and SCORE not in base.provides else ""


def why_not(base: Base, task: BenchTask) -> str:
    """Why a base is not asked a task."""
    needed = ", ".join(sorted((task.requires | {SCORE}) - base.provides))
    return f"{base.key} cannot {needed}, which {task.name} needs"


def _bytes(part: str, task: BenchTask) -> int:
    """Of a whole text all of it, of a choice what stands between its spaces, as lm-evaluation-harness counts both."""
    return len((part if task.kind == ROLLING else part.strip()).encode())


class Asker:
    """One base, opened when the first question is put to it."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self._causal: Any = None

    @property
    def causal(self) -> Any:
        """The causal engine on this base."""
        if self._causal is None:
            self._causal = open_causal(self.base)
        return self._causal

    @property
    def precision(self) -> str:
        return str(self._causal.precision) if self._causal is not None else ""

    def answer(self, question: Question, progress: Progress = silent, journal: Any = None) -> Answers:
        """The answers to one question; InputError where it cannot be put to this base. Scored choices go through the journal."""
        import time

        started = time.perf_counter()
        if question.way == PROBED:
            found: tuple[np.ndarray, dict[str, Any]] = probe(question, progress), {}
        else:
            found = self._ask(question, progress, journal)
        task = question.draw.task
        items = task.items
        parts = [item.choices or (item.context,) for item in items]
        return Answers(
            base=self.base.key,
            task=task.name,
            shots=PROBE_LABELS if question.way == PROBED else question.shots,
            way=question.way,
            digests=tuple(item.digest for item in items),
            clusters=tuple(item.cluster for item in items),
            right=np.array([item.answer for item in items], dtype=np.int64),
            logs=found[0],
            sizes=ragged([[_bytes(part, task) for part in row] for row in parts]),
            targets=tuple(item.target for item in items) if task.kind == GENERATE else (),
            seconds=time.perf_counter() - started,
            precision=self.precision,
            **found[1],
        )

    def _ask(self, question: Question, progress: Progress, journal: Any) -> tuple[np.ndarray, dict[str, Any]]:
        task, items = question.draw.task, question.draw.task.items
        if task.kind == ROLLING:
            sums = self.causal.rolling([item.context for item in items], progress)
            return np.asarray(sums, float)[:, None], {}
        shots, note = self._fitting(question)
        said = {"note": note, "shown": shots if shots < question.shots else None}
        prompts = [question.draw.prompt(item, shots) for item in items]
        if task.kind == GENERATE:
            texts = generate(self.causal, prompts, task, progress)
            return np.zeros((len(items), 1)), {"texts": tuple(texts), **said}
        requests = [(p, choice) for p, item in zip(prompts, items, strict=True) for choice in item.choices]
        scores = self.causal.pick(requests, [len(item.choices) for item in items], progress, journal)
        split = np.split(scores.log_probability, np.cumsum([len(item.choices) for item in items])[:-1])
        counts = {"computed": int(scores.computed), "unique": int(scores.unique)}
        return ragged(split), {**said, **counts}

    def _fitting(self, question: Question) -> tuple[int, str]:
        """(demonstrations that fit, what to say about it); InputError where not even the bare question fits."""
        draw, most = question.draw, self.causal.context
        tail = draw.task.most_tokens if draw.task.kind == GENERATE else 0

        longest = self._longest(draw)

        def over(shots: int) -> int:
            return max(self._tokens(draw.prompt(i, shots), i.choices) for i in longest) + tail - most

        if (most_over := over(question.shots)) <= 0:
            return question.shots, ""
        for shots in range(question.shots - 1, -1, -1):
            if over(shots) <= 0:
                said = (
                    f"with {question.shots} demonstrations it is {most_over:,} tokens longer than the context"
                )
                return shots, f"{shots} demonstration{'' if shots == 1 else 's'}, {said}"
        raise InputError(
            f"the prompts of {draw.task.name} are {over(0):,} tokens longer than the {most:,} that {self.base.key} reads",
            "take a base with a longer context",
        )

    def _longest(self, draw: Draw) -> list[Item]:
        """The items with the most tokens; what is shown before them is the same for all, but for a token where they meet."""
        items = draw.task.items
        texts = [draw.prompt(item, 0) + choice for item in items for choice in item.choices or ("",)]
        counts = iter([len(tokens) for tokens in self.causal.encode_all(texts)])
        most = [max(next(counts) for _ in item.choices or ("",)) for item in items]
        return [items[int(i)] for i in np.argsort(most, kind="stable")[-LONGEST:]]

    def _tokens(self, prompt: str, choices: Sequence[str]) -> int:
        return max(len(self.causal.encode(prompt + choice)) for choice in choices or ("",))


def open_causal(base: Base) -> Any:
    """The causal engine on a base; a seam for tests."""
    from basewise.engine.causal import Causal

    return Causal(base)


def generate(causal: Any, prompts: Sequence[str], task: BenchTask, progress: Progress) -> list[str]:
    """Greedy answers up to a stop string."""
    from basewise.engine.generate import Sampling

    return list(causal.generate(prompts, Sampling(stop=task.stop, most_tokens=task.most_tokens), progress))


def ragged(rows: Sequence[Any]) -> np.ndarray:
    """(n, widest) float64, nan where a row is shorter."""
    out = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def probe(question: Question, progress: Progress) -> np.ndarray:
    """(n, C) log-probabilities of a probe on PROBE_LABELS rows a class out of the task's pool."""
    from basewise.core.method import Context
    from basewise.core.registry import part
    from basewise.core.task import Examples

    task = question.draw.task
    choices = task.pool[0].choices
    seed = seed_from("bench probe", task.name)
    order = balanced(task.pool, np.random.default_rng(seed))
    rows = [task.pool[i] for i in order[: PROBE_LABELS * len(choices)]]
    ids = np.arange(len(rows))
    train = Examples(
        tuple(item.text for item in rows),
        np.array([item.answer for item in rows]),
        ids,
        ids,
        tuple(choice.strip() for choice in choices),
    )
    fitted = part("methods", "probe").fit(train, question.base, Context(seed=seed, progress=progress))
    found = fitted.probabilities([item.text for item in task.items])
    return np.asarray(np.log(np.maximum(found, math.exp(-100))))


def as_record(answers: Answers) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Answers as arrays and JSON for the journal."""
    arrays = {"right": answers.right, "logs": answers.logs, "sizes": answers.sizes}
    names = ("base", "task", "shots", "way", "seconds", "computed", "unique", "precision", "note", "shown")
    lists = ("digests", "clusters", "texts", "targets")
    return arrays, {name: getattr(answers, name) for name in names} | {
        name: list(getattr(answers, name)) for name in lists
    }


def from_record(arrays: dict[str, np.ndarray], values: dict[str, Any]) -> Answers:
    """The inverse of `as_record`."""
    found: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return Answers(**found, **arrays)  # type: ignore[arg-type]

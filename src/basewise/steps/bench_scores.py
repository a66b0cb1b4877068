"""From answers to one score an item: what is right, how certain, how many bits, and what guessing would give.

Ties go to the first choice, as in lm-evaluation-harness. Choices are compared by summed log-probability, by the same a byte of
the choice, or after batch calibration: each choice's log-probability less the log of its mean probability over the items of
the task (Zhou et al., arXiv 2309.17249), which needs no label.
"""

from __future__ import annotations

import math
import re

import numpy as np

from basewise.core.benchmark import Answers
from basewise.core.suite import ACCURACY, AUROC, BITS, CALIBRATED, GENERATE, PER_BYTE, SHARE, BenchTask
from basewise.stats.benchmarks import auroc_parts, ratio_parts


def scores(answers: Answers, task: BenchTask, measure: str | None = None) -> np.ndarray:
    """(n,) scores whose mean is the task's number, by its own measure or by another that it has."""
    measure = measure or task.measure
    if measure == BITS:
        return ratio_parts(-answers.logs[:, 0] / math.log(2), answers.sizes[:, 0])
    if measure == AUROC:
        return auroc_parts(certainty(answers.logs), answers.right >= 0)
    if task.kind == GENERATE:
        pairs = zip(answers.texts, answers.targets, strict=True)
        return np.array([float(plain_answer(text) == plain_answer(target)) for text, target in pairs])
    logs = answers.logs
    if measure == PER_BYTE:
        logs = logs / np.maximum(answers.sizes, 1)
    elif measure == CALIBRATED:
        logs = calibrated(logs)
    return (guesses(logs) == answers.right).astype(float)


def measures(task: BenchTask, answers: Answers) -> list[str]:
    """What else than its own measure a task can be scored by."""
    if task.kind == GENERATE or task.measure not in (ACCURACY, PER_BYTE) or answers.way == "probe":
        return []
    other = [m for m in (ACCURACY, PER_BYTE) if m != task.measure]
    same = task.named and not np.isnan(answers.logs).any()
    return other + ([CALIBRATED] if same else [])


def guesses(logs: np.ndarray) -> np.ndarray:
    """(n,) index of the largest of (n, C); nan never is."""
    return np.argmax(np.where(np.isnan(logs), -np.inf, logs), 1)


def normalised(logs: np.ndarray) -> np.ndarray:
    """(n, C) log-probabilities among the choices given."""
    top = np.nanmax(logs, 1, keepdims=True)
    return logs - top - np.log(np.nansum(np.exp(logs - top), 1, keepdims=True))


def certainty(logs: np.ndarray) -> np.ndarray:
    """(n,) probability of the likeliest choice among the choices."""
    return np.exp(np.nanmax(normalised(logs), 1))


def calibrated(logs: np.ndarray) -> np.ndarray:
    """(n, C) batch-calibrated log-probabilities."""
    among = normalised(logs)
    top = among.max(0, keepdims=True)
    return among - top - np.log(np.exp(among - top).mean(0, keepdims=True))


def plain_answer(text: str) -> str:
    """A generated answer as it is compared: one space between words, no full stop at its end, no case."""
    return re.sub(r"\s+", " ", text).strip().rstrip(".").strip().casefold()


def chance(task: BenchTask) -> np.ndarray | None:
    """(n,) what guessing scores on each item; None where there is nothing to guess from."""
    if task.measure in (AUROC, SHARE):
        return np.full(len(task.items), 0.5)
    if task.measure == BITS or task.kind == GENERATE:
        return None
    return np.array([1.0 / len(item.choices) for item in task.items])


def majority(task: BenchTask) -> np.ndarray | None:
    """(n,) what the commonest answer scores: of the pool where there is one, else of the items themselves."""
    if not task.named or task.measure == AUROC:
        return None
    named = [item.choices[item.answer] for item in task.pool or task.items if item.answer >= 0]
    common = max(sorted(set(named)), key=named.count)
    return np.array([float(item.answer >= 0 and item.choices[item.answer] == common) for item in task.items])

"""Method and Fitted: the waist between bases and tasks.

A method is a module under parts/methods with
    REQUIRES: frozenset[str]     what the base (and the rows: several columns) must provide; empty: no base is used
    RUNGS: "rows" | "none"       whether it is raced over growing row counts ("rows") or simply run ("none")
    estimate(examples, card, machine) -> Cost         before anything runs; card is None without a base
    fit(examples, base, context) -> Fitted            never mutates anything
    load(folder, base, context) -> Fitted             the inverse of Fitted.save
`method.REQUIRES <= base.provides | examples.provides` is the whole compatibility test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from basewise.core.base import Card
from basewise.core.errors import InputError
from basewise.core.files import Progress, silent
from basewise.core.task import COLUMNS


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this machine was measured to do. Peaks in FLOP/s of matrix multiplication with all threads."""

    cores: int
    memory_bytes: int
    fp32_peak: float
    bf16_peak: float
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How a task is put into words for methods that ask a base. Empty: the method's own words.

    `template`: one row with {text} and, at its end, {label}; what stands before its last empty line is said once.
    `words`: (label name, words for it) pairs, "words" or "words: description"; labels that are left out keep their names. What is
    asked answers with the words and is told the description; what embeds compares with both.
    """

    template: str = ""
    words: tuple[tuple[str, str], ...] = ()

    def said(self, name: str) -> str:
        """The words given for a label, or nothing."""
        return dict(self.words).get(name, "").partition(": ")[0].strip()

    def described(self, name: str) -> str:
        """The description given for a label, or nothing."""
        return dict(self.words).get(name, "").partition(": ")[2].strip()

    def whole(self, name: str) -> str:
        """Words and description, for what embeds them; nothing where none were given."""
        return dict(self.words).get(name, "").strip()


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a method may use beside its rows: a seed from the job's content, the features' store, a deadline, progress.

    `features`: engine.features.FeatureStore or None (then methods make an in-memory one); `seconds`: soft time limit
    for this fit, inf for none; a method that cannot finish in it stops early and still returns a valid Fitted.
    `spare`: seconds that it may take beyond its estimate, for what is optional and costly; `answers`: rows that it will then answer.
    """

    seed: int = 0
    features: Any = None
    seconds: float = float("inf")
    progress: Progress = silent
    precision: str = "auto"
    wording: Wording = field(default_factory=Wording)
    spare: float = 0.0
    answers: int = 0


class Fitted(Protocol):
    """A base adapted to a task."""

    classes: tuple[str, ...]
    choices: dict[str, Any]

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C) float64 calibrated class probabilities; rows sum to 1."""

    def save(self, folder: Path) -> None:
        """Write safetensors and JSON files into an existing empty folder; never a pickle."""


@runtime_checkable
class Writes(Protocol):
    """What a Fitted that asks a base to go on from a text can do beside: the release gate asks it for memorised text."""

    def write(self, beginnings: Sequence[str], tokens: int) -> list[str]:
        """How it goes on from each beginning, at most so many tokens."""

    def likely(self, beginning: str, texts: Sequence[str]) -> np.ndarray:
        """(n,) log-probabilities of the texts after a beginning."""

    def shown(self) -> tuple[str, ...]:
        """The texts that stand before every question, which a release carries."""


@runtime_checkable
class ReadsApart(Protocol):
    """What a Fitted that reads more than the rows can tell: a service computes their features in the same pass."""

    def apart(self, texts: Sequence[str]) -> list[str]:
        """The texts beside these rows whose features it reads."""


def compatible(requires: frozenset[str], card: Card | None, rows: frozenset[str] = frozenset()) -> bool:
    """Whether a method can use a base on rows that provide `rows`: set inclusion; a method without requirements takes no base."""
    return card is None if not requires else card is not None and requires <= card.provides | rows


def one_column(method: str) -> InputError:
    """What a method (its key) that compares columns says of rows with one."""
    return InputError(
        f"the method {method} compares input columns, and one came",
        "name two or more as inputs, or use probe",
    )


def check_compatible(method: str, requires: frozenset[str], card: Card) -> None:
    """InputError for a base (its card) that does not provide what a method (its key) requires of it."""
    if not compatible(requires, card, frozenset({COLUMNS})):
        raise InputError(
            f"the method {method} needs a base that can {', '.join(sorted(requires - {COLUMNS}))}; "
            f"{card.key} can {', '.join(sorted(card.provides))}",
            "list the bases with: basewise bases list",
        )

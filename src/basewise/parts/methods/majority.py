"""The share of each class and nothing else: what a predictor has to beat.

No base, no text is read. Shares are smoothed by one row a class (Laplace), so that no class has probability zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import Base, Card
from basewise.core.budget import Cost
from basewise.core.files import read_json, write_json
from basewise.core.method import Context, Machine
from basewise.core.task import Examples

REQUIRES: frozenset[str] = frozenset()
RUNGS = "none"


@dataclass(frozen=True)
class Majority:
    """Class shares (C,) that every text gets."""

    classes: tuple[str, ...]
    shares: np.ndarray
    choices: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C): the same row n times."""
        return np.tile(self.shares, (len(texts), 1))

    def save(self, folder: Path) -> None:
        """One JSON file."""
        record = {"classes": list(self.classes), "shares": self.shares.tolist(), "choices": self.choices}
        write_json(folder / "majority.json", record)


def estimate(examples: Examples, card: Card | None, machine: Machine) -> Cost:
    """Next to nothing."""
    return Cost(seconds=1e-3, memory_bytes=1e6, predict_seconds_per_row=1e-7)


def fit(examples: Examples, base: Base | None, context: Context) -> Majority:
    """Count the classes of the labelled rows."""
    counts = examples.counts + 1.0
    return Majority(examples.classes, counts / counts.sum(), {"smoothing": 1})


def load(folder: Path, base: Base | None, context: Context) -> Majority:
    """The inverse of `save`."""
    record = read_json(folder / "majority.json")
    return Majority(tuple(record["classes"]), np.array(record["shares"], np.float64), record["choices"])

"""The same network with random weights, trained on the rows alone: what the pretraining is worth.

The control behind "labels saved": same architecture, tokeniser and loop as `full`, no pretrained weight, a higher rate.
Without the layer that averages: from random weights it does worse with it (trec, 64 labels a class: 0.52, without it 0.57).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import TRAIN, Base, Card
from basewise.core.budget import Cost
from basewise.core.files import read_json, write_json
from basewise.core.method import Context, Machine
from basewise.core.task import Examples
from basewise.engine.finetune import Recipe, estimate_finetune, finetune

REQUIRES: frozenset[str] = frozenset({TRAIN})
RUNGS = "rows"
RECIPE = Recipe(
    rate=3e-4, layer_decay=1.0, rows=32, passes=6.0, least_steps=100, most_steps=1500, head_first=False
)


@dataclass(frozen=True)
class Scratch:
    """A transformers classifier that never saw other text than the rows."""

    classes: tuple[str, ...]
    network: Any
    base: Base
    choices: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C) in fp32."""
        return self.network.probabilities(texts)

    def save(self, folder: Path) -> None:
        """A plain Hugging Face folder with tokeniser and label names, and scratch.json."""
        from basewise.engine.weights import save_tokenizer

        self.network.model.save_pretrained(folder)
        save_tokenizer(self.base, folder)
        record = {"classes": list(self.classes), "base": self.base.digest, "choices": self.choices}
        write_json(folder / "scratch.json", record)


def estimate(examples: Examples, card: Card | None, machine: Machine) -> Cost:
    """Steps times tokens; three times a forward pass each."""
    assert card is not None
    return estimate_finetune(examples, card, machine, RECIPE)


def fit(examples: Examples, base: Base | None, context: Context) -> Scratch:
    """Random weights from the seed, then the loop."""
    from basewise.engine.classifier import new_classifier

    assert base is not None
    examples = examples.take(examples.labels >= 0)
    network = new_classifier(base, examples.classes, context.seed, scratch=True)
    choices = finetune(network, examples, RECIPE, context)
    return Scratch(examples.classes, network, base, choices)


def load(folder: Path, base: Base | None, context: Context) -> Scratch:
    """The inverse of `save`."""
    from basewise.engine.classifier import open_classifier

    assert base is not None
    record = read_json(folder / "scratch.json")
    return Scratch(tuple(record["classes"]), open_classifier(folder, base), base, record["choices"])

"""The same network with random weights, trained on the rows alone: what the pretraining is worth.

The control behind "labels saved": same architecture, tokeniser and loop as `full`, no pretrained weight, a higher rate.
Without the layer that averages: random weights have no mean worth reading, and the one cell that was tried did worse (docs/log.md).
"""

from __future__ import annotations

from pathlib import Path

from basewise.core.base import TRAIN, Base, Card
from basewise.core.budget import Cost
from basewise.core.method import Context, Machine
from basewise.core.task import Examples
from basewise.engine.finetune import FineTuned, Recipe, estimate_finetune, finetune

REQUIRES: frozenset[str] = frozenset({TRAIN})
RUNGS = "rows"
RECORD = "scratch.json"
RECIPE = Recipe(
    rate=3e-4, layer_decay=1.0, rows=32, passes=6.0, least_steps=100, most_steps=1500, head_first=False
)


def estimate(examples: Examples, card: Card | None, machine: Machine) -> Cost:
    """Steps times tokens; three times a forward pass each."""
    assert card is not None
    return estimate_finetune(examples, card, machine, RECIPE)


def fit(examples: Examples, base: Base | None, context: Context) -> FineTuned:
    """Random weights from the seed, then the loop."""
    from basewise.engine.classifier import new_classifier

    assert base is not None
    examples = examples.take(examples.labels >= 0)
    network = new_classifier(base, examples.classes, context.seed, scratch=True)
    choices = finetune(network, examples, RECIPE, context)
    return FineTuned(RECORD, examples.classes, network, base, choices)


def load(folder: Path, base: Base | None, context: Context) -> FineTuned:
    """The inverse of `save`."""
    assert base is not None
    return FineTuned.load(RECORD, folder, base)

"""Fine-tunes all weights after solving the head exactly; what it saves opens in plain transformers.

Probe first, then everything (LP-FT, Kumar et al. 2022), rates decaying by layer, AdamW, a tenth of warm-up, linear
decay, light label smoothing instead of a temperature, because no row is held out. With few rows a base of BERT's shape gets a last
layer that averages its tokens (engine/averaging.py); with more the first token learns what it needs, and does better.
"""

from __future__ import annotations

from pathlib import Path

from basewise.core.base import TRAIN, Base, Card
from basewise.core.budget import Cost
from basewise.core.method import Context, Machine
from basewise.core.task import Examples
from basewise.engine.averaging import AVERAGED_ROWS, averaged
from basewise.engine.finetune import FineTuned, Recipe, estimate_finetune, finetune

REQUIRES: frozenset[str] = frozenset({TRAIN})
RUNGS = "rows"
RECORD = "full.json"
RECIPE = Recipe(rate=1e-4)


def estimate(examples: Examples, card: Card | None, machine: Machine) -> Cost:
    """Steps times tokens; three times a forward pass each."""
    assert card is not None
    return estimate_finetune(examples, averaged(card) if few(examples) else card, machine, RECIPE)


def few(examples: Examples) -> bool:
    """Whether so few rows are labelled that the base should average its tokens."""
    return int((examples.labels >= 0).sum()) <= AVERAGED_ROWS


def fit(examples: Examples, base: Base | None, context: Context) -> FineTuned:
    """The exact head, then all weights."""
    from basewise.engine.classifier import new_classifier

    assert base is not None
    examples = examples.take(examples.labels >= 0)
    network = new_classifier(base, examples.classes, context.seed, average="added" if few(examples) else "")
    choices = finetune(network, examples, RECIPE, context)
    return FineTuned(RECORD, examples.classes, network, base, choices)


def load(folder: Path, base: Base | None, context: Context) -> FineTuned:
    """The inverse of `save`."""
    assert base is not None
    return FineTuned.load(RECORD, folder, base)

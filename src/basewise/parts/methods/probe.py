"""Logistic regression on the frozen features of the best layers, beside the label names; calibrated.

One forward pass gives several layers; which of them, alone or side by side, how strong the penalty and how much the names of
the labels say is decided by held-out log-loss (`engine/probe.py`, `engine/frozen.py`). Middle layers often beat the last
(Skean et al., ICML 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import EMBED, Base, Card
from basewise.core.budget import Cost
from basewise.core.files import read_json, write_bytes, write_json
from basewise.core.method import Context, Machine
from basewise.core.task import Examples
from basewise.engine.costs import encode_seconds, network_memory, solving_rate
from basewise.engine.frozen import Frozen, fit_frozen, store_of
from basewise.engine.heads import softmax
from basewise.engine.probe_costs import estimate_memory, estimate_solving

REQUIRES: frozenset[str] = frozenset({EMBED})
RUNGS = "none"


@dataclass(frozen=True)
class Probed:
    """A linear head and the label names on frozen features, read through the feature store."""

    classes: tuple[str, ...]
    frozen: Frozen
    choices: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C); only the layers that the head reads are computed."""
        if not len(texts):
            return np.empty((0, len(self.classes)))
        return softmax(self.frozen.logits(texts))

    def save(self, folder: Path) -> None:
        """probe.json and probe.safetensors."""
        from safetensors.numpy import save

        record = {"classes": list(self.classes), **self.frozen.record(), "choices": self.choices}
        write_json(folder / "probe.json", record)
        write_bytes(folder / "probe.safetensors", save(self.frozen.tensors()))


def estimate(examples: Examples, card: Card | None, machine: Machine) -> Cost:
    """One forward pass and the fits; what is in the feature store already costs less than said here."""
    assert card is not None
    rows, classes = len(examples), len(examples.classes)
    forward, each, flop = encode_seconds(examples.texts, card, machine)
    solving = estimate_solving(examples.counts, card, solving_rate(machine))
    memory = network_memory(card) + estimate_memory(rows, classes, card)
    return Cost(
        seconds=forward + solving,
        memory_bytes=memory,
        flop=flop,
        predict_seconds_per_row=each,
    )


def fit(examples: Examples, base: Base | None, context: Context) -> Probed:
    """Features, then the probe and the names on the labelled rows."""
    assert base is not None
    examples = examples.take(examples.labels >= 0)
    return Probed(examples.classes, *fit_frozen(examples, base, context))


def load(folder: Path, base: Base | None, context: Context) -> Probed:
    """The inverse of `save`."""
    from safetensors.numpy import load_file

    assert base is not None
    record, tensors = read_json(folder / "probe.json"), load_file(folder / "probe.safetensors")
    frozen = Frozen.of(record, tensors, base, store_of(context))
    return Probed(tuple(record["classes"]), frozen, record["choices"])

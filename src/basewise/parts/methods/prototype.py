"""Nearest class mean, drawn towards the embedded label name or description; works from no labels at all.

score_c = cos(x, m_c) / tau with m_c = (sum of the class's rows + k0 e(name)) / (n_c + k0), k0 = 3: one formula from
zero to few labels (after Snell et al. 2017). The means are centred on the rows seen, tau minimises the log-loss of
rows left out one at a time. Below two rows in every class tau is fixed.
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
from basewise.engine.costs import encode_seconds, network_memory
from basewise.engine.frozen import name_layer, spoken, store_of
from basewise.engine.heads import fit_temperature, softmax
from basewise.engine.probe import unit

REQUIRES: frozenset[str] = frozenset({EMBED})
RUNGS = "none"

NAME_WEIGHT = 3.0
FIRST_TEMPERATURE = 0.07


@dataclass(frozen=True)
class Prototypes:
    """Unit class means (C, D) around `centre` (D,), compared by cosine over `temperature`."""

    classes: tuple[str, ...]
    layer: str
    centre: np.ndarray
    means: np.ndarray
    temperature: float
    base: Base
    store: Any
    precision: str
    choices: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C) from cosines."""
        if not len(texts):
            return np.empty((0, len(self.classes)))
        found = self.store.features(self.base, texts, layers=self.layer, precision=self.precision)
        rows = unit(unit(found.matrix(self.layer)).astype(np.float64) - self.centre)
        return softmax(rows @ self.means.T / self.temperature)

    def save(self, folder: Path) -> None:
        """prototype.json and prototype.safetensors."""
        from safetensors.numpy import save

        record = {"classes": list(self.classes), "layer": self.layer, "temperature": self.temperature}
        record |= {"precision": self.precision, "base": self.base.digest, "choices": self.choices}
        write_json(folder / "prototype.json", record)
        write_bytes(folder / "prototype.safetensors", save({"centre": self.centre, "means": self.means}))


def estimate(examples: Examples, card: Card | None, machine: Machine) -> Cost:
    """One forward pass; the means are free."""
    assert card is not None
    seconds, each, flop = encode_seconds((*examples.texts, *examples.classes), card, machine)
    memory = network_memory(card) + (len(examples) + len(examples.classes)) * card.width * 24.0
    return Cost(seconds=seconds + 0.01, memory_bytes=memory, flop=flop, predict_seconds_per_row=each)


def fit(examples: Examples, base: Base | None, context: Context) -> Prototypes:
    """Means of the labelled rows; unlabelled rows only move the centre."""
    assert base is not None
    store = store_of(context)
    layer = name_layer(base.card)
    names = [context.wording.whole(c) or spoken(c) for c in examples.classes]
    found = store.features(
        base, [*examples.texts, *names], layers=layer, precision=context.precision, progress=context.progress
    )
    matrix = unit(found.matrix(layer)).astype(np.float64)
    rows, labels_of_names = matrix[: len(examples)], matrix[len(examples) :]
    centre = rows.mean(0) if len(rows) >= 2 * len(names) else matrix.mean(0)
    named = unit(labels_of_names - labels_of_names.mean(0)) if len(names) > 1 else labels_of_names
    known = examples.labels >= 0
    rows, labels = unit(rows[known] - centre), examples.labels[known]
    sums = np.zeros_like(named)
    np.add.at(sums, labels, rows)
    sums += NAME_WEIGHT * named
    temperature = FIRST_TEMPERATURE
    if len(labels) and examples.counts.max() >= 2:
        scores = rows @ unit(sums).T
        own = unit(sums[labels] - rows)
        scores[np.arange(len(labels)), labels] = (own * rows).sum(1)
        temperature = fit_temperature(scores / FIRST_TEMPERATURE, labels) * FIRST_TEMPERATURE
    choices = {"layer": layer, "name_weight": NAME_WEIGHT, "temperature": round(temperature, 4)}
    choices |= {"labelled_rows": len(labels), "precision": found.precision}
    return Prototypes(
        examples.classes, layer, centre, unit(sums), temperature, base, store, found.precision, choices
    )


def load(folder: Path, base: Base | None, context: Context) -> Prototypes:
    """The inverse of `save`."""
    from safetensors.numpy import load_file

    assert base is not None
    record, tensors = read_json(folder / "prototype.json"), load_file(folder / "prototype.safetensors")
    return Prototypes(
        tuple(record["classes"]),
        record["layer"],
        tensors["centre"],
        tensors["means"],
        record["temperature"],
        base,
        store_of(context),
        record["precision"],
        record["choices"],
    )

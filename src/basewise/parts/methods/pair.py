"""Logistic regression on how the texts of several columns stand to each other: a question twice, an answer that fits.

A text joined from its columns says little about that. Each column is embedded alone; with unit rows u and v of two columns the head
reads |u - v|, u * v and their cosine (after InferSent, Conneau et al. 2017), or u and v side by side, or the joined text beside the
relation. Which, and of which layer, is decided by held-out log-loss as in `probe`, the relation in the last layer until beaten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import EMBED, Base, Card
from basewise.core.budget import Cost
from basewise.core.cells import apart
from basewise.core.files import read_json, write_bytes, write_json
from basewise.core.method import Context, Machine
from basewise.core.task import COLUMNS, Examples
from basewise.engine.costs import encode_seconds, network_memory, solving_rate
from basewise.engine.frozen import name_layer, store_of
from basewise.engine.heads import Head
from basewise.engine.probe import Matrix, Probe, fit_probe, unit
from basewise.engine.probe_costs import fitting_memory, solving_seconds

REQUIRES: frozenset[str] = frozenset({EMBED, COLUMNS})
RUNGS = "none"

APART, RELATION, BESIDE = "apart", "relation", "text and relation"
MOST_COMPARED = 3
"""Columns that are compared each with each, the first ones; the others are read side by side."""
PRODUCT_SCALE = 0.5
"""Of the products, which sum to the cosine, beside it and the differences; times the root of the width, so that they weigh alike."""

HARDER = (0.6, 1.8, 550.0)
"""Seconds of the fits beside those of a probe of such widths: least, most, and the rows for once. The cosine weighs much more than other
columns, so a solver needs more passes where rows are many. Half of the fits are told within 30 % (benchmarks/pairs.py)."""


@dataclass(frozen=True)
class Views:
    """Feature matrices of n rows by name, "relation:layer6": from the joined texts (n) and from their k columns (n x k)."""

    base: Base
    store: Any
    precision: str
    inputs: tuple[str, ...]

    def read(
        self, texts: Sequence[str], names: Sequence[str], context: Context | None = None
    ) -> tuple[Matrix, Any]:
        """(matrix of a name, features of the columns); only what the names need is computed."""
        progress = {"progress": context.progress} if context else {}
        values = apart(texts, self.inputs)
        layers = tuple(dict.fromkeys(name.partition(":")[2] for name in names))
        columns = self.store.features(self.base, values, layers=layers, precision=self.precision, **progress)
        whole = None
        if any(name.startswith(BESIDE) for name in names):
            whole = self.store.features(
                self.base, texts, layers=layers, precision=columns.precision, **progress
            )

        def matrix(name: str) -> np.ndarray:
            kind, _, layer = name.partition(":")
            rows = unit(columns.matrix(layer)).reshape(len(texts), len(self.inputs), -1)
            if kind == APART:
                return rows.reshape(len(texts), -1)
            between = relation(rows[:, :MOST_COMPARED])
            if kind == RELATION:
                return between
            assert whole is not None
            return np.concatenate([unit(whole.matrix(layer)), between], axis=1)

        return matrix, columns


def relation(rows: np.ndarray) -> np.ndarray:
    """(n, pairs x (2 D + 1)) from unit rows (n, k, D): differences, products and cosine of each pair of columns."""
    scale = np.float32(PRODUCT_SCALE * np.sqrt(rows.shape[2]))
    parts = []
    for i, j in combinations(range(rows.shape[1]), 2):
        product = rows[:, i] * rows[:, j]
        parts += [np.abs(rows[:, i] - rows[:, j]), scale * product, product.sum(1, keepdims=True)]
    return np.concatenate(parts, axis=1)


def views_of(card: Card) -> tuple[str, ...]:
    """What is tried, the usual one last: columns side by side and compared, in a middle and in the last layer."""
    last = name_layer(card)
    layers = dict.fromkeys((f"layer{-(-2 * card.layers // 3)}", last)) if last != "all" else (last,)
    apart = [f"{APART}:{layer}" for layer in layers]
    return (*apart, f"{BESIDE}:{last}", *(f"{RELATION}:{layer}" for layer in layers))


@dataclass(frozen=True)
class Paired:
    """A linear head on views of the columns, read through the feature store."""

    classes: tuple[str, ...]
    probe: Probe
    views: Views
    choices: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C) of texts that were joined from the columns."""
        if not len(texts):
            return np.empty((0, len(self.classes)))
        matrix, _ = self.views.read(texts, self.probe.names)
        return self.probe.probabilities(matrix)

    def apart(self, texts: Sequence[str]) -> list[str]:
        """The values of the columns, which it reads beside the rows."""
        return apart(texts, self.views.inputs)

    def save(self, folder: Path) -> None:
        """pair.json and pair.safetensors."""
        from safetensors.numpy import save

        record = {"classes": list(self.classes), "views": list(self.probe.names), "choices": self.choices}
        record |= {"inputs": list(self.views.inputs), "precision": self.views.precision}
        write_json(folder / "pair.json", {**record, "base": self.views.base.digest})
        write_bytes(folder / "pair.safetensors", save(self.probe.head.tensors("probe.")))


def estimate(examples: Examples, card: Card | None, machine: Machine) -> Cost:
    """Two forward passes, over the joined texts and over the columns, and the fits."""
    assert card is not None
    rows, classes, columns = len(examples), len(examples.classes), max(2, len(examples.inputs))
    forward, each, flop = encode_seconds(examples.read_by(REQUIRES), card, machine)
    compared = min(columns, MOST_COMPARED)
    between = compared * (compared - 1) // 2 * (2 * card.width + 1)
    width_of = {APART: columns * card.width, RELATION: between, BESIDE: card.width + between}
    widths = [width_of[name.partition(":")[0]] for name in views_of(card)]
    stored = (1 + columns) * len(views_of(card)) // 2 * card.width
    least, most, once = HARDER
    solving = solving_seconds(examples.counts, widths, between, solving_rate(machine))
    return Cost(
        seconds=forward + min(max(rows / once, least), most) * solving,
        memory_bytes=network_memory(card) + fitting_memory(rows, classes, max(widths), stored),
        flop=flop,
        predict_seconds_per_row=(1 + columns) * each,
    )


def fit(examples: Examples, base: Base | None, context: Context) -> Paired:
    """The views of the labelled rows, then a linear head on the best."""
    assert base is not None
    examples = examples.take(examples.labels >= 0)
    names = views_of(base.card)
    views = Views(base, store_of(context), context.precision, examples.inputs)
    matrix, columns = views.read(examples.texts, names, context)
    fitted = fit_probe(
        matrix,
        names,
        examples.labels,
        len(examples.classes),
        context.seed,
        context.progress,
        context.seconds,
        examples.groups,
    )
    choices = dict(fitted.choices)
    choices = {"views": choices.pop("layers"), **choices, "precision": columns.precision}
    choices["cut_rows"] = int(columns.cut.reshape(len(examples), -1).any(1).sum())
    settled = Views(base, views.store, columns.precision, examples.inputs)
    return Paired(examples.classes, fitted.probe, settled, choices)


def load(folder: Path, base: Base | None, context: Context) -> Paired:
    """The inverse of `save`."""
    from safetensors.numpy import load_file

    assert base is not None
    record, tensors = read_json(folder / "pair.json"), load_file(folder / "pair.safetensors")
    views = Views(base, store_of(context), record["precision"], tuple(record["inputs"]))
    probe = Probe(tuple(record["views"]), Head.of_tensors(tensors, "probe."))
    return Paired(tuple(record["classes"]), probe, views, record["choices"])

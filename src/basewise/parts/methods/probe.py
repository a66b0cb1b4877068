"""Logistic regression on the frozen features of the best layers, calibrated.

One forward pass gives several layers; which of them, alone or side by side, and how strong the penalty, is decided by
held-out log-loss (`engine/probe.py`). Middle layers often beat the last (Skean et al., ICML 2025).
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
from basewise.engine.costs import encode_seconds, fp32_slowdown, network_memory, peak
from basewise.engine.heads import Head
from basewise.engine.probe import Probe, estimate_solving, fit_probe

REQUIRES: frozenset[str] = frozenset({EMBED})
RUNGS = "none"


@dataclass(frozen=True)
class Probed:
    """A linear head on frozen features of `base`, read through the feature store in one `precision`."""

    classes: tuple[str, ...]
    probe: Probe
    base: Base
    store: Any
    precision: str
    choices: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C); only the layers that the head reads are computed."""
        if not len(texts):
            return np.empty((0, len(self.classes)))
        features = self.store.features(self.base, texts, layers=self.probe.names, precision=self.precision)
        return self.probe.probabilities(features.matrix)

    def save(self, folder: Path) -> None:
        """probe.json and probe.safetensors."""
        from safetensors.numpy import save

        record = {"classes": list(self.classes), "names": list(self.probe.names), "precision": self.precision}
        write_json(folder / "probe.json", {**record, "base": self.base.digest, "choices": self.choices})
        write_bytes(folder / "probe.safetensors", save(self.probe.head.tensors()))


def store_of(context: Context) -> Any:
    """The context's feature store, or one in memory."""
    if context.features is not None:
        return context.features
    from basewise.engine.features import FeatureStore

    return FeatureStore(None)


def estimate(examples: Examples, card: Card | None, machine: Machine) -> Cost:
    """One forward pass and the fits; what is in the feature store already costs less than said here."""
    assert card is not None
    rows, classes = len(examples), len(examples.classes)
    forward, each, flop = encode_seconds(examples.texts, card, machine)
    solving = estimate_solving(rows, card.width, classes, peak(machine) / fp32_slowdown(machine))
    memory = network_memory(card) + rows * card.width * 4.0 * 16.0 + rows * classes * 8.0 * 8.0
    disk = 5.0 * card.width * classes * 4.0
    return Cost(
        seconds=forward + solving,
        memory_bytes=memory,
        flop=flop,
        predict_seconds_per_row=each,
        disk_bytes=disk,
    )


def fit(examples: Examples, base: Base | None, context: Context) -> Probed:
    """Features, then the probe on the labelled rows."""
    assert base is not None
    examples = examples.take(examples.labels >= 0)
    store = store_of(context)
    features = store.features(base, examples.texts, precision=context.precision, progress=context.progress)
    found = fit_probe(
        features.matrix,
        features.names,
        examples.labels,
        len(examples.classes),
        context.seed,
        context.progress,
    )
    choices = {**found.choices, "precision": features.precision, "cut_rows": int(features.cut.sum())}
    return Probed(examples.classes, found.probe, base, store, features.precision, choices)


def load(folder: Path, base: Base | None, context: Context) -> Probed:
    """The inverse of `save`."""
    from safetensors.numpy import load_file

    assert base is not None
    record = read_json(folder / "probe.json")
    probe = Probe(tuple(record["names"]), Head.of_tensors(load_file(folder / "probe.safetensors")))
    return Probed(
        tuple(record["classes"]), probe, base, store_of(context), record["precision"], record["choices"]
    )

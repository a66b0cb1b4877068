"""What a base says about a text without a changed weight: a linear probe on its layers, and nearness to the label names.

The names of the labels, spoken as words, are embedded like rows; where labels are few they may know more than the rows do.
Their share of the log-probabilities is chosen by held-out log-loss, from a small one that another has to beat. `probe` is this;
`contrast` adds a tuned view.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from basewise.core.base import Base, Card
from basewise.core.method import Context
from basewise.core.task import Examples
from basewise.engine.heads import Head, fit_temperature, softmax
from basewise.engine.probe import Probe, fit_probe, unit

SHARES = (0.0, 0.08, 0.15, 0.3, 0.5)
USUAL_SHARE = 0.15
UNSEEN_SHARE = 0.3
"""Of the names where no row can be held out: with one label a class little else is known."""
NAME_SCALE = 0.07
FLOOR = 1e-9
_SPLIT = re.compile(r"[_\-/.:]+|(?<=[a-z])(?=[A-Z])")


def spoken(name: str) -> str:
    """A label as words: "card_arrival" and "CardArrival" become "card arrival"."""
    return " ".join(part for part in _SPLIT.sub(" ", name).lower().split()) or name


def telling(classes: Sequence[str]) -> bool:
    """Whether the label names are words at all: of bare numbers and letters there is nothing to embed."""
    return any(len(re.findall(r"[^\W\d_]", name)) >= 3 for name in classes)


def name_layer(card: Card) -> str:
    """The features in which names are compared: the last layer's, or the only ones."""
    return f"layer{card.layers}" if card.layers and card.family != "static" else "all"


def store_of(context: Context) -> Any:
    """The context's feature store, or one in memory."""
    if context.features is not None:
        return context.features
    from basewise.engine.features import FeatureStore

    return FeatureStore(None)


@dataclass(frozen=True)
class Names:
    """Label names (C, D) as unit rows around `centre` (D,), in the features of `layer`; rows are centred on their own."""

    layer: str
    centre: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, layer: str, texts: np.ndarray, names: np.ndarray) -> Names:
        """From the features of the train rows (n, D) and of the names (C, D)."""
        named = unit(names).astype(np.float64)
        spread = unit(named - named.mean(0)) if len(named) > 1 else named
        return cls(layer, unit(texts).astype(np.float64).mean(0), spread)

    def logs(self, x: np.ndarray) -> np.ndarray:
        """(n, C) log-probabilities from the cosines of centred rows of x (n, D)."""
        scores = unit(unit(x).astype(np.float64) - self.centre) @ self.rows.T / NAME_SCALE
        return np.log(np.maximum(softmax(scores), FLOOR))


@dataclass(frozen=True)
class Frozen:
    """A probe and the names beside it, for one base in one precision. `share` of the names in the log-probabilities."""

    probe: Probe
    names: Names | None
    share: float
    temperature: float
    base: Base
    store: Any
    precision: str

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C) log-probabilities up to a constant a row; only the layers that are read are computed."""
        beside = self.names if self.share else None
        wanted = tuple(dict.fromkeys((*self.probe.names, *((beside.layer,) if beside else ()))))
        found = self.store.features(self.base, texts, layers=wanted, precision=self.precision)
        probabilities = self.probe.probabilities(found.matrix)
        logs = beside.logs(found.matrix(beside.layer)) if beside else None
        return mixed(probabilities, logs, self.share) / self.temperature

    def tensors(self) -> dict[str, np.ndarray]:
        """Its arrays for a safetensors file."""
        names = {"centre": self.names.centre, "names": self.names.rows} if self.names else {}
        return {**self.probe.head.tensors("probe."), **names}

    def record(self) -> dict[str, Any]:
        """The rest of it for a JSON file."""
        return {
            "layers": list(self.probe.names),
            "name_layer": self.names.layer if self.names else None,
            "name_share": self.share,
            "name_temperature": self.temperature,
            "precision": self.precision,
            "base": self.base.digest,
        }

    @classmethod
    def of(cls, record: dict[str, Any], tensors: dict[str, np.ndarray], base: Base, store: Any) -> Frozen:
        """The inverse of `record` and `tensors`."""
        layer = record["name_layer"]
        return cls(
            Probe(tuple(record["layers"]), Head.of_tensors(tensors, "probe.")),
            Names(layer, tensors["centre"], tensors["names"]) if layer else None,
            record["name_share"],
            record["name_temperature"],
            base,
            store,
            record["precision"],
        )


def mixed(probabilities: np.ndarray, names: np.ndarray | None, share: float) -> np.ndarray:
    """(n, C): log-probabilities of the probe and of the names, in the names' share."""
    logs = np.log(np.maximum(probabilities, FLOOR))
    return logs if names is None else (1.0 - share) * logs + share * names


def fit_frozen(examples: Examples, base: Base, context: Context) -> tuple[Frozen, dict[str, Any]]:
    """Both views from labelled rows, and what was chosen, within the context's seconds."""
    store, classes, n = store_of(context), examples.classes, len(examples)
    words = [spoken(name) for name in classes] if telling(classes) else []
    found = store.features(
        base, [*examples.texts, *words], precision=context.precision, progress=context.progress
    )
    seen = np.arange(n)

    def matrix(name: str) -> np.ndarray:
        return found.matrix(name, seen)

    fitted = fit_probe(
        matrix,
        found.names,
        examples.labels,
        len(classes),
        context.seed,
        context.progress,
        context.seconds,
        examples.groups,
    )
    names, share, temperature = None, 0.0, 1.0
    if words:
        layer = name_layer(base.card)
        values = found.matrix(layer)
        names = Names.of(layer, values[:n], values[n:])
        share = UNSEEN_SHARE
        if fitted.held_out is not None:
            known = np.isfinite(fitted.held_out).all(1)
            held = softmax(fitted.held_out[known] / fitted.probe.head.temperature)
            share, temperature = choose_share(held, names.logs(values[:n][known]), examples.labels[known])
    choices = {**fitted.choices, "name_share": share, "precision": found.precision}
    choices["cut_rows"] = int(found.cut[:n].sum())
    return Frozen(fitted.probe, names, share, temperature, base, store, found.precision), choices


def choose_share(probabilities: np.ndarray, names: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """(share of the names, temperature of the mixture) by held-out log-loss.

    Another share than the usual one must win by half a standard error of the paired gain.
    """
    temperatures, losses = [], []
    for share in SHARES:
        logits = mixed(probabilities, names, share)
        temperature = fit_temperature(logits, labels)
        right = softmax(logits / temperature)[np.arange(len(labels)), labels]
        temperatures.append(temperature)
        losses.append(-np.log(np.maximum(right, 1e-12)))
    usual = SHARES.index(USUAL_SHARE)
    bounds = [
        loss.mean() + (0.5 * (loss - losses[usual]).std() / np.sqrt(len(loss)) if i != usual else 0.0)
        for i, loss in enumerate(losses)
    ]
    best = int(np.argmin(bounds))
    return SHARES[best], temperatures[best]

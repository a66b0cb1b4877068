"""Bases shared by many tasks: each network in memory once, one forward pass for the rows of all tasks of a batch.

A method reads its base through a feature store. In a service it is given a `Reader` instead, which notes what the method
asks for (its golden rows, replayed on loading, show it) and later hands out rows of a pass that was computed for
several tasks at once: the union of their layers, each text once. So no method knows that it is served.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from basewise.core.base import Base
from basewise.core.files import Progress, silent
from basewise.engine.features import open_encoder, open_tokeniser, stored, views_of
from basewise.engine.layers import View
from basewise.engine.tokens import Tokeniser, Tokens, pack

Place = tuple[str, str]
"""(base by digest and context, precision): what is in memory once."""


def place_of(base: Base, precision: str) -> Place:
    """Where a base in one precision is kept."""
    return f"{base.digest}-{base.card.context}", "fp32" if base.card.family == "static" else precision


@dataclass(frozen=True)
class Pass:
    """What one forward pass gave: `row` of each text, `values` (n, views, width), `names` of the views."""

    row: dict[str, int]
    names: tuple[str, ...]
    values: np.ndarray


@dataclass(frozen=True)
class Rows:
    """Some rows of a pass, in the place of engine.features.Features: `matrix(name)` gives (n, width) float32."""

    made: Pass
    index: np.ndarray
    precision: str
    verified: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return self.made.names

    def matrix(self, name: str, rows: np.ndarray | None = None) -> np.ndarray:
        """(n, width) float32 of one view, a fresh array."""
        index = self.index if rows is None else self.index[rows]
        return self.made.values[index, self.made.names.index(name)].astype(np.float32)


class Bases:
    """Networks and tokenisers, each opened once; several threads may ask."""

    def __init__(self) -> None:
        self._encoders: dict[Place, Any] = {}
        self._tokenisers: dict[str, Tokeniser] = {}
        self._guards: dict[Place, threading.Lock] = {}
        self._lock = threading.Lock()

    @property
    def open(self) -> list[Place]:
        """What is in memory now."""
        return list(self._encoders)

    def tokens(self, base: Base, texts: Sequence[str]) -> Tokens:
        """Token ids, cut at the base's context."""
        key = place_of(base, "")[0]
        with self._lock:
            if key not in self._tokenisers:
                self._tokenisers[key] = open_tokeniser(base)
        return self._tokenisers[key](texts)

    def compute(
        self, base: Base, precision: str, texts: Sequence[str], tokens: Tokens | None, wanted: Sequence[View]
    ) -> Pass:
        """One forward pass over `texts` (each once), rounded as the feature store rounds."""
        place = place_of(base, precision)
        with self._lock:
            if place not in self._encoders:
                self._encoders[place] = open_encoder(base, place[1])
            guard = self._guards.setdefault(place, threading.Lock())
            encode = self._encoders[place]
        tokens = self.tokens(base, texts) if tokens is None else tokens
        # networks that are watched through hooks take one pass at a time
        with guard:
            values = encode(tokens, tuple(wanted), silent)
        row = {t: i for i, t in enumerate(texts)}
        return Pass(row, tuple(v.name for v in wanted), stored(base, values))

    def close(self, kept: Iterable[Place]) -> None:
        """Let go of networks that nobody uses any more."""
        with self._lock:
            for place in set(self._encoders) - set(kept):
                del self._encoders[place]


class Reader:
    """A feature store for one served predictor. `asked`: the views that it reads of each base, by place."""

    def __init__(self, bases: Bases) -> None:
        self._bases = bases
        self._made: dict[Place, Pass] = {}
        self.asked: dict[Place, tuple[Base, tuple[View, ...]]] = {}

    def give(self, made: dict[Place, Pass]) -> None:
        """Rows of these passes are handed out from now on; an empty dict takes them back."""
        self._made = made

    def features(
        self,
        base: Base,
        texts: Sequence[str],
        *,
        layers: str | Sequence[str] = "default",
        poolings: Sequence[str] = ("mean",),
        precision: str = "auto",
        progress: Progress = silent,
    ) -> Rows:
        """As `FeatureStore.features`, of the pass at hand where it has all of it, else computed; nothing is kept."""
        precision = "fp32" if precision == "auto" else precision
        place, wanted = place_of(base, precision), views_of(base, layers, poolings)
        known = self.asked.get(place, (base, ()))[1]
        if not set(wanted) <= set(known):
            self.asked[place] = (base, tuple(dict.fromkeys((*known, *wanted))))
        made = self._made.get(place)
        names = {v.name for v in wanted}
        if made is None or not names <= set(made.names) or any(t not in made.row for t in texts):
            unique = list(dict.fromkeys(texts))
            made = self._bases.compute(base, precision, unique, None, wanted)
        return Rows(made, np.fromiter((made.row[t] for t in texts), np.int64, len(texts)), place[1])


@dataclass(frozen=True)
class Asked:
    """Texts of one task in a batch with their tokens (None: its base is read in no shared pass)."""

    reader: Reader
    texts: Sequence[str]
    tokens: Tokens | None


def shared_passes(bases: Bases, batch: Sequence[Asked]) -> dict[Place, Pass]:
    """One forward pass for each base and precision that the tasks of a batch read: all their texts, all their views."""
    found: dict[Place, tuple[Base, dict[View, None], dict[str, np.ndarray | None]]] = {}
    for asked in batch:
        for place, (base, wanted) in asked.reader.asked.items():
            _, every, rows = found.setdefault(place, (base, {}, {}))
            every.update(dict.fromkeys(wanted))
            for i, text in enumerate(asked.texts):
                rows.setdefault(text, asked.tokens.row(i) if asked.tokens is not None else None)
    made = {}
    for place, (base, every, rows) in found.items():
        tokens = None
        if all(r is not None for r in rows.values()):
            tokens = pack(list(rows.values()), np.zeros(len(rows), bool))
        made[place] = bases.compute(base, place[1], list(rows), tokens, list(every))
    return made

"""Benchmark: the result of `bench`, as one JSON file; the report and the terminal only read it. Rows: items.parquet beside it.

An interval is {"estimate", "low", "high", "n"}; a gap is an interval with "p" and "p_holm". Shares are in 0..1, bits in bits,
times in seconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.files import atomic_path, read_json, write_json

Json = dict[str, Any]
LISTED = ("digests", "clusters", "texts", "targets")
"""What answers keep as tuples, one entry an item (or none at all)."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """How one base answered one task with so many demonstrations; every number comes from these rows.

    `digests` (n) name the items; logs (n, C) log-probability of each choice, nan where an item has fewer, (n, 1) for whole
    texts; `texts`: generated answers or (); `right` (n,) index of the right choice, -1 none; sizes (n, C) bytes of choices
    or texts; `clusters` (n) names; `targets`: what generated answers should be, or (). `way`: "asked" or "probe". `shown`:
    demonstrations that fitted, where fewer.
    """

    base: str
    task: str
    shots: int
    way: str
    digests: tuple[str, ...]
    clusters: tuple[str, ...]
    right: np.ndarray
    logs: np.ndarray
    sizes: np.ndarray
    texts: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    seconds: float = 0.0
    computed: int = 0
    unique: int = 0
    precision: str = ""
    note: str = ""
    shown: int | None = None

    def take(self, kept: np.ndarray) -> Answers:
        """The answers of some items; kept (n,) bool."""
        some: dict[str, Any] = {name: tuple(itertools.compress(getattr(self, name), kept)) for name in LISTED}
        return replace(self, right=self.right[kept], logs=self.logs[kept], sizes=self.sizes[kept], **some)


@dataclass(frozen=True, kw_only=True, repr=False)
class Benchmark:
    """What was asked and what the answers are worth.

    status        "finished" | "unfinished"
    sentence      the result in one plain sentence
    bases         {"name", "family", "parameters", "way", "digest", "precision", "licence", "seconds", "computed", "redundancy"}
    tasks         {"name", "suite", "about", "measure", "better", "n", "clusters", "chance", "majority", "shots"}
    cells         {"base", "task", "shots", "way", "score": interval, "also": {measure: interval}, "over_chance": gap | null,
                  "over_majority": gap | null, "seconds", "note"}
    suites        {"suite", "measure", "base", "shots", "tasks", "score": interval, "above_chance": tasks that are, by Holm}
    differences   {"a", "b", "suite", "measure", "task" | null, "shots", gap, "smallest_gap" | null}; `task` null: mean of the suite's tasks
    curves        {"base", "suite", "measure", "points": [{"shots", interval}], "gain": gap of most against least shots}
    scale         {"suite", "measure", "shots" | "gain", "bases", gap in score per tenfold parameters, "sentence"}
    contamination {"corpus", "n": window, "cells": [{"base", "task", "shots", "matched", "items", "all", "without",
                  "gap"}], "tasks": [{"task", "items", "matched", "short"}]} | {}
    skipped       {"base", "task", "why", "failed": whether it was asked and is asked again by the same command}
    """

    status: str
    sentence: str
    bases: list[Json] = field(default_factory=list)
    tasks: list[Json] = field(default_factory=list)
    cells: list[Json] = field(default_factory=list)
    suites: list[Json] = field(default_factory=list)
    differences: list[Json] = field(default_factory=list)
    curves: list[Json] = field(default_factory=list)
    scale: list[Json] = field(default_factory=list)
    contamination: Json = field(default_factory=dict)
    skipped: list[Json] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    provenance: Json = field(default_factory=dict)
    folder: str = ""

    def __repr__(self) -> str:
        return f"Benchmark({self.status!r}, {len(self.tasks)} tasks, folder={self.folder!r}: {self.sentence})"

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Benchmark:
        return cls(**read_json(path))


def write_items(path: Path, answers: Iterable[tuple[Answers, Sequence[float]]]) -> None:
    """Every answered item as one Parquet file, with its score; no text of the items in it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for given, scores in answers:
        n = len(given.digests)
        known = [row[np.isfinite(row)] for row in given.logs]
        tables.append(
            pa.table(
                {
                    "base": pa.array([given.base] * n, pa.string()),
                    "task": pa.array([given.task] * n, pa.string()),
                    "shots": np.full(n, given.shots, np.int32),
                    "way": pa.array([given.way] * n, pa.string()),
                    "item": pa.array(given.digests, pa.string()),
                    "cluster": pa.array(given.clusters, pa.string()),
                    "right": given.right.astype(np.int32),
                    "guess": [int(np.argmax(row)) if len(row) > 1 else -1 for row in known],
                    "score": np.asarray(scores, np.float64),
                    "log_probabilities": pa.array([row.tolist() for row in known], pa.list_(pa.float64())),
                    "text": pa.array(given.texts or [None] * n, pa.string()),
                }
            )
        )
    if not tables:
        return
    with atomic_path(path) as temporary:
        pq.write_table(pa.concat_tables(tables, promote_options="permissive"), temporary, compression="zstd")


def read_items(path: Path) -> list[Json]:
    """The rows of `write_items`."""
    import pyarrow.parquet as pq

    return list(pq.read_table(path).to_pylist())

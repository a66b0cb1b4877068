"""Contamination of a benchmark run by a given corpus: which items have words in it, and the scores without them.

An item matches when a run of eight of its words stands in the corpus. Its effect is the score on all items less that on the
clean ones (the estimated performance gain of Singh et al., arXiv 2411.03923), with the gap between both kinds of items tested.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.benchmark import Json
from basewise.core.errors import TableError
from basewise.core.hashing import digest_json
from basewise.core.suite import AUROC, BenchTask
from basewise.stats import benchmarks as stat
from basewise.stats import intervals
from basewise.stats.contamination import WORDS, longest_matches
from basewise.stats.intervals import Interval
from basewise.steps.bench_scores import scores
from basewise.steps.bench_tables import Cell, plain

ENDINGS = (".parquet", ".csv", ".tsv", ".jsonl", ".json", ".arrow", ".txt", ".md")
BLOCK = 256
PIECE, OVERLAP = 1 << 20, 4096
"""Characters of a plain file that are read at once, and that are read again with the next piece."""


def corpus_files(path: Path) -> list[Path]:
    """The file, or all files of texts under the folder; TableError where there is none."""
    path = Path(path).expanduser()
    if not path.exists():
        raise TableError(f"there is no corpus {path}", "name a file of texts or a folder of them")
    files = sorted(p for p in path.rglob("*") if p.suffix in ENDINGS) if path.is_dir() else [path]
    if not files:
        raise TableError(f"{path} holds no text files", f"expected are {', '.join(ENDINGS)}")
    return files


def corpus_state(path: Path) -> str:
    """A digest of the names, sizes and times of the files: another one, another corpus."""
    states = [(str(file), file.stat()) for file in corpus_files(path)]
    return digest_json([[name, state.st_size, state.st_mtime_ns] for name, state in states])


def corpus_texts(path: Path) -> Iterator[str]:
    """Texts of a corpus: the column "text", else the first column of words; plain files in pieces."""
    for file in corpus_files(path):
        if file.suffix in (".txt", ".md"):
            yield from _pieces(file)
        else:
            yield from _table_texts(file)


def _pieces(file: Path) -> Iterator[str]:
    """A plain file in pieces, each after the end of the one before it, so that no run of words is cut in two."""
    before = ""
    with file.open(encoding="utf-8", errors="replace") as text:
        while piece := text.read(PIECE):
            before += piece
            yield before
            if len(before) > OVERLAP:
                before = before[-OVERLAP:]
                # from the beginning of a word
                before = before[before.find(" ") + 1 :]


def _table_texts(file: Path) -> Iterator[str]:
    import pyarrow as pa

    from basewise.core.cells import cells
    from basewise.core.table import iter_batches

    for batch in iter_batches(file, BLOCK):
        names = [
            f.name for f in batch.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)
        ]
        name = "text" if "text" in batch.schema.names else next(iter(names), None)
        if name is None:
            raise TableError(f"{file} has no column of texts", "give a corpus with a column named text")
        yield from (value for value in cells(batch.column(name)) if value)


def matches(tasks: Sequence[BenchTask], corpus: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Task name -> ((n,) words of the longest match, (n,) words of the item); the corpus is read once for all tasks."""
    texts = [item.text for task in tasks for item in task.items]
    runs, sizes = longest_matches(texts, corpus_texts(corpus))
    ends = np.cumsum([len(task.items) for task in tasks])[:-1]
    pairs = zip(np.split(runs, ends), np.split(sizes, ends), strict=True)
    return {task.name: pair for task, pair in zip(tasks, pairs, strict=True)}


def contamination(cells: Sequence[Cell], found: dict[str, Any], corpus: Path) -> Json:
    """Matched items a task, and for each cell with some of both kinds the score with and without them."""
    tasks = [
        {"task": name, "items": len(runs), "matched": int((runs > 0).sum()), "short": int((sizes < WORDS).sum()), "longest": int(runs.max())}
        for name, (runs, sizes) in found.items()
    ]  # fmt: skip
    lines = []
    for cell in cells:
        matched = found[cell.task.name][0] > 0
        dirty, clean = _part(cell, matched), _part(cell, ~matched)
        if dirty is None or clean is None:
            continue
        lines.append(
            {
                "base": cell.answers.base,
                "task": cell.task.name,
                "shots": cell.answers.shots,
                "matched": int(matched.sum()),
                "items": len(matched),
                "all": plain(stat.score_interval(cell.scores, cell.clusters, cell.task.measure == AUROC)),
                "without": plain(stat.score_interval(*clean, cell.task.measure == AUROC)),
                "gap": plain(_gap(dirty, clean)),
            }
        )
    return {"corpus": str(corpus), "n": WORDS, "tasks": tasks, "cells": lines}


def _part(cell: Cell, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(scores, clusters) of some items by themselves; None where they are no sample of the measure.

    Scored anew: what stands for an item in an area under a curve or a ratio of sums is made of all items, and its mean over
    some of them is not their number.
    """
    answers = cell.answers.take(kept)
    if not kept.any() or (cell.task.measure == AUROC and len(np.unique(answers.right >= 0)) < 2):
        return None
    return scores(answers, cell.task), cell.clusters[kept]


def _gap(matched: tuple[np.ndarray, np.ndarray], clean: tuple[np.ndarray, np.ndarray]) -> Interval:
    """Score of matched less that of clean items, which are different items: Newcombe's interval of right and wrong, else Welch's."""
    from scipy.stats import t

    kinds = (matched, clean)
    if all(np.isin(values, (0.0, 1.0)).all() for values, _ in kinds):
        return intervals.newcombe(*(intervals.share_of(*kind) for kind in kinds))
    value, n = float(matched[0].mean() - clean[0].mean()), len(matched[0]) + len(clean[0])
    squares = [stat.careful_error(*kind) ** 2 for kind in kinds]
    if not np.isfinite(squares).all():
        return Interval(estimate=value, low=-math.inf, high=math.inf, n=n)
    parts = [s**2 / (len(np.unique(ids)) - 1) for s, (_, ids) in zip(squares, kinds, strict=True)]
    half = float(t.ppf(0.975, sum(squares) ** 2 / sum(parts))) * math.sqrt(sum(squares))
    return Interval(estimate=value, low=value - half, high=value + half, n=n)

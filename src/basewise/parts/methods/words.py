"""Word and letter counts with a linear model: the cheap control that needs no base.

TF-IDF (sublinear) of word 1-2-grams, with or without the 2-4-letter pieces of words; logistic regression. Both
choices, words alone or with letters and the strength, are made by out-of-fold log-loss, the temperature too. Saved
as JSON (terms) and safetensors (weights); the counting is written here, so nothing has to be unpickled.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import Base, Card
from basewise.core.budget import Cost
from basewise.core.files import Progress, read_json, write_bytes, write_json
from basewise.core.hashing import generator
from basewise.core.method import Context, Machine
from basewise.core.task import Examples
from basewise.engine.folds import folds_of, rows_a_class, some_of_each
from basewise.engine.heads import Head, fit_temperature, log_loss, out_of_fold, softmax, solve

REQUIRES: frozenset[str] = frozenset()
RUNGS = "none"

STRENGTHS = (2.0, 30.0, 100.0)
FEW_STRENGTH = 10.0
MOST_TERMS = 200_000
CHUNK_ROWS = 8192
FEW_ROWS = 500
MANY_ROWS = 2000
MANY_CELLS = 60_000
TOLERANCE = 3e-4
CHOOSING_ROWS = 3000
"""The choices are made on at most so many rows; the model that is kept is fitted on all of them."""
_TOKEN = re.compile(r"\w+|[^\w\s]")


EDGE = "\n"
"""Stands before the first word and after the last in a pair: how a text begins, and ends, may decide."""
MARK = "\t"
"""Begins a piece among the terms; no word or pair of words does."""


def tokens_of(text: str) -> list[str]:
    """Words and single marks of punctuation, in lower case."""
    return _TOKEN.findall(text.lower())


def words_of(tokens: Sequence[str]) -> Iterator[str]:
    """Word 1-2-grams; the first and the last word also as a pair with the text's edge."""
    yield from tokens
    for left, right in pairwise((EDGE, *tokens, EDGE) if tokens else ()):
        yield f"{left} {right}"


@lru_cache(maxsize=1 << 17)
def pieces_of(token: str) -> tuple[str, ...]:
    """The 2-4-letter pieces of a word padded by spaces, each after MARK."""
    padded = f" {token[:40]} "
    return tuple(
        MARK + padded[start : start + size] for size in (2, 3, 4) for start in range(len(padded) - size + 1)
    )


def columns_of(terms: Iterable[str], columns: dict[str, int]) -> list[int]:
    """Columns of the terms that have one."""
    return [column for column in map(columns.get, terms) if column is not None]


def counted(rows: Iterable[Iterable[int]], width: int) -> Any:
    """scipy CSR float64 (rows, width): how often a row has each column."""
    from scipy.sparse import csr_matrix

    columns, ends = array("i"), array("q", [0])
    for row in rows:
        columns.extend(row)
        ends.append(len(columns))
    ones = np.ones(len(columns))
    made = csr_matrix((ones, np.array(columns, np.int32), np.array(ends)), (len(ends) - 1, max(width, 1)))
    made.sum_duplicates()
    return made


class Tokens:
    """Texts as counts (n, T) of their distinct tokens: pieces are then looked up once a token and counted by a sparse product."""

    def __init__(self, lists: Sequence[Sequence[str]]) -> None:
        index: dict[str, int] = {}
        rows = [[index.setdefault(token, len(index)) for token in tokens] for tokens in lists]
        self.distinct = list(index)
        self.counts = counted(rows, len(index))

    def pieces(self, columns: dict[str, int]) -> Any:
        """CSR (n, len(columns)): counts of the pieces that have a column."""
        rows = [columns_of(pieces_of(token), columns) for token in self.distinct]
        return self.counts @ counted(rows or [[]], len(columns))


@dataclass(frozen=True)
class Vocabulary:
    """Terms by column, their inverse document frequencies (V,), and whether letter pieces are among them."""

    columns: dict[str, int]
    idf: np.ndarray
    letters: bool

    @classmethod
    def of(cls, texts: Sequence[str], letters: bool) -> Vocabulary:
        """Learn it; letter pieces seen once are dropped when there are many rows, and the rarest terms above the cap."""
        seen: Counter[str] = Counter()
        pieces: dict[str, int] = {}
        rows_with = np.zeros(0, np.int64)
        for start in range(0, len(texts), CHUNK_ROWS):
            lists = [tokens_of(text) for text in texts[start : start + CHUNK_ROWS]]
            for tokens in lists:
                seen.update(set(words_of(tokens)))
            if letters:
                tokens_here = Tokens(lists)
                for piece in chain.from_iterable(map(pieces_of, tokens_here.distinct)):
                    pieces.setdefault(piece, len(pieces))
                found = tokens_here.pieces(pieces)
                rows_with = np.pad(rows_with, (0, found.shape[1] - len(rows_with)))
                rows_with += np.bincount(found.indices, minlength=found.shape[1])
        least = 2 if len(texts) > MANY_ROWS else 1
        seen.update({p: int(rows_with[i]) for p, i in pieces.items() if rows_with[i] >= least})
        terms = sorted(sorted(seen, key=lambda term: (-seen[term], term))[:MOST_TERMS])
        counts = np.array([seen[term] for term in terms], np.float64)
        idf = (np.log((1.0 + len(texts)) / (1.0 + counts)) + 1.0).astype(np.float32)
        return cls({term: column for column, term in enumerate(terms)}, idf, letters)

    def matrix(self, texts: Sequence[str]) -> Any:
        """(n, V) scipy CSR float32; words and letters each have length 1 in a row."""
        lists = [tokens_of(text) for text in texts]
        rows = (columns_of(words_of(tokens), self.columns) for tokens in lists)
        found = self._weighed(counted(rows, len(self.columns)))
        if self.letters:
            found = found + self._weighed(Tokens(lists).pieces(self.columns))
        return found.astype(np.float32)

    def _weighed(self, counts: Any) -> Any:
        """Counts to TF-IDF, each row brought to length 1 (rows without a term stay empty)."""
        counts.data = (1.0 + np.log(counts.data)) * self.idf[counts.indices]
        row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        lengths = np.sqrt(np.bincount(row, counts.data**2, minlength=counts.shape[0]))
        counts.data /= lengths[row]
        return counts


@dataclass(frozen=True)
class Words:
    """The vocabulary with a linear head over it."""

    classes: tuple[str, ...]
    vocabulary: Vocabulary
    head: Head
    choices: dict[str, Any] = field(default_factory=dict)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(n, C), in pieces of 8,192 rows so that memory stays flat."""
        out = np.empty((len(texts), len(self.classes)))
        for start in range(0, len(texts), CHUNK_ROWS):
            part = texts[start : start + CHUNK_ROWS]
            out[start : start + len(part)] = self.head.probabilities(self.vocabulary.matrix(part))
        return out

    def save(self, folder: Path) -> None:
        """words.json with classes, terms and choices; words.safetensors with numbers."""
        from safetensors.numpy import save

        record = {"classes": list(self.classes), "letters": self.vocabulary.letters, "choices": self.choices}
        write_json(folder / "words.json", {**record, "terms": list(self.vocabulary.columns)})
        write_bytes(folder / "words.safetensors", save({"idf": self.vocabulary.idf, **self.head.tensors()}))


def estimate(examples: Examples, card: Card | None, machine: Machine) -> Cost:
    """Seconds grow with letters read and with rows fitted; constants measured on two cores, 300 to 7,000 rows, 2 to 150
    classes."""
    rows, classes = max(len(examples), 1), len(examples.classes)
    letters = float(sum(map(len, examples.texts)))
    some = min(rows, max(CHOOSING_ROWS, 12 * classes))
    usual_rows = rows_a_class(examples.counts)
    passes = (0.8 if _one_fold(some, classes) else 2.0 if some > FEW_ROWS else 4.0) * (
        2 + 3 * (usual_rows >= 5)
    )
    choosing = 0.7e-4 * some * passes * classes**0.3 if usual_rows >= 2 else 0.0
    counted_again = 0.0 if some == rows else letters
    counting = 4e-6 * (2.0 * letters * some / rows + counted_again)
    solving = (2.0 / max(machine.cores, 1)) ** 0.5 * (choosing + 1e-5 * rows * classes)
    terms = min(MOST_TERMS, 12.0 * letters**0.7)
    memory = 30e6 + terms * (400.0 + 4.0 * classes * 12.0) + letters * 30.0
    each = 2.5e-6 * letters / rows + 1e-5
    return Cost(
        seconds=0.1 + counting + solving,
        memory_bytes=memory,
        predict_seconds_per_row=each,
    )


def fit(examples: Examples, base: Base | None, context: Context) -> Words:
    """Choose terms and strength out of fold, then fit on all labelled rows."""
    examples = examples.take(examples.labels >= 0)
    labels, n_classes = examples.labels, len(examples.classes)
    usual_rows = rows_a_class(examples.counts)
    found: tuple[float | None, bool, float, float] = (None, True, FEW_STRENGTH, 1.0)
    vocabulary, design = None, None
    if usual_rows >= 2:
        rng = generator("words", context.seed)
        some = some_of_each(labels, max(CHOOSING_ROWS, 12 * n_classes), rng)
        found, counted_some = _chosen(examples.take(some), usual_rows >= 5, rng, context.progress)
        # all rows are counted already
        if len(some) == len(labels):
            vocabulary, design = counted_some
    best_loss, letters, strength, temperature = found
    if vocabulary is None:
        vocabulary = Vocabulary.of(examples.texts, letters)
        design = vocabulary.matrix(examples.texts)
    head = solve(design, labels, n_classes, strength, tolerance=TOLERANCE)
    head = replace(head, temperature=temperature)
    choices = {
        "terms": len(vocabulary.columns),
        "letters": letters,
        "strength": strength,
        "temperature": round(temperature, 4),
        "out_of_fold_log_loss": None if best_loss is None else round(best_loss, 4),
    }
    return Words(examples.classes, vocabulary, head, choices)


def _chosen(
    examples: Examples, strengths_too: bool, rng: np.random.Generator, progress: Progress
) -> tuple[tuple[float, bool, float, float], tuple[Vocabulary, Any]]:
    """(log-loss, letters, strength, temperature) with the lowest out-of-fold log-loss on labelled rows; and these rows counted so."""
    labels, n_classes = examples.labels, len(examples.classes)
    one = _one_fold(len(labels), n_classes)
    folds = 5 if one else min(3 if len(labels) > FEW_ROWS else 5, max(rows_a_class(examples.counts), 2))
    fold = folds_of(labels, folds, rng, examples.groups)
    options: list[tuple[float, bool, float, float]] = []
    counts: dict[bool, tuple[Vocabulary, Any]] = {}

    def attempt(letters: bool, strengths: Sequence[float]) -> None:
        design = counts[letters][1]
        found = out_of_fold(design, labels, n_classes, strengths, fold, held_out=[0] if one else None)
        for strength, logits in found.items():
            known = np.isfinite(logits).all(1)
            temperature = fit_temperature(logits[known], labels[known])
            loss = log_loss(softmax(logits[known] / temperature), labels[known])
            options.append((loss, letters, strength, temperature))

    for number, letters in enumerate((False, True)):
        vocabulary = Vocabulary.of(examples.texts, letters)
        counts[letters] = vocabulary, vocabulary.matrix(examples.texts)
        attempt(letters, (FEW_STRENGTH,))
        progress(number + 1, 4, "words: choosing")
    best = min(options)[1]
    del counts[not best]
    if strengths_too:
        attempt(best, STRENGTHS)
        progress(3, 4, "words: choosing")
    return min(options), counts[best]


def _one_fold(rows: int, classes: int) -> bool:
    """Whether choices are made on one held-out fold of five: it has rows enough, and all folds would take long."""
    return rows > MANY_ROWS or rows * classes > MANY_CELLS


def load(folder: Path, base: Base | None, context: Context) -> Words:
    """The inverse of `save`."""
    from safetensors.numpy import load_file

    record = read_json(folder / "words.json")
    tensors = load_file(folder / "words.safetensors")
    columns = {term: column for column, term in enumerate(record["terms"])}
    vocabulary = Vocabulary(columns, tensors["idf"], record["letters"])
    return Words(tuple(record["classes"]), vocabulary, Head.of_tensors(tensors), record["choices"])

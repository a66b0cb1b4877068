"""explain: why a predictor answers as it does, from what it can be asked: neighbours among its train rows, and the words that carry it.

Neighbours: cosine of the base's features, the ones that the predictor's own run has stored; of word counts where it has no base.
Words: each is left out in turn (occlusion; Zeiler & Fergus, arXiv 1311.2901) and the answer is given again. When no single word turns
it, words are taken away in the order of what they carry until it turns; that set is found greedily, so a smaller one may exist.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from basewise.core.task import Task
from basewise.steps.predict import Predictor, cache_folder, find_base

MOST_PIECES = 64
"""Pieces of a text that are left out in turn; a longer text is cut into that many runs of words."""
SPACE = re.compile(r"\S+\s*")


@dataclass(frozen=True, kw_only=True)
class Words:
    """What carries an answer. `pieces`: (text, change of the label's probability when it is left out, label then) in order of the text.

    `turning`: indices of pieces without which the label is another one, `turned` that label; empty when none was found.
    """

    label: str
    probability: float
    pieces: tuple[tuple[str, float, str], ...]
    turning: tuple[int, ...] = ()
    turned: str = ""


def carrying(predictor: Predictor, text: str) -> Words:
    """The words that carry a predictor's answer to a text."""
    pieces, stays = _pieces(text, predictor.inputs)
    asked = predictor.probabilities([text, *(_without(pieces, stays, {i}) for i in range(len(pieces)))])
    top = int(asked[0].argmax())
    label, probability = predictor.classes[top], float(asked[0, top])
    changes = asked[1:, top] - probability
    then = [predictor.classes[int(row.argmax())] for row in asked[1:]]
    turning, turned = _turning(predictor, (pieces, stays), changes, then, label)
    lines = tuple((p, float(c), t) for p, c, t in zip(pieces, changes, then, strict=True))
    return Words(label=label, probability=probability, pieces=lines, turning=turning, turned=turned)


def _pieces(text: str, inputs: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Words with the space after them, joined to at most MOST_PIECES runs of about the same count; and what stays where one is left
    out: of texts joined from several columns their names and the ends of their lines."""
    if len(inputs) < 2:
        words, stays = SPACE.findall(text), []
    else:
        names = "|".join(map(re.escape, inputs))
        found = list(re.finditer(rf"((?<![^\n])(?:{names}): )?(\S+\s*|(?<= )\s*(?=\n|$)\n?)", text))
        words = [m.group() for m in found if m.group()]
        stays = [(m.group(1) or "") + "\n" * m.group().endswith("\n") for m in found if m.group()]
    size = max(1, -(-len(words) // MOST_PIECES))
    runs = range(0, len(words), size)
    return ["".join(words[i : i + size]) for i in runs], ["".join(stays[i : i + size]) for i in runs]


def _without(pieces: list[str], stays: list[str], gone: Collection[int]) -> str:
    """The text without some of its pieces."""
    return "".join(stays[j] if j in gone else p for j, p in enumerate(pieces)).strip()


def _turning(
    predictor: Predictor, parts: tuple[list[str], list[str]], changes: np.ndarray, then: list[str], label: str
) -> tuple[tuple[int, ...], str]:
    """The single piece that turns the answer most, else a growing set in the order of what the pieces carry."""
    single = [i for i, other in enumerate(then) if other != label]
    if single:
        best = min(single, key=lambda i: changes[i])
        return (best,), then[best]
    order = [int(i) for i in np.argsort(changes, kind="stable")]
    sets = [tuple(sorted(order[:n])) for n in range(2, len(order))]
    if not sets:
        return (), ""
    texts = [_without(*parts, gone) for gone in sets]
    for gone, row in zip(sets, predictor.probabilities(texts), strict=True):
        if (other := predictor.classes[int(row.argmax())]) != label:
            return gone, other
    return (), ""


def neighbours(predictor: Predictor, task: Task, text: str, k: int = 5) -> list[dict[str, Any]]:
    """The k train rows that are nearest to a text: {"row_id", "text", "label", "likeness"} (cosine), the nearest first."""
    train = task.train
    likeness = (
        _by_base(predictor, train.texts, text) if predictor.record["base"] else _by_words(train.texts, text)
    )
    order = np.argsort(-likeness, kind="stable")[:k]
    return [
        {
            "row_id": int(train.row_ids[i]),
            "text": train.texts[i],
            "label": train.classes[train.labels[i]] if train.labels[i] >= 0 else "",
            "likeness": float(likeness[i]),
        }
        for i in order
    ]


def _by_base(predictor: Predictor, texts: tuple[str, ...], text: str) -> np.ndarray:
    """(n,) cosines of the base's features. The text itself is not written to the store."""
    from basewise.steps.jobs import feature_store

    base = find_base(predictor.record["base"])
    assert base is not None
    store = feature_store(cache_folder())
    known = store.features(base, texts)
    name = known.names[-1]
    rows = known.matrix(name)
    asked = next(iter(store.iterate(base, [text], precision=known.precision))).matrix(name)[0]
    return _cosines(rows, asked)


def _by_words(texts: tuple[str, ...], text: str) -> np.ndarray:
    """(n,) cosines of word counts, rare words weighing more."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    counts = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    try:
        rows = counts.fit_transform(texts)
    except ValueError:
        # no word in any row
        return np.zeros(len(texts))
    return np.asarray((rows @ counts.transform([text]).T).todense()).ravel()


def _cosines(rows: np.ndarray, one: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(one)
    return (rows @ one) / np.maximum(lengths, 1e-12)

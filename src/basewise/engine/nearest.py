"""Demonstrations picked for each text: the labelled rows nearest to it, the nearest one last (Liu et al. 2022, arXiv 2101.06804).

Nearness is the cosine of centred features of the base itself, which the feature store holds already for the rows of a race. The
classes share the places, so that a common class does not crowd the others out. Nothing is shared between texts but
the instruction: each answer costs several times what it costs behind fixed demonstrations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from basewise.core.base import Base
from basewise.core.task import Examples
from basewise.engine.probe import unit
from basewise.engine.prompting import Prompt, Template, most_prefix, short_text, within
from basewise.engine.shots import in_turn

SHOWN = 8
"""Rows shown before each text."""
POOL_ROWS = 512
"""Labelled rows to pick from at most: all of them are in the saved predictor, as token ids."""


@dataclass(frozen=True)
class Pool:
    """n rows to pick from: `shown` token ids of each as a demonstration, `labels` (n,), `rows` (n, D) unit features around
    `centre` (D,) of one layer; `places` rows of one class at most are shown."""

    shown: tuple[tuple[int, ...], ...]
    labels: np.ndarray
    rows: np.ndarray
    centre: np.ndarray
    layer: str
    places: int

    def near(self, features: np.ndarray, banned: np.ndarray | None = None) -> list[list[int]]:
        """Positions for each of m texts, the nearest last; features (m, D), `banned` (m, n) rows that a text may not see."""
        likeness = unit(features - self.centre) @ self.rows.T
        if banned is not None:
            likeness = np.where(banned, -np.inf, likeness)
        out = []
        for line in likeness:
            taken: list[int] = []
            room: dict[int, int] = {}
            for i in np.argsort(-line, kind="stable"):
                label = int(self.labels[i])
                if len(taken) == SHOWN or line[i] == -np.inf:
                    break
                if room.setdefault(label, self.places) > 0:
                    room[label] -= 1
                    taken.append(int(i))
            out.append(taken[::-1])
        return out


def middle_layer(base: Base) -> str:
    """The layer in whose features texts are compared: a middle one, where decoders hold most of a text's meaning."""
    return f"layer{(base.card.layers + 1) // 2}"


def pool_of(
    reader: Any, template: Template, words: Sequence[str], known: Examples, features: Any, layer: str
) -> tuple[Pool, np.ndarray]:
    """The pool of the labelled rows and the positions (n,) in `known` that it holds; features (n_known, D) of them all."""
    matrix = np.asarray(features, np.float32)
    centre = matrix.mean(0)
    keep = np.sort(in_turn(known.labels, np.arange(len(known)))[:POOL_ROWS])
    shown = tuple(
        tuple(within(reader, template.shown(short_text(reader, known.texts[i]), words[known.labels[i]])))
        for i in keep
    )
    classes = max(int((known.counts > 0).sum()), 1)
    pool = Pool(shown, known.labels[keep], unit(matrix[keep] - centre), centre, layer, -(-SHOWN // classes))
    return pool, keep


def requests(
    reader: Any, prompt: Prompt, pool: Pool, texts: Sequence[str], near: Sequence[Sequence[int]]
) -> list[tuple[list[int], tuple[int, ...]]]:
    """n x C requests: the prompt's prefix (an instruction), each text's own rows, the text. Far rows give way where the
    context is short."""
    most = max(most_prefix(reader) - len(prompt.prefix), 0)
    room = reader.context + 1 - len(prompt.prefix) - most - len(prompt.between) - max(map(len, prompt.labels))
    room = max(min(prompt.room, room), 1)
    made = []
    for text, picked in zip(texts, near, strict=True):
        rows: list[int] = []
        for i in reversed(picked):
            if len(rows) + len(pool.shown[i]) > most:
                break
            rows = [*pool.shown[i], *rows]
        before = [*prompt.prefix, *rows, *prompt.own(reader, text, room), *prompt.between]
        made += [(before, label) for label in prompt.labels]
    return made


def near_scores(
    reader: Any, prompt: Prompt, pool: Pool, texts: Sequence[str], near: Sequence[Sequence[int]]
) -> np.ndarray:
    """(n, C) summed log-probability of each label's tokens after each text behind its own rows."""
    if not len(texts):
        return np.zeros((0, len(prompt.labels)))
    found = reader.score_tokens(requests(reader, prompt, pool, texts, near))
    return np.asarray(found.log_probability.reshape(len(texts), len(prompt.labels)))


def tokens_a_row(reader: Any, prompt: Prompt, pool: Pool, texts: Sequence[str]) -> tuple[float, float]:
    """Mean tokens that a further text costs: behind fixed demonstrations, and behind its own with the pass that finds them."""
    own = float(np.mean([len(reader.encode(t, special=False)[: prompt.room]) for t in texts] or [0]))
    inner = sum(len(label) - 1 for label in prompt.labels)
    fixed = own + len(prompt.between) + inner + 3.0
    shown = SHOWN * float(np.mean([len(ids) for ids in pool.shown]))
    return fixed, fixed + min(shown, float(most_prefix(reader))) + own

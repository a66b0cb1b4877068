"""shortlist: rank the bases for these rows cheaply, from one forward pass over a sample of them.

The rank is the mean of the ranks that the rankers give (arXiv 2405.20420: combining helps consistently); the size prior
is one of them (arXiv 2510.06448) and is always shown. It only orders the race; it never decides.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from basewise.core.base import Base
from basewise.core.hashing import generator
from basewise.core.registry import parts
from basewise.core.task import Examples
from basewise.engine.probe import unit

SAMPLE_ROWS = 1_000


def sample_rows(examples: Examples, rows: int = SAMPLE_ROWS) -> Examples:
    """At most `rows` rows, the classes in proportion, the same ones for every base."""
    if len(examples) <= rows:
        return examples
    order = generator("shortlist", examples.digest()).permutation(len(examples))
    share = np.empty(len(examples))
    for c in np.unique(examples.labels):
        members = order[examples.labels[order] == c]
        share[members] = np.arange(len(members)) / len(members)
    return examples.take(np.sort(np.argsort(share, kind="stable")[:rows]))


def rank_base(base: Base, examples: Examples, store: Any) -> dict[str, Any]:
    """One line of the ranking: every ranker on its best layer; the layer named is the probe's."""
    started = time.perf_counter()
    features = store.features(base, examples.texts)
    line: dict[str, Any] = {"base": base.key, "layer": None}
    best_probe = -1.0
    for name in features.names:
        matrix = unit(features.matrix(name))
        for key, module in parts("rankers").items():
            value = module.rank(matrix, examples.labels, base.card)
            line[key] = max(value, line.get(key, -np.inf))
            if key == "probe" and value > best_probe:
                best_probe, line["layer"] = value, name
    line["seconds"] = time.perf_counter() - started
    return line


def order_lines(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort lines by the mean of their ranks over all rankers; ties go to the smaller network."""
    keys = list(parts("rankers"))
    if not lines:
        return []
    table = np.array([[line[key] for key in keys] for line in lines], dtype=float)
    ranks = (table[None, :, :] > table[:, None, :]).sum(1)
    order = np.lexsort((table[:, keys.index("size")], ranks.mean(1)))
    return [{**lines[i], "rank": position + 1, "came_out": None} for position, i in enumerate(order)]

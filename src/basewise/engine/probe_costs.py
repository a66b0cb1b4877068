"""What a linear probe costs before it is fitted: seconds and bytes, step by step as `engine/probe.py` goes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from basewise.core.base import Card
from basewise.engine.discriminant import ROUGH_SHRINKAGES, SHRINKAGES, seconds_of
from basewise.engine.folds import rows_a_class
from basewise.engine.heads import MANY_COLUMNS
from basewise.engine.layers import default_layers
from basewise.engine.probe import (
    ENOUGH,
    MANY_ROWS,
    SAMPLE_ROWS,
    STRENGTHS,
    candidates,
    layer_folds,
    strength_folds,
    usual,
)


def estimate_solving(counts: np.ndarray, card: Card, peak: float) -> float:
    """Seconds of choosing and fitting on `counts` (C,) rows a class; `peak` FLOP/s in fp32."""
    sets = candidates(_names(card))
    return solving_seconds(counts, [len(s) * card.width for s in sets], len(usual(sets)) * card.width, peak)


def solving_seconds(counts: np.ndarray, widths: Sequence[int], usual_width: int, peak: float) -> float:
    """The same for candidate sets of so many columns, one of them the usual one.

    The steps of `fit_probe` one by one. How many passes over the rows a fit takes was measured on two cores with bases of
    256 to 768 columns, 240 to 15,000 rows and 2 to 150 classes: docs/log.md, 42 fits.
    """
    rows, classes = int(counts.sum()), len(counts)
    usual_rows = rows_a_class(counts)
    chosen = [usual_width]
    seconds = 0.05

    def turn(n: int, columns: int) -> float:
        small = min(n, columns)
        twice = 1.0 if MANY_COLUMNS <= columns <= n else 2.0
        return twice * (3.1 * n * columns * small + 7.4 * small**3) / peak + 3e-8 * n * columns

    def solved(n: float, columns: int, passes: float) -> float:
        product = 4.0 * n * min(n, columns) * (classes + 28) / peak
        return passes * (product + 2e-8 * n * classes + 2e-4)

    if usual_rows >= ENOUGH and len(widths) > 1:
        some = min(rows, max(SAMPLE_ROWS, 12 * classes))
        folds, tried = layer_folds(some)
        part = some * (1.0 - 1.0 / folds)
        for columns in widths:
            rough = seconds_of(part, min(some, columns), classes, len(ROUGH_SHRINKAGES), peak)
            seconds += turn(some, columns) + tried * rough
        # which two will win is not known: the widest and the usual one
        chosen = [max(widths), usual_width]
    if usual_rows >= 2:
        folds, tried = strength_folds(rows, usual_rows)
        part = rows * (1.0 - 1.0 / folds)
        passes = 21.0 * (1 + len(STRENGTHS) if usual_rows >= ENOUGH else 1)
        seconds += sum(tried * solved(part, k, passes) for k in chosen)
        if rows <= MANY_ROWS:
            shrinkages = len(SHRINKAGES) if usual_rows >= ENOUGH else 1
            seconds += sum(tried * seconds_of(part, min(rows, k), classes, shrinkages, peak) for k in chosen)
    seconds += sum(turn(rows, k) for k in chosen)
    return seconds + solved(rows, chosen[0], 35.0)


def estimate_memory(rows: int, classes: int, card: Card) -> float:
    """Bytes: features as stored, then what `fit_probe` adds to them at its peak, with all layers side by side; measured with
    256 to 768 columns: 0.9 to 1.1 times this from 4,000 rows on (nine fits), 0.5 to 1.1 below (seven; less where few layers win)."""
    names = _names(card)
    return fitting_memory(
        rows, classes, max(map(len, candidates(names))) * card.width, len(names) * card.width
    )


def fitting_memory(rows: int, classes: int, wide: int, columns: int) -> float:
    """The same for a widest set of `wide` columns, and `columns` in all that are stored."""
    stored = 2.0 * rows * columns
    small = min(rows, wide)
    # the discriminants hold the rows once more, their spread and its factor
    beside = 12.0 * rows * small + 16.0 * small**2 if rows <= MANY_ROWS else 0.0
    return stored + 3e7 + 9.6 * rows * wide + 16.0 * wide * small + 120.0 * rows * classes + beside


def _names(card: Card) -> tuple[str, ...]:
    """The feature matrices that a base gives by default."""
    return ("all",) if card.family == "static" or not card.layers else default_layers(card.layers)

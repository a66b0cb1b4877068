"""The linear probe: logistic regression on frozen features, with layers and strength chosen out of fold.

Rows of each layer are brought to length 1, columns to a shrunk common scale. Candidates are every layer given, their
mean, all of them side by side, and the last beside a middle one; the log-loss of held-out rows after one temperature
decides, first between layers, then between strengths for the two best. With fewer than four rows a class nothing is
chosen: last and middle layer, a fixed strength. `probe` uses it as it is; `contrast` and `full` start from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from basewise.core.base import Card
from basewise.core.files import Progress, silent
from basewise.core.hashing import generator
from basewise.engine.heads import (
    Head,
    Rotation,
    fit_temperature,
    folds_of,
    out_of_fold,
    rotate,
    softmax,
    solve,
    some_of_each,
)

FIRST_STRENGTH = 5.0
STRENGTHS = (0.3, 1.0, 30.0, 150.0)
ENOUGH = 4
"""Rows of the smallest class from which on something is chosen."""
SAMPLE_ROWS = 2400
MANY_ROWS = 4000
Matrix = Callable[[str], np.ndarray]


@dataclass(frozen=True)
class Probe:
    """A head on the unit-length rows of the matrices `names`, side by side."""

    names: tuple[str, ...]
    head: Head

    def logits(self, matrix: Matrix) -> np.ndarray:
        """(n, C) log-probabilities before the temperature; `matrix(name)` gives (n, D)."""
        return self.head.logits(side_by_side(matrix, self.names))

    def probabilities(self, matrix: Matrix) -> np.ndarray:
        """(n, C) float64."""
        return softmax(self.logits(matrix) / self.head.temperature)


@dataclass(frozen=True)
class ProbeFit:
    """A probe, its logits for rows while held out (None: too few rows; NaN: row not held out), and what was chosen."""

    probe: Probe
    held_out: np.ndarray | None
    choices: dict[str, Any]


def side_by_side(matrix: Matrix, names: Sequence[str]) -> np.ndarray:
    """(n, sum of widths) float32: each matrix with rows of length 1."""
    return np.concatenate([unit(matrix(name)) for name in names], axis=1)


def unit(x: np.ndarray) -> np.ndarray:
    """Rows brought to length 1; rows of zeros stay."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def column_scale(x: np.ndarray) -> np.ndarray:
    """(D,) divisors: half the column's own deviation, half the mean one, times sqrt(D), so that rows have length ~1."""
    deviation = x.std(0)
    shrunk = 0.5 * deviation + 0.5 * deviation.mean()
    return np.maximum(shrunk, 1e-9) * np.sqrt(x.shape[1])


def candidates(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Sets of matrices to try: each alone, the last with a middle one, all layers side by side."""
    layers = [name for name in names if name.startswith("layer")]
    sets: list[tuple[str, ...]] = [(name,) for name in names]
    if len(layers) >= 2:
        sets.append((layers[len(layers) // 2], layers[-1]))
    if len(layers) >= 3:
        sets.append(tuple(layers))
    return list(dict.fromkeys(sets))


def fit_probe(
    matrix: Matrix,
    names: Sequence[str],
    labels: np.ndarray,
    n_classes: int,
    seed: int = 0,
    progress: Progress = silent,
) -> ProbeFit:
    """Fit it on labels (n,) with every class index below `n_classes`; classes without rows get a floor.

    `matrix(name)` gives (n, D) features of the rows. Deterministic in `seed`.
    """
    labels = np.asarray(labels)
    counts = np.bincount(labels, minlength=n_classes)
    smallest = int(counts[counts > 0].min())
    sets = candidates(names)
    rng = generator("probe", seed)
    chosen: list[tuple[str, ...]] = [usual(sets)]
    if smallest >= ENOUGH and len(sets) > 1:
        chosen = _best_sets(matrix, sets, labels, n_classes, rng, progress)
    best: Tried | None = None
    if smallest >= 2:
        fold = folds_of(
            labels, 5 if len(labels) > MANY_ROWS else min(3 if len(labels) > 500 else 5, smallest), rng
        )
        strengths = sorted({FIRST_STRENGTH, *(STRENGTHS if smallest >= ENOUGH else ())})
        for number, names_ in enumerate(chosen):
            turned = Turned.of(matrix, names_)
            tried = _try(turned, labels, n_classes, fold, strengths, len(labels) > MANY_ROWS)
            best = tried if best is None or tried.loss < best.loss else best
            progress(number + 1, len(chosen), "probe: strength")
    best = best or Tried(None, Turned.of(matrix, chosen[0]), FIRST_STRENGTH, 1.0, None, None)
    turned = best.turned
    solved = solve(turned.rows, labels, n_classes, best.strength, best.start, turned.rotation.energy)
    head = turned.rotation.unrotate(solved)
    weights = (head.weights / turned.scale[:, None]).astype(np.float32)
    choices = {
        "layers": list(turned.names),
        "strength": best.strength,
        "temperature": round(best.temperature, 4),
    }
    choices["out_of_fold_log_loss"] = None if best.loss is None else round(best.loss, 4)
    head = replace(head, weights=weights, temperature=best.temperature)
    return ProbeFit(Probe(turned.names, head), best.held_out, choices)


@dataclass(frozen=True)
class Turned:
    """A set of matrices side by side, scaled, on its principal axes: what fits work on."""

    names: tuple[str, ...]
    scale: np.ndarray
    rows: np.ndarray
    rotation: Rotation

    @classmethod
    def of(cls, matrix: Matrix, names: tuple[str, ...]) -> Turned:
        x = side_by_side(matrix, names)
        scale = column_scale(x)
        x /= scale
        return cls(names, scale, *rotate(x))


@dataclass(frozen=True)
class Tried:
    """The best strength for one set: its held-out loss, temperature and logits, and a head to start the last fit from."""

    loss: float | None
    turned: Turned
    strength: float
    temperature: float
    held_out: np.ndarray | None
    start: Head | None


def _best_sets(
    matrix: Matrix,
    sets: list[tuple[str, ...]],
    labels: np.ndarray,
    n_classes: int,
    rng: np.random.Generator,
    progress: Progress,
) -> list[tuple[str, ...]]:
    """The two sets of matrices with the lowest held-out log-loss at one strength, on a sample if rows are many."""
    rows = some_of_each(labels, max(SAMPLE_ROWS, 12 * n_classes), rng)
    some = labels[rows]
    fold = folds_of(some, 3 if len(rows) > 500 else 5, rng)
    held_out = [0] if len(rows) > 1500 else None
    losses = []
    for number, names in enumerate(sets):
        turned = Turned.of(lambda name: matrix(name)[rows], names)
        logits = out_of_fold(
            turned.rows, some, n_classes, (FIRST_STRENGTH,), fold, turned.rotation.energy, held_out
        )
        losses.append(_losses(logits[FIRST_STRENGTH], some)[0])
        progress(number + 1, len(sets), "probe: layers")
    bounds = _cautious(losses, sets.index(usual(sets)))
    return [sets[i] for i in np.argsort(bounds, kind="stable")[:2]]


def usual(sets: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The set that is taken without evidence for another: the last layer beside a middle one, else the last set."""
    return next((s for s in sets if len(s) == 2), sets[-1])


def _cautious(losses: Sequence[np.ndarray], usual_index: int) -> np.ndarray:
    """Mean losses, each of another option than the usual one raised by the standard error of its paired gain.

    With few rows the lowest of several noisy means is mostly luck; the usual option stays until it is clearly beaten.
    """
    reference = losses[usual_index]
    return np.array(
        [
            float(loss.mean())
            + (float((loss - reference).std()) / np.sqrt(len(loss)) if i != usual_index else 0.0)
            for i, loss in enumerate(losses)
        ]
    )


def _try(
    turned: Turned,
    labels: np.ndarray,
    n_classes: int,
    fold: np.ndarray,
    strengths: Sequence[float],
    one_fold: bool,
) -> Tried:
    """The best of `strengths` for one set of matrices, by held-out log-loss."""
    heads: dict[float, Head] = {}
    logits = out_of_fold(
        turned.rows,
        labels,
        n_classes,
        strengths,
        fold,
        turned.rotation.energy,
        [0] if one_fold else None,
        heads,
    )
    losses, temperatures = zip(*(_losses(logits[s], labels) for s in strengths), strict=True)
    best = int(np.argmin(_cautious(losses, list(strengths).index(FIRST_STRENGTH))))
    strength = strengths[best]
    loss = float(losses[best].mean())
    return Tried(loss, turned, strength, temperatures[best], logits[strength], heads[strength])


def _losses(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """(log-loss of each held-out row at the best temperature, that temperature)."""
    known = np.isfinite(logits).all(1)
    logits, labels = logits[known], labels[known]
    temperature = fit_temperature(logits, labels)
    shares = softmax(logits / temperature)[np.arange(len(labels)), labels]
    return -np.log(np.maximum(shares, 1e-12)), temperature


def estimate_solving(counts: np.ndarray, card: Card, peak: float) -> float:
    """Seconds of choosing and fitting on `counts` (C,) rows a class; `peak` FLOP/s in fp32. Constants measured on two
    cores with one matrix of 256 columns and with six of 384, 100 to 6,000 rows, 2 to 77 classes."""
    rows, classes, width = int(counts.sum()), len(counts), card.width
    several = card.layers > 1
    here = counts[counts > 0]
    chosen = len(here) > 0 and int(here.min()) >= ENOUGH
    sampled = min(rows, max(SAMPLE_ROWS, 12 * classes))
    passes = (
        18.0 * (2.0 + 6.0 * sampled / max(rows, 1)) * (1.0 if rows > MANY_ROWS else 4.0) if chosen else 18.0
    )
    wide = (2.5 if several else 1.0) * width
    each = 4.0 * rows * min(wide, rows) * classes / (0.25 * peak) + 2e-8 * rows * classes
    deep = (5.0 if several and chosen else 2.0 if several else 1.0) * width
    turning = (2.0 * rows * width * min(rows, width) + 10.0 * min(sampled, deep) ** 3) / (0.05 * peak)
    turning += 4e-4 * min(rows, SAMPLE_ROWS) * several
    return (
        0.05
        + passes * (each * (0.4 if several else 1.0) + 5e-4)
        + turning * (1.9 if several and chosen else 1.0)
    )

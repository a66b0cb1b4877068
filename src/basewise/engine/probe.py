"""The linear probe: a linear head on frozen features, with layers and strength chosen out of fold.

Rows of each layer are brought to length 1, columns to a shrunk common scale. Candidates are every layer given, their
mean, all of them side by side, and the last beside a middle one; the log-loss of held-out rows after one temperature
decides, first between layers, then between strengths for the two best. The head is a logistic regression or, where held-out
rows say so, half of it and half a linear discriminant (`engine/discriminant.py`), which is one linear head again. With fewer
than four rows a class nothing is chosen: last and middle layer, a fixed strength. `probe` uses it as it is; `contrast` and
`full` start from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from basewise.core.files import Progress, silent
from basewise.core.hashing import generator
from basewise.engine.discriminant import (
    ROUGH_SHRINKAGES,
    SHRINKAGES,
    USUAL_SHRINKAGE,
    discriminants,
    held_out_discriminants,
)
from basewise.engine.folds import folds_of, rows_a_class, some_of_each
from basewise.engine.heads import (
    Head,
    Rotation,
    fit_temperature,
    out_of_fold,
    rotate,
    softmax,
    solve,
    with_floor,
)

FIRST_STRENGTH = 5.0
STRENGTHS = (0.3, 1.0, 30.0, 150.0)
# rows of a usual class from which on something is chosen
ENOUGH = 4
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
    seconds: float = float("inf"),
    groups: np.ndarray | None = None,
) -> ProbeFit:
    """Fit it on labels (n,) with every class index below `n_classes`; classes without rows get a floor.

    `matrix(name)` gives (n, D) features of the rows; groups (n,) says which belong together. Deterministic in `seed`, unless half of
    `seconds` are over before all is tried: then the rest is left out, and `choices` say so ("shortened").
    """
    until = time.monotonic() + 0.5 * seconds
    labels = np.asarray(labels)
    counts = np.bincount(labels, minlength=n_classes)
    usual_rows = rows_a_class(counts)
    sets = candidates(names)
    rng = generator("probe", seed)
    chosen: list[tuple[str, ...]] = [usual(sets)]
    shortened = False
    if usual_rows >= ENOUGH and len(sets) > 1:
        chosen = _best_sets(matrix, sets, (labels, groups), n_classes, rng, until, progress)
        shortened = len(chosen) == 1
    best: Tried | None = None
    if usual_rows >= 2:
        parts, tried_parts = strength_folds(len(labels), usual_rows)
        fold = folds_of(labels, parts, rng, groups)
        strengths = sorted({FIRST_STRENGTH, *(STRENGTHS if usual_rows >= ENOUGH else ())})
        for number, names_ in enumerate(chosen):
            if best is not None and time.monotonic() > until:
                shortened = True
                break
            turned = Turned.of(matrix, names_)
            tried = _try(turned, labels, n_classes, fold, strengths, range(tried_parts))
            best = tried if best is None or tried.loss < best.loss else best
            progress(number + 1, len(chosen), "probe: strength")
    best = best or Tried(float("inf"), Turned.of(matrix, chosen[0]), FIRST_STRENGTH, 1.0, None, None)
    turned = best.turned
    solved = solve(turned.rows, labels, n_classes, best.strength, best.start, turned.rotation.energy)
    if best.beside:
        other = discriminants(turned.rows, labels, n_classes, (best.beside.shrinkage,))
        solved = best.beside.blend(solved, other[best.beside.shrinkage])
    head = turned.rotation.unrotate(solved)
    weights = (head.weights / turned.scale[:, None]).astype(np.float32)
    choices = {
        "layers": list(turned.names),
        "strength": best.strength,
        "discriminant": best.beside.shrinkage if best.beside else None,
        "temperature": round(best.temperature, 4),
    }
    choices["out_of_fold_log_loss"] = round(best.loss, 4) if np.isfinite(best.loss) else None
    if shortened:
        choices["shortened"] = True
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
class Beside:
    """A discriminant of this shrinkage that stands beside the logistic regression, and both temperatures."""

    shrinkage: float
    logistic: float
    discriminant: float

    def blend(self, logistic: Head, discriminant: Head) -> Head:
        """One linear head: the mean of both log-probabilities, each over its temperature."""
        a, b = 0.5 / self.logistic, 0.5 / self.discriminant
        return replace(
            logistic,
            weights=a * logistic.weights + b * discriminant.weights,
            bias=a * logistic.bias + b * discriminant.bias,
        )


@dataclass(frozen=True)
class Tried:
    """The best head for one set: its held-out loss (infinite: none held out), strength, temperature and logits, a head to
    start the last fit from, and the discriminant beside it (None: logistic regression alone)."""

    loss: float
    turned: Turned
    strength: float
    temperature: float
    held_out: np.ndarray | None
    start: Head | None
    beside: Beside | None = None


def _best_sets(
    matrix: Matrix,
    sets: list[tuple[str, ...]],
    known: tuple[np.ndarray, np.ndarray | None],
    n_classes: int,
    rng: np.random.Generator,
    until: float,
    progress: Progress,
) -> list[tuple[str, ...]]:
    """The two sets of matrices with the lowest held-out log-loss of a discriminant, on a sample if rows are many.

    A discriminant costs one factorisation, where a logistic regression takes tens of passes over the rows, and ranks alike.

    The usual one alone when the time `until` (of `time.monotonic`) comes first. known: labels and groups of the rows.
    """
    labels, groups = known
    rows = some_of_each(labels, max(SAMPLE_ROWS, 12 * n_classes), rng)
    some = labels[rows]
    parts, tried_parts = layer_folds(len(rows))
    fold = folds_of(some, parts, rng, None if groups is None else groups[rows])
    losses = []
    for number, names in enumerate(sets):
        if time.monotonic() > until:
            return [usual(sets)]
        turned = Turned.of(lambda name: matrix(name)[rows], names)
        logits = held_out_discriminants(
            turned.rows, some, n_classes, ROUGH_SHRINKAGES, fold, range(tried_parts)
        )
        losses.append(min((_losses(found, some)[0] for found in logits.values()), key=np.mean))
        progress(number + 1, len(sets), "probe: layers")
    bounds = _cautious(losses, sets.index(usual(sets)))
    return [sets[i] for i in np.argsort(bounds, kind="stable")[:2]]


def layer_folds(rows: int) -> tuple[int, int]:
    """(folds that the rows are dealt into, how many of them are held out) to choose between layers."""
    return 3 if rows > 500 else 5, 1 if rows > 1500 else 3 if rows > 500 else 5


def strength_folds(rows: int, usual_rows: int) -> tuple[int, int]:
    """The same to choose between strengths; `usual_rows`: rows of a usual class."""
    folds = 5 if rows > MANY_ROWS else min(3 if rows > 500 else 5, usual_rows)
    return folds, 1 if rows > MANY_ROWS else folds


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
    held_out: Sequence[int],
) -> Tried:
    """The best of `strengths` for one set of matrices, by the log-loss of the folds in `held_out`."""
    heads: dict[float, Head] = {}
    logits = out_of_fold(
        turned.rows,
        labels,
        n_classes,
        strengths,
        fold,
        turned.rotation.energy,
        held_out,
        heads,
    )
    losses, temperatures = zip(*(_losses(logits[s], labels) for s in strengths), strict=True)
    best = int(np.argmin(_cautious(losses, list(strengths).index(FIRST_STRENGTH))))
    strength = strengths[best]
    loss = float(losses[best].mean())
    tried = Tried(loss, turned, strength, temperatures[best], logits[strength], heads[strength])
    if len(labels) > MANY_ROWS:
        return tried
    return _beside(
        tried, labels, n_classes, fold, SHRINKAGES if len(strengths) > 1 else (USUAL_SHRINKAGE,), held_out
    )


def _beside(
    alone: Tried,
    labels: np.ndarray,
    n_classes: int,
    fold: np.ndarray,
    shrinkages: Sequence[float],
    held_out: Sequence[int],
) -> Tried:
    """`alone`, or with the best discriminant beside it where that lowers the held-out log-loss."""
    logits = held_out_discriminants(alone.turned.rows, labels, n_classes, shrinkages, fold, held_out)
    losses, temperatures = zip(*(_losses(logits[s], labels) for s in shrinkages), strict=True)
    best = int(np.argmin([loss.mean() for loss in losses]))
    beside = Beside(shrinkages[best], alone.temperature, temperatures[best])
    assert alone.held_out is not None
    both = 0.5 * alone.held_out / beside.logistic + 0.5 * logits[beside.shrinkage] / beside.discriminant
    known = np.isfinite(both).all(1)
    both[known] = with_floor(both[known], np.ones(n_classes, bool), 0.0)
    loss, temperature = _losses(both, labels)
    if loss.mean() >= alone.loss:
        return alone
    return replace(alone, loss=float(loss.mean()), temperature=temperature, held_out=both, beside=beside)


def _losses(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """(log-loss of each held-out row at the best temperature, that temperature)."""
    known = np.isfinite(logits).all(1)
    logits, labels = logits[known], labels[known]
    temperature = fit_temperature(logits, labels)
    shares = softmax(logits / temperature)[np.arange(len(labels)), labels]
    return -np.log(np.maximum(shares, 1e-12)), temperature

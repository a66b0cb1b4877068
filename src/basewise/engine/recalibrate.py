"""From what a base says of the labels to probabilities: as it is, shifted by what it says of all texts, or an affine map.

A base prefers some words whatever the text. Batch calibration takes its mean answer off (Zhou et al. 2023), the supervised
map gives each label a scale and a shift of its own, drawn towards the shifted scores. Which of them, and whether a
label's log-probability is summed or averaged over its tokens, is decided by out-of-fold log-loss; then one temperature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from basewise.engine.folds import folds_of
from basewise.engine.heads import fit_temperature, softmax

KINDS = ("none", "batch", "affine")
NORMS = ("sum", "mean")
PULL = 2.0
"""Rows that the prior of the affine map is worth."""
LEAST_ROWS = 8


@dataclass(frozen=True)
class Calibration:
    """logits = (scores x weight) x scale + shift, each (C,); `kind` and `norm` say how they came about."""

    kind: str
    norm: str
    weight: np.ndarray
    scale: np.ndarray
    shift: np.ndarray

    def logits(self, scores: np.ndarray) -> np.ndarray:
        """(n, C) from summed log-probabilities (n, C)."""
        return scores * self.weight * self.scale + self.shift

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """(n, C) float64; rows sum to 1."""
        return softmax(self.logits(scores))


def weights(lengths: np.ndarray, norm: str) -> np.ndarray:
    """(C,) what a label's sum is multiplied with: 1, or its share of the mean length."""
    return np.ones(len(lengths)) if norm == "sum" else lengths.mean() / lengths


def fit_calibration(
    scores: np.ndarray, labels: np.ndarray, lengths: np.ndarray, kind: str, norm: str
) -> Calibration:
    """One calibration from scores (n, C) and labels (n,), -1 unknown; `lengths` (C,) tokens of each label."""
    weight = weights(lengths, norm)
    z = scores * weight
    classes = z.shape[1]
    shift = np.zeros(classes)
    if kind != "none" and len(z):
        shift = -np.log(np.maximum(softmax(z).mean(0), 1e-12))
    known = labels >= 0
    temperature = fit_temperature(z[known] + shift, labels[known]) if known.any() else 1.0
    scale = np.full(classes, 1.0 / temperature)
    shift = shift / temperature
    if kind == "affine" and known.any():
        alpha, beta = _affine(z[known] * scale + shift, labels[known])
        scale, shift = scale * alpha, shift * alpha + beta
    return Calibration(kind, norm, weight, scale, shift)


def _affine(z: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(scale, shift) (C,) of each label with the least penalised log-loss; the prior is 1 and 0."""
    from scipy.optimize import minimize

    n, classes = z.shape
    target = np.zeros_like(z)
    target[np.arange(n), labels] = 1
    centre = z.mean(0)

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        alpha, beta = theta[:classes], theta[classes:]
        logits = (z - centre) * alpha + centre + beta
        p = softmax(logits)
        loss = -float(np.log(np.maximum(p[np.arange(n), labels], 1e-300)).sum())
        rest = p - target
        penalty = 0.5 * PULL * (float(((alpha - 1) ** 2).sum()) + float((beta**2).sum()))
        slope = np.concatenate([(rest * (z - centre)).sum(0) + PULL * (alpha - 1), rest.sum(0) + PULL * beta])
        return loss + penalty, slope

    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    alpha, beta = found[:classes], found[classes:]
    return alpha, centre - centre * alpha + beta


def choose_calibration(
    scores: np.ndarray, labels: np.ndarray, lengths: np.ndarray, rng: np.random.Generator
) -> tuple[Calibration, dict[str, Any]]:
    """The calibration with the least out-of-fold log-loss, fitted on all rows, and what was compared; "losses" (n,) are the
    log-losses of the labelled rows, held out.

    With fewer than LEAST_ROWS labelled rows nothing is compared: the mean answer is taken off where texts are enough to know it.
    """
    known = labels >= 0
    scored, true = scores[known], labels[known]
    norms = NORMS if len(set(lengths.tolist())) > 1 else NORMS[:1]
    if len(true) < LEAST_ROWS:
        kind = "batch" if len(scores) >= 4 * scores.shape[1] else "none"
        return fit_calibration(scores, labels, lengths, kind, norms[-1]), {"out_of_fold_log_loss": None}
    fold = folds_of(true, min(5, len(true)), rng)
    each = {
        (kind, norm): _out_of_fold(scored, true, lengths, fold, (kind, norm))
        for norm in norms
        for kind in KINDS
    }
    losses = {key: float(rows.mean()) for key, rows in each.items()}
    best = min(losses, key=lambda key: losses[key])
    compared = {f"{kind} {norm}": round(loss, 4) for (kind, norm), loss in losses.items()}
    record = {"out_of_fold_log_loss": round(losses[best], 4), "calibrations": compared, "losses": each[best]}
    return fit_calibration(scored, true, lengths, *best), record


def _out_of_fold(
    scores: np.ndarray, labels: np.ndarray, lengths: np.ndarray, fold: np.ndarray, how: tuple[str, str]
) -> np.ndarray:
    """(n,) log-loss of each row under a calibration fitted without its fold."""
    held = np.zeros_like(scores)
    for k in np.unique(fold):
        fitted = fit_calibration(scores[fold != k], labels[fold != k], lengths, *how)
        held[fold == k] = fitted.probabilities(scores[fold == k])
    return -np.log(np.maximum(held[np.arange(len(labels)), labels], 1e-12))

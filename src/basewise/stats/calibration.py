"""Whether probabilities are probabilities: proper scores, debiased calibration error, one temperature.

The plain calibration error of a perfectly calibrated predictor is 3-5 points at 500 rows; here each bin's sampling
variance is taken off first (Kumar, Liang and Ma 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from basewise.stats.intervals import wilson

FLOOR = 1e-12


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean nats of the true class, from (n, C) probabilities floored at 1e-12."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], FLOOR)).mean())


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared distance to the truth, 0 to 2."""
    truth = np.zeros_like(probabilities)
    truth[np.arange(len(labels)), labels] = 1
    return float(((probabilities - truth) ** 2).sum(1).mean())


def apply_temperature(log_probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """(n, C) probabilities with logits divided by the temperature."""
    scaled = log_probabilities / temperature
    scaled = scaled - scaled.max(1, keepdims=True)
    out = np.exp(scaled)
    return out / out.sum(1, keepdims=True)


def temperature(
    log_probabilities: np.ndarray, labels: np.ndarray, low: float = 0.05, high: float = 20.0
) -> float:
    """The temperature with the least log-loss on (n, C) log-probabilities (golden section on its log)."""
    ratio = (np.sqrt(5) - 1) / 2
    a, b = np.log(low), np.log(high)

    def loss(value: float) -> float:
        return log_loss(apply_temperature(log_probabilities, float(np.exp(value))), labels)

    c, d = b - ratio * (b - a), a + ratio * (b - a)
    fc, fd = loss(c), loss(d)
    for _ in range(40):
        if fc < fd:
            b, d, fd = d, c, fc
            c = b - ratio * (b - a)
            fc = loss(c)
        else:
            a, c, fc = c, d, fd
            d = a + ratio * (b - a)
            fd = loss(d)
    return float(np.exp((a + b) / 2))


def _equal_mass(confidence: np.ndarray, bins: int) -> list[np.ndarray]:
    order = np.argsort(confidence, kind="stable")
    return [part for part in np.array_split(order, max(1, min(bins, len(order)))) if len(part)]


def ece_debiased(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Root of the debiased squared gap between confidence and accuracy over equal-mass bins; 0..1."""
    right = np.asarray(right, float)
    total = 0.0
    for part in _equal_mass(confidence, bins):
        n, accuracy = len(part), right[part].mean()
        noise = accuracy * (1 - accuracy) / (n - 1) if n > 1 else 0.0
        total += n / len(right) * ((confidence[part].mean() - accuracy) ** 2 - noise)
    return float(np.sqrt(max(total, 0.0)))


@dataclass(frozen=True, kw_only=True)
class Bin:
    """One bin of a reliability diagram: mean confidence, share right with its interval, rows."""

    confidence: float
    accuracy: float
    low: float
    high: float
    n: int


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> list[Bin]:
    """Equal-mass bins from the least to the most confident rows."""
    out = []
    for part in _equal_mass(confidence, bins):
        share = wilson(int(np.sum(np.asarray(right)[part])), len(part))
        out.append(
            Bin(
                confidence=float(confidence[part].mean()),
                accuracy=share.estimate,
                low=share.low,
                high=share.high,
                n=len(part),
            )
        )
    return out

"""Which number format to compute features in: fp32, bf16 or int8; measured on this machine, verified on these rows.

bf16 is taken where matrix multiplication in it is really faster here (not where a processor flag says so) and the
worst row of a sample of the user's own texts keeps a cosine of at least 0.999 to fp32. int8 is never taken on its
own: torch's dynamic int8 has a mean cosine of 0.93 on MiniLM with real texts. Asked for, it is taken only if hardly any
nearest-anchor prediction flips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from basewise.core.errors import UnknownName
from basewise.core.method import Machine

PRECISIONS = ("auto", "fp32", "bf16", "int8")
FASTER = 1.2
"""bf16 must multiply matrices at least this much faster than fp32 to be worth a verification."""
COSINE = 0.999
FLIPS = 0.005
SAMPLE = 96


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What a precision was compared with fp32 on: `rows` texts; worst and mean cosine over every layer asked for."""

    precision: str
    rows: int
    worst_cosine: float
    mean_cosine: float
    flips: float
    holds: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def candidate(asked: str, machine: Machine) -> str:
    """The precision to try: what was asked, or for "auto" bf16 where it is faster on this machine, else fp32."""
    if asked not in PRECISIONS:
        raise UnknownName.of("precision", asked, PRECISIONS)
    if asked != "auto":
        return asked
    return "bf16" if machine.bf16_peak >= FASTER * machine.fp32_peak else "fp32"


def sample_rows(lengths: Sequence[int] | np.ndarray, count: int = SAMPLE) -> np.ndarray:
    """Up to `count` rows spread evenly over the lengths, shortest and longest among them."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    return order[np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,) cosine of each pair of rows of two (n, D) matrices, in float64; two zero rows count as equal."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    equal = (a == b).all(1)
    return np.where(equal, 1.0, (a * b).sum(1) / np.where(norms == 0, np.inf, norms))


def flip_rate(reference: np.ndarray, other: np.ndarray) -> float:
    """Share of rows whose largest column differs between two (n, C) score matrices."""
    return float((reference.argmax(1) != other.argmax(1)).mean()) if len(reference) else 0.0


def anchor_scores(features: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """(n, anchors) cosine of each row to each anchor: the predictions that stand in for a head not yet trained."""
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.where(norm == 0, 1, norm)) @ (
        anchors / np.linalg.norm(anchors, axis=1, keepdims=True)
    ).T


def compare(precision: str, reference: np.ndarray, other: np.ndarray, anchors: int = 8) -> Verified:
    """Judge (n, views, D) features in `precision` against the same rows in fp32."""
    views = reference.shape[1]
    per_view = [cosines(reference[:, v], other[:, v]) for v in range(views)]
    worst, mean = float(min(c.min() for c in per_view)), float(np.mean(per_view))
    last = reference[:, -1]
    chosen = last[np.linspace(0, len(last) - 1, min(anchors, len(last))).astype(int)] + 1e-12
    flips = flip_rate(anchor_scores(last, chosen), anchor_scores(other[:, -1], chosen))
    finite = bool(np.isfinite(other).all())
    holds = finite and (flips <= FLIPS if precision == "int8" else worst >= COSINE)
    return Verified(
        precision=precision, rows=len(last), worst_cosine=worst, mean_cosine=mean, flips=flips, holds=holds
    )

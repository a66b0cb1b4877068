"""What a window of answered rows shows against the reference: drift of inputs and outputs, label shift, estimated accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WINDOW = 500


@dataclass(frozen=True)
class Seen:
    """n rows: `labels` (n,) classes said, `confidence` (n,), `abstained` (n,) bool, `features` (n, F) or None."""

    labels: np.ndarray
    confidence: np.ndarray
    abstained: np.ndarray
    features: np.ndarray | None

    @classmethod
    def of(cls, rows: Sequence[tuple[Any, ...]]) -> Seen:
        """From (n, label, p, abstained, features) rows of the watch."""
        blobs = [r[4] for r in rows]
        features = None
        if blobs and all(b is not None for b in blobs) and len({len(b) for b in blobs}) == 1:
            features = np.stack([np.frombuffer(b, np.float16) for b in blobs]).astype(np.float64)
        return cls(
            np.array([r[1] for r in rows], np.int64),
            np.array([r[2] for r in rows]),
            np.array([r[3] for r in rows], bool),
            features,
        )


def look(
    about: dict[str, Any], first: Seen, now: Seen, number: int, before: dict[str, Any] | None
) -> dict[str, Any]:
    """The record of one window."""
    return {"rows": len(now.labels), "abstained": float(now.abstained.mean())}

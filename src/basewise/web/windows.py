"""What a window of answered rows shows: drift of inputs and outputs, an alarm over windows, label shift, accuracy without labels.

Two comparisons: with the first rows that the version answered, which says how far things have moved since; and with a draw of all
rows so far, which feeds the alarm, because only then are the p-values of successive windows independent (`stats/alarms`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from basewise.core.hashing import generator
from basewise.stats import alarms
from basewise.stats.drift import Said, compare
from basewise.stats.unlabelled import estimated_accuracy, label_shift

WINDOW = 500
MOST_POOLED = 1_500
MOST_SHIFTED = 100
"""Classes whose shares are told: with more a window has too few rows of each, and the draws take seconds."""
Line = tuple[Any, ...]


@dataclass(frozen=True)
class Rows:
    """(n, label, p, abstained, features) lines of the watch: the first window, a draw of all earlier rows, the window to judge."""

    first: Sequence[Line]
    pool: Sequence[Line]
    now: Sequence[Line]


def said(lines: Sequence[Line]) -> Said:
    """The answers of lines; features where every line has as many."""
    blobs = [line[4] for line in lines]
    features = None
    if blobs and all(b is not None for b in blobs) and len({len(b) for b in blobs}) == 1:
        features = np.stack([np.frombuffer(b, np.float16) for b in blobs]).astype(np.float64)
    labels = np.array([line[1] for line in lines], np.int64)
    return Said(labels, np.array([line[2] for line in lines], float), features)


def look(about: dict[str, Any], rows: Rows, number: int, before: dict[str, Any] | None) -> dict[str, Any]:
    """The record of one window; `before`: that of the last one. The first window is the reference and is not judged."""
    rng = generator("window", about["version"], number)
    now = said(rows.now)
    found: dict[str, Any] = {
        "rows": len(now),
        "abstained": float(np.mean([line[3] for line in rows.now])),
        "confidence": float(now.confidence.mean()),
        "classes": np.bincount(now.labels, minlength=len(about["classes"])).tolist(),
        "level": before["level"] if before else 0.0,
        "alarms": before["alarms"] if before else 0,
        "threshold": alarms.threshold_for(),
        "windows_to_false_alarm": alarms.WINDOWS_TO_FALSE_ALARM,
        "p_values": {},
    }
    if number > 0:
        since = compare(said(rows.first), now, rng)
        found["p_values"] = {**since.p_values, "joint": since.p}
        found["auc"] = since.auc
        latest = compare(said(rows.pool), now, rng)
        level = alarms.cusum(found["level"], latest.p)
        found["alarm"] = level >= found["threshold"]
        found["alarms"] += int(found["alarm"])
        found["level"] = 0.0 if found["alarm"] else level
        found["latest_p"] = latest.p
    found |= _against_evidence(about, now, rng)
    return found


def _against_evidence(about: dict[str, Any], now: Said, rng: np.random.Generator) -> dict[str, Any]:
    """What needs held-out rows of the release: accuracy without labels, shares of the classes."""
    reference = about.get("reference")
    if not reference:
        return {}
    right = np.array(reference["right"])
    # older ones have none, nor have rows that stand alone
    together = reference.get("together")
    groups = np.array(together["group"]) if together else None
    estimate = estimated_accuracy(np.array(reference["confidence"]), right, now.confidence, rng, groups)
    found: dict[str, Any] = {"estimated_accuracy": asdict(estimate), "accuracy_then": float(right.mean())}
    if len(about["classes"]) <= MOST_SHIFTED:
        counts = np.bincount(now.labels, minlength=len(about["classes"]))
        rows = None
        if together and groups is not None:
            rows = np.array(together["said"]), np.array(together["true"]), groups
        shift = label_shift(np.array(reference["confusion"]), counts, rng, rows)
        found["shares"] = {name: np.round(values, 5).tolist() for name, values in shift.items()}
    return found

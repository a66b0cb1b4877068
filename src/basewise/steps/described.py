"""What a service tells of an opened predictor: name, version, classes, thresholds, and what is known from its held-out rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.evidence import read_evidence
from basewise.core.files import read_json
from basewise.stats.conformal import conformal_quantile
from basewise.steps.predict import Predictor

ALPHA = 0.1
"""Conformal sets hold the truth with probability 0.9 on rows like those of the evidence."""
MOST_REFERENCE = 5_000


def describe(folder: Path, predictor: Predictor, version: str) -> dict[str, Any]:
    """Name, version, classes, thresholds and what is known from held-out rows (no text) of an opened predictor."""
    record = predictor.record
    base = record["base"]
    about = {
        "task": task_name(folder),
        "version": version,
        "folder": str(Path(folder).resolve()),
        "method": record["method"],
        "base": base["key"] if base else None,
        "base_digest": base["digest"] if base else None,
        "classes": list(predictor.classes),
        "inputs": list(predictor.inputs),
        "threshold": predictor.threshold,
        "conformal": None,
        "reference": None,
    }
    held = held_out(folder, predictor)
    if held is not None:
        probabilities, labels, groups = held
        true = probabilities[np.arange(len(labels)), labels]
        about["conformal"] = {
            "alpha": ALPHA,
            "least": conformal_quantile(true, ALPHA, groups),
            "rows": len(labels),
        }
        n = len(predictor.classes)
        confusion = np.zeros((n, n))
        np.add.at(confusion, (probabilities.argmax(1), labels), 1)
        some = np.linspace(0, len(labels) - 1, min(len(labels), MOST_REFERENCE)).astype(int)
        names, number = np.unique(groups[some], return_inverse=True)
        about["reference"] = {
            "rows": len(labels),
            "confusion": confusion.tolist(),
            "confidence": probabilities.max(1)[some].round(6).tolist(),
            "right": (probabilities.argmax(1) == labels)[some].astype(int).tolist(),
        }
        # the watch draws rows that belong together by whole groups
        if len(names) < len(some):
            about["reference"]["together"] = {
                "group": number.tolist(),
                "said": probabilities.argmax(1)[some].tolist(),
                "true": labels[some].tolist(),
            }
    return about


def task_name(folder: Path) -> str:
    """The name a run's task is served under: of its run folder, in letters that an address takes."""
    folder = Path(folder).resolve()
    return address_of(folder.parent.name if folder.name == "predictor" else folder.name)


def address_of(name: str) -> str:
    """A name in letters that an address takes."""
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-.")
    return kept or "task"


def held_out(folder: Path, predictor: Predictor) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """(probabilities (n, C), labels (n,), groups (n,)) of the chosen arm on rows it was not fitted on, from the run's evidence."""
    folder = Path(folder)
    folder = folder.parent if folder.name == "predictor" else folder
    evidence, decision = folder / "evidence.parquet", folder / "decision.json"
    if not evidence.is_file():
        return None
    base = predictor.record["base"]
    method = predictor.record["method"]
    # as evidence names its trials
    chosen = f"{base['key']} + {method}" if base else method
    if decision.is_file():
        chosen = read_json(decision).get("chosen")
    columns = [f"p_{i}" for i in range(len(predictor.classes))]
    try:
        table = read_evidence(evidence, chosen)
        table = table.select(["label", *columns, "row_id", "group"])
    except (OSError, ValueError, KeyError):
        return None
    if not len(table):
        return None
    # repeats would count a row twice
    _, once = np.unique(table["row_id"].to_numpy(), return_index=True)
    table = table.take(once)
    probabilities = np.stack([table[c].to_numpy() for c in columns], 1)
    labels = table["label"].to_numpy()
    known = (labels >= 0) & np.isfinite(probabilities).all(1)
    groups = table["group"].to_numpy()
    return (probabilities[known], labels[known].astype(np.int64), groups[known]) if known.any() else None

"""Evidence: what a trial predicted for every held-out row. Every number in a report is computed from these rows.

One Parquet table: trial, row_id, fold, seed, group (rows that belong together), n_train, label, predicted, right, and p_<i> for every
class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.budget import Cost
from basewise.core.files import atomic_path


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One base with one method: its name, its predicted and measured cost, and its per-row outcomes.

    probabilities (n, C) for row_ids (n,), true labels (n,), fold (n,), seed (n,): a row occurs once a seed. groups (n,): rows
    that belong together share one (one customer, near-duplicates); None where each stands alone.
    """

    method: str
    base: str | None
    base_digest: str | None = None
    row_ids: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    fold: np.ndarray
    seed: np.ndarray
    n_train: int
    predicted_cost: Cost = field(default_factory=Cost)
    cost: Cost = field(default_factory=Cost)
    choices: dict[str, Any] = field(default_factory=dict)
    groups: np.ndarray | None = None
    status: str = "finished"
    """finished | dropped (by evidence) | skipped (by budget, with `why`) | failed (with `why`)"""
    why: str = ""
    late: bool = False
    """Whether it was time alone that ended it, or kept it from being started."""

    @property
    def name(self) -> str:
        return f"{self.base} + {self.method}" if self.base else self.method

    @property
    def right(self) -> np.ndarray:
        """(n,) bool."""
        return self.probabilities.argmax(1) == self.labels if len(self.labels) else np.zeros(0, bool)

    def groups_of(self, row_ids: np.ndarray) -> np.ndarray | None:
        """(len(row_ids),) the group of each row that was scored; None where each stands alone."""
        if self.groups is None:
            return None
        return self.groups[self.places(row_ids)]

    def places(self, row_ids: np.ndarray) -> np.ndarray:
        """(len(row_ids),) where these rows stand among those that were scored; of a repeated row the first."""
        known, first = np.unique(self.row_ids, return_index=True)
        assert np.isin(row_ids, known).all()
        return first[np.searchsorted(known, row_ids)]


def write_evidence(path: Path, trials: list[Trial]) -> None:
    """All trials' rows as one Parquet file; no user text in it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for trial in trials:
        if not len(trial.row_ids):
            continue
        n = len(trial.row_ids)
        columns: dict[str, Any] = {
            "trial": pa.array([trial.name] * n).dictionary_encode(),
            "row_id": trial.row_ids.astype(np.int64),
            "fold": trial.fold.astype(np.int32),
            "seed": trial.seed.astype(np.int64),
            "group": (trial.row_ids if trial.groups is None else trial.groups).astype(np.int64),
            "n_train": np.full(n, trial.n_train, np.int64),
            "label": trial.labels.astype(np.int32),
            "predicted": trial.probabilities.argmax(1).astype(np.int32),
            "right": trial.right,
        }
        for c in range(trial.probabilities.shape[1]):
            columns[f"p_{c}"] = trial.probabilities[:, c].astype(np.float32)
        tables.append(pa.table(columns))
    if not tables:
        return
    with atomic_path(path) as temporary:
        pq.write_table(pa.concat_tables(tables, promote_options="default"), temporary, compression="zstd")


def read_evidence(path: Path, trial: str | None = None) -> Any:
    """The rows of all trials or of one as a pyarrow Table; files from before rows had groups get each row as its own."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, filters=None if trial is None else [("trial", "=", trial)])
    return table if "group" in table.column_names else table.append_column("group", table["row_id"])

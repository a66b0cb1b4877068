"""audit's findings: how one is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from basewise.core.task import Finding

ROWS_KEPT = 1000
TINY = 8
"""Rows under which a class hardly counts."""


def finding(
    check: str,
    severity: str,
    message: str,
    advice: str,
    rows: Sequence[int] | np.ndarray = (),
    numbers: Mapping[str, object] | None = None,
) -> Finding:
    """A Finding with its rows (their numbers, or which of all they are) cut to 1,000 and their full number kept."""
    if isinstance(rows, np.ndarray) and rows.dtype == bool:
        rows = np.flatnonzero(rows)
    kept = tuple(int(r) for r in rows[:ROWS_KEPT])
    return Finding(
        check=check,
        severity=severity,
        message=message,
        advice=advice,
        rows=kept,
        numbers={"rows": len(rows), **(numbers or {})},
    )

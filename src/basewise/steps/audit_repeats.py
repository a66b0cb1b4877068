"""audit's checks for rows that repeat others: the header line, copies, near-copies and rows made as contrasts."""

from __future__ import annotations

import numpy as np

from basewise.core.cells import join_inputs
from basewise.core.task import Finding, Task
from basewise.steps.audit_findings import count, finding


def header_among_rows(task: Task) -> list[Finding]:
    """The name of the target's column among its values: the header line stands twice, or the first row was taken for it."""
    if task.target not in task.classes:
        return []
    where = np.flatnonzero(task.rows.labels == task.classes.index(task.target))
    header = join_inputs({name: name for name in task.inputs}, task.inputs)
    again = [i for i in where if task.rows.texts[i].strip() == header]
    if again:
        message = f"the header line stands again in {count(len(again), 'row')}"
        return [finding("header", "fail", message, "delete these rows", task.rows.row_ids[again])]
    message = f"the name of the column {task.target!r} is one of its values, too: is the first line a row, and no header?"
    advice = "write a line with the names of the columns above the rows"
    return [finding("header", "warn", message, advice, task.rows.row_ids[where])]


def duplicates(task: Task, near: np.ndarray) -> list[Finding]:
    """Exact and near-duplicates, those with conflicting labels, and those on both sides of a given or timed split."""
    from basewise.stats.duplicates import exact_groups

    ids = task.rows.row_ids
    exact = np.asarray(exact_groups(task.rows.texts))
    alike = _in_groups(near) & ~_same_partition(near, exact)
    found = [
        *_together("duplicates", _in_groups(exact), exact, ids, "repeat the same text"),
        *_together("near-duplicates", alike, near, ids, "are near-duplicates"),
    ]
    _, first = np.unique(near, return_inverse=True)
    pairs = np.unique(np.stack([first, task.rows.labels]), axis=1)
    torn = np.isin(first, np.flatnonzero(np.bincount(pairs[0]) > 1))
    if torn.any():
        message = f"{count(int(torn.sum()), 'row')} are (near-)duplicates of a row with another label"
        found.append(
            finding(
                "conflicting-labels", "warn", message, "read them together and settle the label", ids[torn]
            )
        )
    sides = np.unique(np.stack([first, (task.split == "test").astype(int)]), axis=1)
    crossing = np.isin(first, np.flatnonzero(np.bincount(sides[0]) > 1)) & (task.split == "test")
    if crossing.any():
        share = crossing.sum() / max(1, (task.split == "test").sum())
        found.append(
            finding(
                "test-in-train", "fail", f"{crossing.sum():,} test rows ({share:.1%}) have a (near-)duplicate in train",
                "scores will be too good: split by chance or group instead, or delete them", ids[crossing],
            )
        )  # fmt: skip
    return found


def made_as_contrasts(made: np.ndarray, ids: np.ndarray) -> list[Finding]:
    """The finding of rows (ids (n,)) that were made as contrasts; made (n,): group ids, every other row alone."""
    what = (
        "read alike and have different labels, far oftener than by chance: they seem to be made as contrasts"
    )
    why = ", or a model would learn from one to answer the other wrongly"
    return _together("contrasts", _in_groups(made), made, ids, what, why)


def _together(
    check: str, rows: np.ndarray, groups: np.ndarray, ids: np.ndarray, what: str, why: str = ""
) -> list[Finding]:
    """The finding of rows (n,) bool that stay together by their groups (n,); none where there is no such row."""
    if not rows.any():
        return []
    n = len(np.unique(groups[rows]))
    message = f"{count(int(rows.sum()), 'row')} in {count(n, 'group')} {what}"
    return [
        finding(check, "info", message, f"they stay on one side of the split{why}", ids[rows], {"groups": n})
    ]


def _in_groups(groups: np.ndarray) -> np.ndarray:
    """(n,) whether a row shares its group with another."""
    _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(sizes[inverse] > 1)


def _same_partition(near: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """(n,) whether a row's near-duplicates are all exact ones."""
    _, a, sizes_a = np.unique(near, return_inverse=True, return_counts=True)
    _, b, sizes_b = np.unique(exact, return_inverse=True, return_counts=True)
    return np.asarray(sizes_a[a] == sizes_b[b])

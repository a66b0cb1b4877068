"""audit's checks for rows that repeat others: the header line, copies, near-copies and rows made as contrasts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from basewise.core.task import Finding, Task
from basewise.steps.audit_findings import count, finding


def header_among_rows(task: Task) -> list[Finding]:
    """The name of the target's column among its values: the header line stands twice, or the first row was taken for it."""
    if task.target not in task.classes:
        return []
    where = np.flatnonzero(task.rows.labels == task.classes.index(task.target))
    name = join_names(task.inputs)
    again = [i for i in where if task.rows.texts[i].strip() == name]
    if again:
        message = f"the header line stands again in {count(len(again), 'row')}"
        return [finding("header", "fail", message, "delete these rows", task.rows.row_ids[again])]
    message = f"the name of the column {task.target!r} is one of its values, too: is the first line a row, and no header?"
    advice = "write a line with the names of the columns above the rows"
    return [finding("header", "warn", message, advice, task.rows.row_ids[where])]


def join_names(inputs: Sequence[str]) -> str:
    """The text of a row that holds the names of its input columns."""
    return inputs[0] if len(inputs) == 1 else "\n".join(f"{name}: {name}" for name in inputs)


def duplicates(task: Task, near: np.ndarray) -> list[Finding]:
    """Exact and near-duplicates, those with conflicting labels, and those on both sides of a given or timed split."""
    from basewise.stats.duplicates import exact_groups

    ids = task.rows.row_ids
    found = []
    exact = np.asarray(exact_groups(task.rows.texts))
    repeated = _in_groups(exact)
    if repeated.any():
        n = len(np.unique(exact[repeated]))
        message = f"{count(int(repeated.sum()), 'row')} repeat the same text ({count(n, 'text')})"
        found.append(
            finding(
                "duplicates",
                "info",
                message,
                "they stay on one side of the split",
                ids[repeated],
                {"groups": n},
            )
        )
    alike = _in_groups(near) & ~_same_partition(near, exact)
    if alike.any():
        n = len(np.unique(near[alike]))
        message = f"{count(int(alike.sum()), 'row')} in {count(n, 'group')} are near-duplicates"
        found.append(
            finding(
                "near-duplicates",
                "info",
                message,
                "they stay on one side of the split",
                ids[alike],
                {"groups": n},
            )
        )
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
    paired = _in_groups(made)
    if not paired.any():
        return []
    n = len(np.unique(made[paired]))
    message = f"{paired.sum():,} rows in {n:,} groups read alike and have different labels, far oftener than by chance: they seem to be made as contrasts"
    advice = "they stay on one side of the split, or a model would learn from one to answer the other wrongly"
    return [finding("contrasts", "info", message, advice, ids[paired], {"groups": n})]


def _in_groups(groups: np.ndarray) -> np.ndarray:
    """(n,) whether a row shares its group with another."""
    _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(sizes[inverse] > 1)


def _same_partition(near: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """(n,) whether a row's near-duplicates are all exact ones."""
    _, a, sizes_a = np.unique(near, return_inverse=True, return_counts=True)
    _, b, sizes_b = np.unique(exact, return_inverse=True, return_counts=True)
    return np.asarray(sizes_a[a] == sizes_b[b])

"""audit's checks for rows that repeat others: the header line, copies, near-copies and rows made as contrasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from basewise.core.cells import join_inputs
from basewise.core.gate import count
from basewise.core.task import Finding, Task
from basewise.steps.audit_findings import TINY, finding

if TYPE_CHECKING:
    from basewise.stats.duplicates import Sketch

BIG_GROUP = 0.3
ONE_TEXT = 0.9
"""Share of a class from which near-duplicates of one another are no copies but what the class is."""


@dataclass(frozen=True)
class Repeats:
    """Ids (n,) that rows share: `near` those of near-duplicates and copies, `exact` those of copies alone."""

    near: np.ndarray
    exact: np.ndarray

    def take(self, rows: np.ndarray) -> Repeats:
        """Those of some rows."""
        return Repeats(self.near[rows], self.exact[rows])


def repeats_of(
    sketch: Sketch, texts: Sequence[str], labels: np.ndarray, threshold: float
) -> tuple[Repeats, np.ndarray]:
    """(repeats, (C,) which classes are one text); near-duplicates from a similarity of `threshold`, labels (n,).

    Texts from one template are near-duplicates of each other, all of a table or all of a class, which tells nothing: no row of the class
    would be left to learn from, or to test on. There copies alone count, and where all are such the same signs.
    """
    from basewise.stats.duplicates import written_groups

    near, exact = sketch.groups(threshold), sketch.exact.copy()
    if _largest(near) > BIG_GROUP * len(labels):
        near = exact.copy()
    alike = np.zeros(int(labels.max()) + 1, bool)
    for c in range(len(alike)):
        mine = labels == c
        if mine.sum() >= TINY and _largest(near[mine]) >= ONE_TEXT * mine.sum():
            if _largest(exact[mine]) >= ONE_TEXT * mine.sum():
                exact[mine] = written_groups(texts)[mine]
            near[mine] = exact[mine]
            alike[c] = len(np.unique(exact[mine])) > 1
    return Repeats(near, exact), alike


def _largest(groups: np.ndarray) -> int:
    return int(np.unique(groups, return_counts=True)[1].max())


def one_text(
    task_classes: Sequence[str], alike: np.ndarray, labels: np.ndarray, ids: np.ndarray
) -> list[Finding]:
    """The finding of classes (C,) bool whose rows are from one template; labels and row ids (n,)."""
    if not alike.any():
        return []
    which = ", ".join(name for name, one in zip(task_classes, alike, strict=True) if one)
    message = (
        f"nearly all rows of a class read alike in {count(int(alike.sum()), 'class', 'classes')}: {which}"
    )
    advice = "only copies of these rows stay on one side of the split; if they are near-copies of a few, remove them"
    return [finding("alike-classes", "warn", message, advice, ids[alike[labels]])]


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


def duplicates(task: Task, repeats: Repeats) -> list[Finding]:
    """Exact and near-duplicates, those with conflicting labels, and those on both sides of a given or timed split."""
    ids, near, exact = task.rows.row_ids, repeats.near, repeats.exact
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

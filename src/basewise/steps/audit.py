"""Audit: from any table to a Task, with everything that could make its scores lie found first and said plainly.

The order matters: near-duplicates are grouped before the split, so that none of them sits on both sides; the checks see
all rows, since they change nothing. Row ids are positions in the table as it came, from 0.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.cells import join_inputs
from basewise.core.errors import InputError, TableError, TargetError, UnknownName
from basewise.core.files import Progress, silent
from basewise.core.roles import ROLES, Role, guess_roles, is_number
from basewise.core.split import HOWS, TEST_WORDS, parse_times, split_rows
from basewise.core.table import Table, read_table
from basewise.core.task import Examples, Finding, Task
from basewise.core.taskfile import load_task, save_task
from basewise.steps.audit_findings import finding

__all__ = ["AuditOptions", "audit", "load_task", "save_task"]

MISSING_LABELS = {"", "nan", "null", "n/a", "#n/a", "<na>"}
DECIMAL_COMMA = re.compile(r"^([^,]*\d),(\d[^,]*)$")
REGRESSION_VALUES = 30
REGRESSION_SURELY = 300
BIG_GROUP = 0.3
GROUP_UNUSED = "it looks like a group, but a split by chance was asked for"


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Choices that rarely change. `share`: of rows to test; `near`: Jaccard similarity that counts as near-duplicate."""

    share: float = 0.2
    seed: int = 0
    near: float = 0.8
    format: str | None = None
    name: str | None = None
    checks: bool = True
    progress: Progress = silent


def audit(
    source: Any,
    *,
    inputs: Sequence[str] | str | None = None,
    target: str | None = None,
    group: str | None = None,
    time: str | None = None,
    split: str | None = None,
    query: str | None = None,
    options: AuditOptions | None = None,
) -> Task:
    """The Task of a table: roles guessed where not given, duplicates grouped, split, and checked.

    `split`: "chance" | "group" | "time" | the name of a column that holds train and test; by default what the roles
    suggest. A split by "chance" unites no rows but near-duplicates and those of a given group. Raises TableError,
    TargetError, UnknownName or InputError, each with its fix.
    """
    options = options or AuditOptions()
    table = read_table(source, query=query, format=options.format)
    columns = {name: table.column(name) for name in table.columns if _readable(table, name)}
    if split is not None and split not in HOWS and split not in columns:
        raise UnknownName.of("split or column", split, [*HOWS, *columns])
    given = {"inputs": inputs, "target": target, "group": group, "time": time}
    roles = _roles(columns, given, split)
    by_role = {role: [n for n, r in roles.items() if r.role == role] for role in ROLES}
    names = tuple([inputs] if isinstance(inputs, str) else inputs or by_role["input"])
    target = by_role["target"][0]
    texts = texts_of(columns, names)
    keep, findings = _usable(columns, names, target, table)
    labels, classes, more = _labels([columns[target][i] for i in keep], target)
    findings += more
    options.progress(1, 4, "finding duplicates")
    kept = [texts[i] for i in keep]
    given_groups = next((columns[n] for n in by_role["group"]), None)
    near, groups, more = _groups(kept, labels, keep, given_groups, options)
    findings += more
    options.progress(2, 4, "splitting")
    rows = Examples(tuple(kept), labels, keep.astype(np.int64), groups, classes)
    # a guess does not cost a split by time its rows
    tied = near if split == "time" and group is None else groups
    how, sides, more = _split(rows, tied, columns, by_role, split, options)
    rows, sides, near, left = _without_left_out(rows, sides, near)
    findings += more + left
    others = [name for name in columns if name != target and name not in names]
    task = Task(
        name=options.name or _name(table.source),
        inputs=names,
        target=target,
        rows=rows,
        split=sides,
        split_how=how,
        source=table.source,
        roles={name: f"{role.role} ({role.reason})" for name, role in roles.items()},
        metadata={name: tuple(columns[name][i] or "" for i in rows.row_ids) for name in others},
    )
    if not options.checks:
        return task.with_findings(tuple(findings))
    options.progress(3, 4, "checking rows")
    return _checked(task, near, roles, columns, findings, options)


def _checked(
    task: Task,
    near: np.ndarray,
    roles: dict[str, Role],
    columns: dict[str, list[str | None]],
    findings: list[Finding],
    options: AuditOptions,
) -> Task:
    """The task with what all checks found, the gravest first."""
    from basewise.steps.audit_checks import check_all

    several = task.inputs if len(task.inputs) > 1 else ()
    read = {name: tuple(columns[name][i] or "" for i in task.rows.row_ids) for name in several}
    found = [*findings, *check_all(task, near, roles, options.seed, read)]
    order = {"fail": 0, "warn": 1, "info": 2}
    return task.with_findings(tuple(sorted(found, key=lambda f: order[f.severity])))


def _roles(columns: dict[str, list[str | None]], given: dict[str, Any], split: str | None) -> dict[str, Role]:
    """Roles as given, else guessed. A column named as the split is one; a split by chance knows no group that was only guessed."""
    named = split if split not in HOWS else None
    roles = guess_roles({name: values for name, values in columns.items() if name != named}, **given)
    if named:
        other = Role("other", f"the split by {named!r} was asked for")
        roles = {n: other if r.role == "split" else r for n, r in roles.items()}
        roles[named] = Role("split", "given")
    if split == "chance" and given["group"] is None:
        roles = {n: Role("other", GROUP_UNUSED) if r.role == "group" else r for n, r in roles.items()}
    return roles


def _readable(table: Table, name: str) -> bool:
    """Nested columns (embeddings, images) are no text and no slice."""
    import pyarrow as pa

    return not pa.types.is_nested(table.data.schema.field(name).type)


def texts_of(columns: Mapping[str, Sequence[str | None]], inputs: Sequence[str]) -> list[str]:
    """One text a row."""
    rows = zip(*(columns[name] for name in inputs), strict=True)
    return [join_inputs(dict(zip(inputs, row, strict=True)), inputs) for row in rows]


def _usable(
    columns: dict[str, list[str | None]], inputs: Sequence[str], target: str, table: Table
) -> tuple[np.ndarray, list[Finding]]:
    """Positions of rows with a text and a label, and what was left out."""
    n = len(table)
    empty = np.array([not any((columns[name][i] or "").strip() for name in inputs) for i in range(n)])
    missing = np.array([(v or "").strip().lower() in MISSING_LABELS for v in columns[target]])
    findings = [Finding(check="reading", severity="info", message=note) for note in table.notes]
    if empty.all():
        raise TableError(
            f"all texts are empty in {' and '.join(inputs)}",
            "name the text column with inputs (in Python, or in the file of --config)",
        )
    if missing.all():
        raise TargetError(
            f"the target {target!r} has no value in any row",
            'label some rows, or name the labels in the file of --config: labels = { billing = "billing" }',
        )
    if empty.any():
        findings.append(
            finding(
                "empty",
                "warn",
                f"{empty.sum():,} rows have no text and are left out",
                "fill or delete them",
                empty,
            )
        )
    if (only := missing & ~empty).any():
        findings.append(
            finding(
                "unlabelled",
                "warn",
                f"{only.sum():,} rows have no value in {target!r} and are left out",
                "label them, or keep them for prediction",
                only,
            )
        )
    keep = np.flatnonzero(~empty & ~missing)
    if not len(keep):
        raise TargetError(
            "no row has both a text and a label", "check the columns given as inputs and target"
        )
    return keep, findings


def _labels(values: list[str | None], target: str) -> tuple[np.ndarray, tuple[str, ...], list[Finding]]:
    """(n,) class indices, the classes in order (by number where they are numbers), and what is odd about them."""
    names = [(v or "").strip() for v in values]
    counts = Counter(names)
    if len(counts) == 1:
        raise TargetError(
            f"the target {target!r} has one class only, {next(iter(counts))!r}",
            "give rows of at least two classes",
        )
    numeric = all(is_number(_pointed(name)) for name in counts)
    if numeric and _looks_continuous(counts):
        raise TargetError(
            f"the target {target!r} holds {len(counts)} different numbers: is this regression?",
            "basewise predicts classes; cut the numbers into ranges, or name another target",
        )
    if len(counts) > max(20, 0.5 * len(names)):
        raise TargetError(
            f"the target {target!r} has {len(counts)} different values in {len(names)} rows: these are no classes",
            "name another target",
        )
    lonely = [name for name, count in counts.items() if count == 1]
    if len(counts) - len(lonely) < 2:
        raise TargetError(
            f"fewer than two classes of {target!r} have two rows (one row only: {', '.join(lonely[:4])})",
            "label more rows of each class",
        )
    classes = tuple(sorted(counts, key=(lambda c: (float(_pointed(c)), c)) if numeric else str))
    index = {name: i for i, name in enumerate(classes)}
    labels = np.array([index[name] for name in names], np.int64)
    return labels, classes, _odd_names(classes)


def _pointed(number: str) -> str:
    """A number with a point in place of a decimal comma; anything else as it is."""
    return DECIMAL_COMMA.sub(r"\1.\2", number)


def _looks_continuous(counts: Counter[str]) -> bool:
    """Many numbers that are not codes 0..K (codes are whole, close together and used more than once or twice)."""
    if len(counts) <= REGRESSION_VALUES:
        return False
    numbers = np.array([float(_pointed(c)) for c in counts])
    whole = np.isfinite(numbers).all() and (numbers == np.round(numbers)).all()
    scattered = numbers.max() - numbers.min() > 3 * len(numbers)
    return bool(
        not whole or scattered or len(numbers) > REGRESSION_SURELY or sum(counts.values()) < 3 * len(numbers)
    )


def _odd_names(classes: tuple[str, ...]) -> list[Finding]:
    folded: dict[str, list[str]] = {}
    for name in classes:
        folded.setdefault("".join(ch for ch in name.casefold() if ch.isalnum()) or name, []).append(name)
    return [
        Finding(
            check="class-names",
            severity="warn",
            message=f"the classes {' and '.join(map(repr, same))} differ only in case, spaces or signs",
            advice="give them one name",
        )
        for same in folded.values()
        if len(same) > 1
    ]


def _groups(
    texts: list[str],
    labels: np.ndarray,
    row_ids: np.ndarray,
    given: list[str | None] | None,
    options: AuditOptions,
) -> tuple[np.ndarray, np.ndarray, list[Finding]]:
    """(near-duplicate group ids (n,), groups for the split (n,), findings): near-duplicates, contrasts and given groups united."""
    from basewise.stats.duplicates import Sketch, contrasts, united
    from basewise.steps.audit_repeats import made_as_contrasts

    sketch = Sketch.of(texts)
    near = sketch.groups(options.near)
    if np.unique(near, return_counts=True)[1].max() > BIG_GROUP * len(texts):
        # texts from one template: likeness chains them all and tells nothing
        near = sketch.exact
    if len(np.unique(near)) == 1:
        raise TableError(f"all {len(texts)} rows hold the same text", "give rows that differ")
    made = contrasts(sketch, labels)
    groups = united(near, made)
    if given is not None:
        keys = [given[i] or f"\0{i}" for i in row_ids]
        groups = united(groups, np.unique(keys, return_inverse=True)[1])
    largest = np.bincount(groups).max() / len(texts)
    findings = made_as_contrasts(made, row_ids)
    if largest > BIG_GROUP:
        findings.append(
            finding(
                "big-group",
                "fail",
                f"{largest:.0%} of the rows hang together as one group",
                "name another group column, or remove the shared text; the split cannot be balanced",
                row_ids[groups == np.bincount(groups).argmax()],
            )
        )
    return near, groups.astype(np.int64), findings


def _split(
    rows: Examples,
    groups: np.ndarray,
    columns: dict[str, list[str | None]],
    by_role: dict[str, list[str]],
    split: str | None,
    options: AuditOptions,
) -> tuple[str, np.ndarray, list[Finding]]:
    """(how, (n,) "train" | "test" | "out", findings): as asked, else given by a column, else by group, else by chance."""
    how = (
        split
        if split in HOWS
        else ("given" if by_role["split"] else "group" if by_role["group"] else "chance")
    )
    for wanted, role in (("given", "split"), ("group", "group"), ("time", "time")):
        if how == wanted and not by_role[role]:
            typed = "COLUMN" if wanted == "given" else f"{wanted}:COLUMN"
            raise InputError(
                f"a split by {wanted} needs a {role} column, none was found",
                f"name it with {role}=, on the command line --split {typed}",
            )
    if how == "none":
        return how, np.full(len(rows), "train", dtype="<U5"), []
    times, given = None, None
    if how == "time":
        name = by_role["time"][0]
        times = parse_times([columns[name][i] for i in rows.row_ids], name, rows.row_ids)
    if how == "given":
        given = [columns[by_role["split"][0]][i] for i in rows.row_ids]
    sides = split_rows(
        rows.labels,
        groups,
        how=how,
        share=options.share,
        seed=options.seed,
        times=times,
        given=given,
        row_ids=rows.row_ids,
    )
    if not (sides == "test").any():
        raise TableError(
            f"{len(rows)} rows in {len(np.unique(groups))} groups leave no test rows", "label more rows"
        )
    if not (sides == "train").any():
        raise TableError(
            "every row from before the test rows belongs to a group that reaches into them, so none is left to learn from",
            "leave the group out, or split by group instead of by time",
        )
    return how, sides, _marks(given, rows.row_ids, sides == "test") if given else []


def _marks(given: list[str | None], row_ids: np.ndarray, locked: np.ndarray) -> list[Finding]:
    """What is said where no row of a given split was marked as a test row. row_ids, locked: (n,) as the words."""
    words = {(given[i] or "").strip().lower() for i in np.flatnonzero(locked)}
    if words & TEST_WORDS:
        return []
    message = (
        "no row is marked as a test row: those marked " + ", ".join(sorted(words)) + " are the locked ones"
    )
    advice = "give another split where they were used to make choices before"
    return [finding("no-test-rows", "info", message, advice, row_ids[locked])]


def _without_left_out(
    rows: Examples, sides: np.ndarray, near: np.ndarray
) -> tuple[Examples, np.ndarray, np.ndarray, list[Finding]]:
    """Rows, sides and near-duplicates without the rows that a split by time puts on neither side, and what is said of these."""
    out = sides == "out"
    if not out.any():
        return rows, sides, near, []
    message = f"{out.sum():,} older rows are left out: a near-duplicate of theirs or a row of their group is among the test rows"
    advice = "this keeps the test rows new; without a group only near-duplicates are left out"
    found = finding("left-out", "info", message, advice, rows.row_ids[out])
    return rows.take(~out), sides[~out], near[~out], [found]


def _name(source: str) -> str:
    return Path(source).name.split(".")[0] or "task"

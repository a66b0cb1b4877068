"""Task: a table whose columns have roles, split so that the test rows stay locked; and Examples, its rows for a method.

The test split is named by a digest of its rows, and every look at it is counted (`core/rundir` keeps the count).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from basewise.core.cells import apart
from basewise.core.hashing import digest_json, digest_texts, text_key

UNLABELLED = -1
COLUMNS = "columns"
"""What rows provide whose texts come from two columns or more."""


@dataclass(frozen=True, repr=False)
class Examples:
    """n rows for a method. texts: n strings; labels (n,) int64 index into `classes`, -1 unknown; ids and groups (n,).

    `inputs`: the columns that the texts were joined from, () where there was one.
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    row_ids: np.ndarray
    groups: np.ndarray
    classes: tuple[str, ...]
    inputs: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    # without the rows: they belong in no log
    def __repr__(self) -> str:
        return f"Examples({len(self):,} rows, {len(self.classes)} classes)"

    def take(self, index: np.ndarray) -> Examples:
        """The rows at `index` (positions or a boolean mask), in that order."""
        index = np.flatnonzero(index) if index.dtype == bool else index
        texts = tuple(self.texts[i] for i in index)
        rest = (self.labels[index], self.row_ids[index], self.groups[index])
        return Examples(texts, *rest, self.classes, self.inputs)

    @property
    def provides(self) -> frozenset[str]:
        """What these rows have that a method may require: several columns."""
        return frozenset({COLUMNS}) if len(self.inputs) > 1 else frozenset()

    def read_by(self, requires: frozenset[str]) -> tuple[str, ...]:
        """The texts whose features a method with these requirements reads: the rows, and their columns apart where it compares them."""
        return (*self.texts, *apart(self.texts, self.inputs)) if COLUMNS in requires else self.texts

    @property
    def counts(self) -> np.ndarray:
        """(C,) labelled rows a class."""
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes))

    def digest(self) -> str:
        return digest_json([digest_texts(self.texts), self.labels.tolist(), list(self.classes)])


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing the audit found. `severity` is "info", "warn" or "fail"; `rows` are row ids, at most 1,000 kept."""

    check: str
    severity: str
    message: str
    advice: str = ""
    rows: tuple[int, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, repr=False)
class Task:
    """A classification task over texts: what is read, what is predicted, how it is split, what the audit found.

    `rows`: all usable rows; `split` (n,) of "train" | "test"; `metadata`: other columns, for slices, by name (n strings each).
    """

    name: str
    inputs: tuple[str, ...]
    target: str
    rows: Examples
    split: np.ndarray
    split_how: str
    source: str = ""
    roles: dict[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    metadata: dict[str, tuple[str, ...]] = field(default_factory=dict)
    kind: str = "classify"

    def __repr__(self) -> str:
        tests = int((self.split == "test").sum())
        return (
            f"Task({self.name!r}: {len(self.rows):,} rows, {len(self.classes)} classes of {self.target!r} from"
            f" {', '.join(map(repr, self.inputs))}; split by {self.split_how}, {tests:,} test rows; {len(self.findings)} findings)"
        )

    def __str__(self) -> str:
        """What it is, then a line a finding."""
        return "\n".join([repr(self), *(f"  {f.severity} {f.check}: {f.message}" for f in self.findings)])

    @property
    def classes(self) -> tuple[str, ...]:
        return self.rows.classes

    @property
    def split_said(self) -> str:
        """How it is split, with the column that says so: "chance", "group by customer", "time by date, rows of one customer together"."""
        of = {role: self._column_of(role) for role in ("group", "time", "split")}
        column = of.get({"given": "split"}.get(self.split_how, self.split_how))
        said = f"{self.split_how} by {column}" if column else self.split_how
        # one that was only guessed does not bind a split by time
        group = of["group"]
        together = group and (self.split_how == "chance" or self.roles[group].endswith("(given)"))
        return (
            f"{said}, rows of one {group} together"
            if together and self.split_how in ("chance", "time")
            else said
        )

    @property
    def reading(self) -> str:
        """One line: the columns that are read and predicted, and the split."""
        return f"reads: {', '.join(self.inputs)}; predicts: {self.target}; split: {self.split_said}"

    def _column_of(self, role: str) -> str | None:
        return next((name for name, said in self.roles.items() if said.startswith(f"{role} (")), None)

    @property
    def train(self) -> Examples:
        return self.rows.take(self.split == "train")

    def test(self) -> Examples:
        """The locked rows. Only steps/evaluate calls this, and counts it."""
        return self.rows.take(self.split == "test")

    def test_digest(self) -> str:
        """The locked rows, their texts and labels, whatever their order and that of the classes: looks at them are counted by it."""
        rows = self.test()
        return digest_json(
            sorted(text_key(t).hex() + rows.classes[c] for t, c in zip(rows.texts, rows.labels, strict=True))
        )

    def with_findings(self, findings: tuple[Finding, ...]) -> Task:
        return replace(self, findings=findings)

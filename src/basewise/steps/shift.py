"""evaluate --shift: one adapted predictor on rows of another origin whose labels are mapped, against words and against prompting.

All arms learnt from the same train rows of the run and answer the same new rows, so the differences are paired. The drop from
the run's own test rows compares different rows: its interval is Newcombe's from that of each score.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import SCORE, Base
from basewise.core.decision import Decision
from basewise.core.errors import InputError, RunError, UnknownName
from basewise.core.files import Progress, read_json, silent, write_json
from basewise.core.hashing import seed_from
from basewise.core.method import Context
from basewise.core.registry import part
from basewise.core.task import Examples
from basewise.stats import paired
from basewise.stats.intervals import Interval, newcombe, share_of
from basewise.steps import evaluate as tables
from basewise.steps.measures import difference, interval_of
from basewise.steps.predict import find_base, load, predictor_folder

MOST_SHOWN = 400
"""Train rows for the prompt at most: it shows a few and judges by a few more."""


def read_mapping(text: str) -> dict[str, str]:
    """ "joy=positive,anger=negative" as a mapping from the rows' labels to the predictor's classes."""
    found: dict[str, str] = {}
    for pair in text.split(","):
        theirs, sign, ours = (piece.strip() for piece in pair.partition("="))
        if not (theirs and sign and ours):
            raise InputError(
                f"cannot read {pair.strip()!r} in the mapping of labels",
                "write it like joy=positive,anger=negative: the rows' label, then the predictor's class",
            )
        if found.setdefault(theirs, ours) != ours:
            raise InputError(
                f"the mapping gives {theirs!r} two classes, {found[theirs]!r} and {ours!r}",
                "name every label of the rows once",
            )
    return found


def shift(
    run: str | Path,
    rows: Any,
    mapping: dict[str, str],
    *,
    target: str | None = None,
    base: Base | None = None,
    group: str | None = None,
    to: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Score the run's predictor, words and a prompted base on rows whose labels are renamed by `mapping`.

    base: whom to prompt; the predictor's own where it can be asked. Rows whose label is neither mapped nor a class are left out
    and counted. group: column whose rows belong together. Returns {"arms": [{"name", "score"}], "differences", "drop", "n",
    "left_out", "notes"}. Raises UnknownName for a class that the predictor does not have, RunError where the run holds no train rows.
    """
    from basewise.core.table import read_table

    predictor = load(run)
    for name in mapping.values():
        if name not in predictor.classes:
            raise UnknownName.of("class", name, predictor.classes)
    records = read_table(rows).records()
    column = target or predictor.record.get("target") or _target(run)
    renamed = mapped(records, column, mapping)
    texts, labels, kept = tables.labelled_rows(renamed, predictor, column, run)
    groups = tables.groups_in(renamed, kept, group) if group else None
    train = train_rows(run, tuple(predictor.classes))
    own = predictor.fitted.probabilities(texts)
    right = {"adapted": own.argmax(1) == labels}
    notes = []
    if len(only := np.unique(labels)) == 1:
        name = predictor.classes[only[0]]
        notes.append(f"All rows are {name!r}: a score is how often that was said, whatever the text.")
    asked = base or find_base(predictor.record["base"])
    for name, method, on in (("words", "words", None), ("prompted", "prompt", asked)):
        if method == "prompt" and (on is None or SCORE not in on.provides):
            notes.append("No base was prompted: the predictor's cannot score text; name one with --base.")
            continue
        progress(0, 0, f"{name} on the train rows of the run")
        some = train if method == "words" else first_of_each(train, MOST_SHOWN)
        seed = seed_from("shift", method, some.digest())
        fitted = part("methods", method).fit(some, on, Context(seed=seed, progress=progress))
        right[name] = fitted.probabilities(texts).argmax(1) == labels
    result = {
        "run": str(run),
        "n": len(labels),
        "left_out": len(records) - len(kept),
        "notes": notes,
        **compared(right, groups),
    }
    result["drop"] = drop(run, right["adapted"], groups)
    if to is not None:
        write_json(Path(to), result)
    return result


def mapped(records: list[dict[str, Any]], column: str, mapping: dict[str, str]) -> list[dict[str, Any]]:
    """The rows with the mapped labels; UnknownName for a label of the mapping that no row has."""
    own = [tables.label_in(record, column) if column in record else "" for record in records]
    for name in mapping:
        if records and column in records[0] and name not in own:
            raise UnknownName.of(f"label in {column!r},", name, set(own) - {""})
    return [
        {**record, column: mapping[name]} if name in mapping else record
        for record, name in zip(records, own, strict=True)
    ]


def compared(right: dict[str, np.ndarray], groups: np.ndarray | None = None) -> dict[str, Any]:
    """Scores of the arms, and the first less each other one, p adjusted by Holm; rows may come in groups (n,)."""
    names = list(right)
    gaps = [{"name": n, **difference(right[names[0]], right[n], groups)} for n in names[1:]]
    for gap, p in zip(gaps, paired.holm(np.array([g["p"] for g in gaps])), strict=True):
        gap["p_holm"] = float(p)
    return {
        "arms": [{"name": n, "score": interval_of(r, groups)} for n, r in right.items()],
        "differences": gaps,
    }


def drop(run: str | Path, right: np.ndarray, groups: np.ndarray | None = None) -> dict[str, Any] | None:
    """What the predictor scores here less what it scored on its own test rows; None where it was not tested."""
    path = predictor_folder(run).parent / "decision.json"
    decision = Decision.load(path) if path.exists() else None
    if decision is None or not decision.test:
        return None
    # its interval knows the groups of the test rows
    told = decision.accuracy[0]
    before = Interval(**{key: told[key] for key in ("estimate", "low", "high")}, n=decision.test["n"])
    found = newcombe(share_of(right, groups), before)
    return {
        "before": before.estimate,
        "estimate": found.estimate,
        "low": found.low,
        "high": found.high,
        "n": len(right),
    }


def train_rows(run: str | Path, classes: tuple[str, ...]) -> Examples:
    """The labelled train rows that the run kept, with the predictor's order of classes."""
    from basewise.core.taskfile import load_task

    folder = predictor_folder(run).parent
    if not (folder / "task.json").exists():
        raise RunError(f"{folder} holds no train rows", "give the run folder, not a copy of its predictor")
    task = load_task(folder)
    if task.classes != classes:
        raise RunError(f"the rows in {folder} have other classes than its predictor", "run choose again")
    return task.train.take(task.train.labels >= 0)


def first_of_each(rows: Examples, most: int) -> Examples:
    """At most so many rows, the classes in turn."""
    place = np.zeros(len(rows), int)
    for c in range(len(rows.classes)):
        here = np.flatnonzero(rows.labels == c)
        place[here] = np.arange(len(here))
    return rows.take(np.sort(np.argsort(place, kind="stable")[:most]))


def _target(run: str | Path) -> str:
    path = predictor_folder(run).parent / "task.json"
    if not path.exists():
        raise InputError("the target column is not known", "name it with --target")
    return str(read_json(path)["target"])

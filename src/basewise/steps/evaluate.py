"""evaluate: how good a predictor is on labelled rows, with an interval, and against another one row by row.

The functions that turn per-row outcomes into the report's tables (confusion, calibration, coverage, slices, lengths)
live here too, so that `choose`, `adapt` and `evaluate` say the same thing in the same words.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.cells import cell
from basewise.core.decision import Decision
from basewise.core.errors import InputError, RunError, TargetError, UnknownName
from basewise.core.evidence import Trial
from basewise.core.files import check_apart, write_json
from basewise.core.hashing import generator, text_key
from basewise.core.rundir import Looks, count_look
from basewise.core.task import Task
from basewise.core.taskfile import ROWS, load_task
from basewise.stats import calibration as calibrate
from basewise.stats import conformal
from basewise.steps.audit import MISSING_LABELS
from basewise.steps.measures import by_class, difference, interval_of, measured, plain

READ_ROWS = 100
PROMISED_RISK = 0.05


def confusion(labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """Counts (C, C), rows = true class."""
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (labels, probabilities.argmax(1)), 1)
    return {"classes": list(classes), "counts": counts.tolist()}


def calibration_table(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray | None = None
) -> dict[str, Any]:
    """Reliability bins and the debiased calibration error, each with its interval; rows may come in groups."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = calibrate.reliability(confidence, right, bins=10, clusters=groups)
    error = calibrate.ece_interval(confidence, right, clusters=groups)
    return {"bins": [asdict(b) for b in bins], "error": plain(error), "temperature": None}


def coverage_table(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray | None = None
) -> dict[str, Any]:
    """Risk at every share of rows answered, and the threshold that promises at most 5 % errors (95 % sure); rows may come in groups."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    coverage, risk = conformal.risk_coverage(confidence, right)
    points = min(len(coverage), 200)
    keep: np.ndarray = np.unique(np.linspace(0, max(len(coverage) - 1, 0), points).astype(int))
    promised = conformal.threshold_for_risk(confidence, right, PROMISED_RISK, 0.05, groups)
    threshold, covered = promised if promised is not None else (None, 0.0)
    return {
        "coverage": np.asarray(coverage)[keep].tolist(),
        "risk": np.asarray(risk)[keep].tolist(),
        "threshold": threshold,
        "promised_risk": PROMISED_RISK,
        "covered": covered,
    }


def slice_table(
    texts: tuple[str, ...],
    labels: list[str],
    wrong: np.ndarray,
    metadata: dict[str, tuple[str, ...]],
    groups: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Slices with more errors than the rest: found on one half of the rows, confirmed on the other; a group is in one half."""
    from basewise.stats.slices import find_slices, halves, text_predicates

    if len(texts) < 60:
        return []
    half = halves(len(texts), generator("slices", len(texts)), groups)
    found = find_slices(text_predicates(texts, labels, metadata), wrong, half, clusters=groups)
    lines = [asdict(s) for s in found]
    return [_slice_line(line) for line in lines][:30]


def _slice_line(line: dict[str, Any]) -> dict[str, Any]:
    error = line.pop("error", None)
    if isinstance(error, dict):
        line = {**line, "error": error["estimate"], "low": error["low"], "high": error["high"]}
    else:
        line["error"] = error
    return line


def length_table(
    tokens: np.ndarray, cut: np.ndarray, right: np.ndarray, groups: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """Accuracy by length in tokens (five equal shares of the rows), and how many rows of each lost text; rows may come in groups."""
    lines = []
    edges = (
        np.unique(np.quantile(tokens, np.linspace(0, 1, 6)).astype(int)) if len(tokens) else np.zeros(0, int)
    )
    if len(edges) == 1:
        edges = np.array([edges[0], edges[0]])
    for low, high, last in zip(edges[:-1], edges[1:], [False] * (len(edges) - 2) + [True], strict=True):
        inside = (tokens >= low) & ((tokens <= high) if last else (tokens < high))
        if inside.any():
            score = interval_of(right[inside], None if groups is None else groups[inside])
            upper = int(high if last else high - 1)
            lines.append(
                {
                    "tokens_from": int(low),
                    "tokens_to": upper,
                    "n": int(inside.sum()),
                    "accuracy": score["estimate"],
                    "low": score["low"],
                    "high": score["high"],
                    "cut": int(cut[inside].sum()),
                }
            )
    return lines


def suspect_rows(task: Task, arm: Trial | None) -> list[dict[str, Any]]:
    """The decision's labels to check first, by an arm's held-out answers; none without one."""
    from basewise.stats.noise import label_margins, label_suspects

    if arm is None:
        return []
    position = {int(r): i for i, r in enumerate(task.rows.row_ids)}
    margin = label_margins(arm.probabilities, arm.labels)
    return [
        {
            "row_id": int(arm.row_ids[i]),
            "text": task.rows.texts[position[int(arm.row_ids[i])]][:400],
            "label": task.classes[arm.labels[i]],
            "suggested": task.classes[int(arm.probabilities[i].argmax())],
            "margin": float(margin[i]),
        }
        for i in label_suspects(arm.probabilities, arm.labels)[:100]
    ]


def wrong_rows(
    row_ids: np.ndarray,
    texts: tuple[str, ...],
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: tuple[str, ...],
) -> list[dict[str, Any]]:
    """The mistakes made with the most confidence, for reading."""
    guesses = probabilities.argmax(1)
    wrong = np.flatnonzero(guesses != labels)
    wrong = wrong[np.argsort(-probabilities[wrong, guesses[wrong]], kind="stable")][:READ_ROWS]
    return [
        {
            "row_id": int(row_ids[i]),
            "text": texts[i][:400],
            "label": classes[labels[i]],
            "predicted": classes[guesses[i]],
            "probability": float(probabilities[i, guesses[i]]),
        }
        for i in wrong
    ]


def evaluate(
    run: str | Path | Decision,
    rows: Any,
    *,
    target: str | None = None,
    against: str | Path | Decision | None = None,
    group: str | None = None,
    query: str | None = None,
    to: str | Path | None = None,
) -> dict[str, Any]:
    """Score the predictor of a run on new labelled rows, and against another run's on the same rows, paired.

    rows: anything `read_table` reads, with the input columns and the target; of a database those of a query. group: column whose rows belong together (a customer) and
    count as many as they are worth. Returns {"score": interval, "metrics": {key: interval}, "classes": [a line each], "n", "groups",
    "calibration", "confusion", "against": {...}, "unknown_labels": rows left out for their label, "unlabelled": rows left out since they
    have none, "own": as `own_rows` has it, in "against" too}; written to `to` as JSON if given. Raises TargetError where no label is
    a class of the predictor, UnknownName for a column.
    """
    from basewise.core.table import read_table
    from basewise.steps.predict import folder_of, load

    run, against = folder_of(run), None if against is None else folder_of(against)
    if to is not None:
        check_apart(rows, Path(to))
    predictor = load(run)
    records = read_table(rows, query=query).records()
    target = target_of(predictor, target, run)
    texts, labels, kept = labelled_rows(records, predictor, target, run)
    empty = sum(label_in(record, target).lower() in MISSING_LABELS for record in records)
    # a class may be called so
    empty -= sum(label_in(records[i], target).lower() in MISSING_LABELS for i in kept)
    groups = groups_in(records, kept, group) if group else None
    probabilities = predictor.probabilities(texts)
    guesses = probabilities.argmax(1)
    result: dict[str, Any] = {
        "run": str(run),
        "n": len(labels),
        "groups": len(labels) if groups is None else len(np.unique(groups)),
        "score": interval_of(guesses == labels, groups),
        "metrics": measured(probabilities, labels, groups),
        "classes": by_class(labels, guesses, predictor.classes, groups),
        "calibration": calibration_table(labels, probabilities, groups),
        "confusion": confusion(labels, probabilities, predictor.classes),
        "unknown_labels": len(records) - len(kept) - empty,
        "unlabelled": empty,
        "own": own_rows(run, texts),
        "against": None,
    }
    if against is not None:
        theirs = _answers(load(against), texts, predictor.classes, str(against)).argmax(1) == labels
        gap = difference(guesses == labels, theirs, groups)
        result["against"] = {"run": str(against), "score": interval_of(theirs, groups), "difference": gap}
        result["against"]["own"] = own_rows(against, texts)
    if to is not None:
        write_json(Path(to), result)
    return result


def own_rows(run: str | Path, texts: list[str]) -> dict[str, int]:
    """{"train", "test": how many of the texts the run learned from or keeps locked, "looks", "looks_elsewhere": at the locked ones}.

    By text alone, whatever their labels are now. Locked rows among them are a look, which is counted. All 0 where the run's rows are not
    beside it.
    """
    from basewise.steps.predict import predictor_folder

    folder = predictor_folder(run).parent
    none = {"train": 0, "test": 0, "looks": 0, "looks_elsewhere": 0}
    if not (folder / ROWS).is_file():
        return none
    try:
        task = load_task(folder)
    except RunError:
        # its rows cannot be read, so nothing is known of them
        return none
    keys = [text_key(text.strip()) for text in task.rows.texts]
    sides = {side: {keys[i] for i in np.flatnonzero(task.split == side)} for side in ("train", "test")}
    asked = [text_key(text.strip()) for text in texts]
    locked = sum(key in sides["test"] for key in asked)
    learned = sum(key in sides["train"] and key not in sides["test"] for key in asked)
    looks = Looks(0, 0)
    if locked:
        # a folder that cannot be written keeps no count
        with contextlib.suppress(RunError):
            looks = count_look(folder, task.test_digest(), "evaluate")
    return {"train": learned, "test": locked, "looks": looks.total, "looks_elsewhere": looks.elsewhere}


def target_of(predictor: Any, target: str | None, run: str | Path) -> str:
    """The target column: as asked, else the one that the predictor or its run was made for; InputError where nobody knows it."""
    from basewise.core.files import read_json
    from basewise.steps.predict import predictor_folder

    target = target or predictor.record.get("target")
    if target is None:
        task_file = predictor_folder(run).parent / "task.json"
        target = read_json(task_file)["target"] if task_file.exists() else None
    if target is None:
        raise InputError("the target column is not known", "name it with --target")
    return target


def label_in(record: dict[str, Any], target: str) -> str:
    """The label of a row, "" where it has none."""
    return (cell(record.get(target)) or "").strip()


def places_of(names: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
    """{label: place of its class}: by name; a label that is no class by its value too, where that is one to one.

    The same file holds "True" and "1.0" as text and "true" and "1" once a frame has given them types.
    """
    index = {name: i for i, name in enumerate(classes)}
    found = {name: index[name] for name in set(names) if name in index}
    by_value: dict[Any, list[int]] = {}
    for i, name in enumerate(classes):
        by_value.setdefault(_value(name), []).append(i)
    others: dict[int, list[str]] = {}
    for name in sorted(set(names) - set(found)):
        places = by_value.get(_value(name), [])
        if len(places) == 1 and places[0] not in found.values():
            others.setdefault(places[0], []).append(name)
    return found | {same[0]: place for place, same in others.items() if len(same) == 1}


def _value(name: str) -> Any:
    """What a label stands for: a truth, a number, else itself."""
    if name.lower() in ("true", "false"):
        return name.lower()
    try:
        number = Decimal(name)
    except InvalidOperation:
        return name
    return number if number.is_finite() else name


def labelled_rows(
    records: list[dict[str, Any]], predictor: Any, target: str | None, run: str | Path
) -> tuple[list[str], np.ndarray, list[int]]:
    """Texts and labels of the rows whose label the predictor knows, and where they stand among the records."""
    from basewise.core.cells import join_inputs
    from basewise.steps.predict import _check_columns

    target = target_of(predictor, target, run)
    if not records:
        raise InputError("the table has no rows", "give a table with labelled rows")
    if target not in records[0]:
        raise UnknownName.of("column", target, records[0])
    _check_columns(records, predictor.inputs)
    names = [label_in(record, target) for record in records]
    index = places_of(names, predictor.classes)
    kept = [i for i, name in enumerate(names) if name in index]
    if not kept and all(name.lower() in MISSING_LABELS for name in names):
        raise TargetError(f"the target {target!r} has no value in any row", "give rows with labels")
    if not kept:
        raise TargetError(
            f"none of the labels in {target!r} is a class of this predictor ({', '.join(predictor.classes[:5])} …)",
            "map the labels to its classes first",
        )
    texts = [join_inputs(records[i], predictor.inputs) for i in kept]
    return texts, np.array([index[names[i]] for i in kept]), kept


def groups_in(records: list[dict[str, Any]], kept: list[int], column: str) -> np.ndarray:
    """(n,) groups of the kept records by a column; a row without a value is a group of its own."""
    from basewise.stats.benchmarks import own_clusters

    if column not in records[0]:
        raise UnknownName.of("column", column, records[0])
    return own_clusters([cell(records[i][column]) or "" for i in kept])


def _answers(other: Any, texts: list[str], classes: tuple[str, ...], name: str) -> np.ndarray:
    """(n, C) probabilities of another predictor, its classes in this order."""
    if set(other.classes) != set(classes):
        raise TargetError(f"{name} predicts other classes", "compare predictors of the same task")
    return np.asarray(other.fitted.probabilities(texts))[:, [other.classes.index(c) for c in classes]]

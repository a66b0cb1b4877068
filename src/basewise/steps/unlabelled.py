"""choose without labels: rows whose labels are only named. A zero-shot way is saved, and the verdict says that nothing is proven.

Three ways, one protocol of words and descriptions (`Wording`): a sentence encoder compares a text with the embedded label, a
decoder is asked for the label's words, a masked base fills them in. With no label nothing can be compared, so the order is a
prior: what usually does best without labels (see `prior`). How often the ways agree is measured on the rows and says how much
they can differ, not which is right; rows on which they disagree are the ones to label first.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import Base
from basewise.core.budget import Budget
from basewise.core.decision import Decision
from basewise.core.errors import BudgetError, InputError, UnknownName
from basewise.core.hashing import digest_json
from basewise.core.method import Wording, compatible
from basewise.core.registry import part
from basewise.core.rundir import RunDir, free_folder
from basewise.core.task import UNLABELLED, Examples, Task
from basewise.steps.jobs import Arm, Job, fit

ZERO_SHOT = ("prototype", "prompt", "fill")
SAMPLE_ROWS = 200
"""Rows on which the ways are compared with one another."""
LARGE = 3_000_000_000
"""Parameters from which a decoder that is asked does better than label names that are embedded."""
UNPROVEN = "unproven"


def few_labelled(source: Any, target: str | None, options: Any) -> Task | None:
    """The task of rows with too few labels to be compared on, for labels named in `options.wording`; None where there are enough.

    Raises UnknownName for a label in the rows that was not named, and for a target that is nearly a column.
    """
    names = tuple(name for name, _ in options.wording.words)
    sample = isinstance(source, str) and source == "sample"
    if len(names) < 2 or isinstance(source, Task) or sample:
        return None
    columns = _columns_of(source, target, options.query)
    target = _labels_in(columns, target, names)
    counts = Counter(v for v in columns.get(target or "", ()) if v)
    if sum(count >= 2 for count in counts.values()) >= 2 and counts.total() >= 4:
        return None
    return _task(source, columns, target, names, options)


def _columns_of(source: Any, target: str | None, query: str | None) -> dict[str, list[str]]:
    """Columns of single values as stripped strings, "" for a missing one; in the target also for what stands for a missing label."""
    import pyarrow as pa

    from basewise.core.table import read_table
    from basewise.steps.audit import MISSING_LABELS

    table = read_table(source, query=query)
    flat = [n for n in table.columns if not pa.types.is_nested(table.data.schema.field(n).type)]
    columns = {name: [(v or "").strip() for v in table.column(name)] for name in flat}
    if target in columns:
        columns[target] = ["" if v.lower() in MISSING_LABELS else v for v in columns[target]]
    return columns


def _labels_in(columns: dict[str, list[str]], target: str | None, names: tuple[str, ...]) -> str | None:
    """The column of the labels: the one given, else the first that holds named labels and nothing else; None where there is none."""
    if target in columns:
        return target
    filled = {column: {v for v in values if v} for column, values in columns.items()}
    found = next((column for column, said in filled.items() if said and said <= set(names)), None)
    # a name for the column that is to be predicted may stand nowhere in the table
    if target is not None and (found or get_close_matches(target, columns)):
        raise UnknownName.of("column", target, columns)
    return found


def _task(
    source: Any, columns: dict[str, list[str]], target: str | None, names: tuple[str, ...], options: Any
) -> Task:
    from basewise.core.roles import guess_roles
    from basewise.steps.audit import texts_of

    free = {name: values for name, values in columns.items() if name != target}
    inputs = [options.inputs] if isinstance(options.inputs, str) else list(options.inputs or [])
    if not inputs:
        roles = guess_roles({**free, "\0": list(names)}, target="\0")
        inputs = [name for name, role in roles.items() if role.role == "input"]
    for name in inputs:
        if name not in columns:
            raise UnknownName.of("column", name, columns)
    texts = texts_of(columns, inputs)
    keep = [i for i, text in enumerate(texts) if text.strip()]
    if not keep:
        raise InputError(f"all texts are empty in {' and '.join(inputs)}", "give rows with a text")
    given = columns[target] if target else [""] * len(texts)
    for label in {given[i] for i in keep} - {""}:
        if label not in names:
            raise UnknownName.of("label", label, names)
    labels = np.array([names.index(given[i]) if given[i] else UNLABELLED for i in keep], np.int64)
    ids = np.array(keep, np.int64)
    rows = Examples(tuple(texts[i] for i in keep), labels, ids, ids, names)
    name = Path(source).stem if isinstance(source, (str, Path)) else "rows"
    split = np.full(len(rows), "train")
    return Task(
        name=name,
        inputs=tuple(inputs),
        target=target or "label",
        rows=rows,
        split=split,
        split_how="none: there is nothing to test on",
        source=str(source) if isinstance(source, (str, Path)) else "",
    )


def prior(arm: Arm) -> tuple[int, int]:
    """What usually does best without labels, first: a large decoder asked, a sentence encoder's prototypes, a masked base,
    a small decoder asked, prototypes of the rest; among equals the larger base."""
    assert arm.base is not None
    card = arm.base.card
    order = {("prompt", "decoder"): 3, ("prototype", "encoder"): 1, ("fill", "encoder"): 2}
    place = order.get((arm.method, card.family), 4)
    if arm.method == "prompt" and card.parameters >= LARGE:
        place = 0
    if arm.method == "prototype" and "fill" in card.provides:
        # trained to fill masks, not to compare texts
        place = 4
    return place, -card.parameters


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One way on these rows: what it was predicted to cost, and what it gave on the sample, or why it did not run."""

    arm: Arm
    predicted: Any
    fitted: Any = None
    seconds: float = 0.0
    memory: float = 0.0
    each: float = 0.0
    answers: np.ndarray | None = None
    why: str = ""


def check_words(wording: Wording, classes: tuple[str, ...]) -> None:
    """A template or words for labels that cannot be used are refused before anything runs."""
    if wording == Wording():
        return
    from basewise.engine.prompting import check_wording

    check_wording(wording, classes)


def _arms(
    task: Task, tried: tuple[Any, Any], budget: Budget, options: Any
) -> tuple[list[Arm], list[Base], list[str]]:
    """What can be tried without labels, the likeliest first; the bases, and a note for each that was left out."""
    from basewise.steps.choose import get_bases

    names, methods = tried
    ways = [m for m in (methods or ZERO_SHOT) if m in ZERO_SHOT]
    if not ways:
        raise InputError(
            f"{', '.join(methods)} cannot learn from {int((task.rows.labels >= 0).sum())} labelled rows",
            f"label some, or take {', '.join(ZERO_SHOT)}, which need none",
        )
    bases, notes = get_bases(names, budget, options, task)
    arms = [
        Arm(method=m, base=b) for b in bases for m in ways if compatible(part("methods", m).REQUIRES, b.card)
    ]
    if not arms:
        raise InputError(
            f"no base here can be used by {', '.join(ways)}", "name one, such as --base minilm-l6"
        )
    return sorted(arms, key=prior), bases, notes


def zero_shot(
    task: Task, tried: tuple[Any, Any], budget: Budget, to: str | Path | None, options: Any
) -> Decision:
    """Fit the zero-shot ways that fit into the budget, save the likeliest; the Decision with the verdict "unproven"."""
    from basewise.engine.device import machine
    from basewise.steps.conclude import write_report
    from basewise.steps.predict import save_predictor

    started, began = dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), time.monotonic()
    check_words(options.wording, task.classes)
    arms, bases, notes = _arms(task, tried, budget, options)
    wording = options.wording
    identity = digest_json([task.rows.digest(), [a.name for a in arms], wording.template, wording.words])
    folder = Path(to) if to else free_folder(task.name, identity)
    with RunDir.open(folder, identity):
        if options.announce:
            options.announce(task.reading)
        found: list[Tried] = []
        for arm in arms:
            left = budget.seconds - (time.monotonic() - began)
            found.append(_try(arm, task, options, left, machine(), first=not found))
        done = [t for t in found if t.fitted is not None]
        if not done:
            raise BudgetError(f"nothing ran: {found[0].why}", "give a larger budget or another base")
        best = done[0]
        save_predictor(
            folder / "predictor",
            best.fitted,
            method=best.arm.method,
            base=best.arm.base,
            inputs=task.inputs,
            threshold=None,
        )
        used = {"seconds": budget.seconds, "used_seconds": time.monotonic() - began}
        decision = Decision(
            verdict=UNPROVEN,
            sentence=_sentence(task, best, done),
            chosen=best.arm.name,
            leaderboard=[_line(t, task) for t in found],
            budget={**used, "licences": list(budget.licences)},
            provenance=_provenance(task, bases, options, started),
            notes=[*_agreement(task, best, done), *notes],
            folder=str(folder),
        )
        decision.save(folder / "decision.json")
        write_report(decision, folder)
    return decision


def _try(arm: Arm, task: Task, options: Any, left: float, on: Any, first: bool) -> Tried:
    """Fit one way and answer the sample; the first of the order always runs."""
    from basewise.core.errors import BasewiseError
    from basewise.steps.predict import cache_folder

    assert arm.base is not None
    predicted = part("methods", arm.method).estimate(task.rows, arm.base.card, on)
    sample = task.rows.texts[:SAMPLE_ROWS]
    needed = predicted.seconds + len(sample) * predicted.predict_seconds_per_row
    if not first and needed > left:
        why = f"predicted {needed:.0f} s do not fit into the {max(left, 0):.0f} s left"
        return Tried(arm=arm, predicted=predicted, why=why)
    options.progress(0, 0, f"{arm.name} without labels")
    job = Job(arm=arm, train=task.rows, texts=(), features=cache_folder(), wording=options.wording)
    try:
        fitted, meter = fit(job, options.progress)
        began = time.monotonic()
        answers = np.asarray(fitted.probabilities(sample)).argmax(1)
    except BasewiseError as error:
        return Tried(arm=arm, predicted=predicted, why=str(error))
    each = (time.monotonic() - began) / len(sample)
    return Tried(
        arm=arm,
        predicted=predicted,
        fitted=fitted,
        seconds=meter.seconds,
        memory=meter.peak_bytes,
        each=each,
        answers=answers,
    )


def _sentence(task: Task, best: Tried, done: Sequence[Tried]) -> str:
    known = int((task.rows.labels >= 0).sum())
    labels = "no row is labelled" if not known else f"{known} labelled rows are too few to compare on"
    others = f", out of {len(done)} that ran" if len(done) > 1 else ""
    return (
        f"Nothing is proven, for {labels}: {best.arm.name} was saved, the way that usually does best without labels"
        f"{others}. Label a few rows of each class and run this again."
    )


def _agreement(task: Task, best: Tried, done: Sequence[Tried]) -> list[str]:
    """How often the saved way and each other one give the same label, and which rows to label first."""
    from basewise.stats.intervals import wilson

    notes, split = [], np.zeros(min(len(task.rows), SAMPLE_ROWS), int)
    for other in done[1:]:
        assert best.answers is not None
        assert other.answers is not None
        same = best.answers == other.answers
        split += ~same
        found = wilson(int(same.sum()), len(same))
        notes.append(
            f"{best.arm.name} and {other.arm.name} give the same label to {100 * found.estimate:.0f} %"
            f" [{100 * found.low:.0f}, {100 * found.high:.0f}] of {len(same)} rows; where they differ at least one is wrong."
        )
    if split.any():
        first = [int(task.rows.row_ids[i]) for i in np.argsort(-split, kind="stable")[:10] if split[i]]
        notes.append(f"Rows to label first, on which they differ most: {', '.join(map(str, first))}.")
    return notes


def _line(tried: Tried, task: Task) -> dict[str, Any]:
    """An entry of the leaderboard without a score."""
    arm, ran = tried.arm, tried.fitted is not None
    assert arm.base is not None
    return {
        "name": arm.name,
        "method": arm.method,
        "base": arm.base.key,
        "status": "finished" if ran else "skipped",
        "why": tried.why,
        "score": None,
        "seeds": 0,
        "seed_spread": None,
        "metrics": {},
        "probability_best": None,
        "difference": None,
        "seconds": tried.seconds if ran else None,
        "predicted_seconds": tried.predicted.seconds,
        "memory_bytes": tried.memory if ran else None,
        "predicted_memory_bytes": tried.predicted.memory_bytes,
        "milliseconds_per_row": 1e3 * tried.each if ran else None,
        "size_bytes": arm.base.card.download_bytes,
        "licence": arm.base.card.licence,
        "n_train": int((task.rows.labels >= 0).sum()),
        "choices": tried.fitted.choices if ran else {},
    }


def _provenance(task: Task, bases: list[Base], options: Any, started: str) -> dict[str, Any]:
    from basewise.steps.conclude import surroundings

    return {
        "task": task.name,
        "source": task.source,
        "rows": len(task.rows),
        "labelled": int((task.rows.labels >= 0).sum()),
        "split": task.split_how,
        "reading": task.reading,
        "classes": list(task.classes),
        "rows_digest": task.rows.digest(),
        "bases": {b.key: b.digest for b in bases},
        **surroundings(),
        "started": started,
        "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": options.command,
    }

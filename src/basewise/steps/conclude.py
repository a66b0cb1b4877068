"""conclude: from a race to the decision, the predictor and the report, with one look at the locked test rows."""

from __future__ import annotations

import datetime as dt
import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from basewise import __version__
from basewise.core.base import Base
from basewise.core.budget import Budget
from basewise.core.decision import Decision
from basewise.core.evidence import Trial, write_evidence
from basewise.core.registry import keys
from basewise.core.rundir import count_look
from basewise.core.task import Task
from basewise.engine.device import machine
from basewise.stats import paired
from basewise.stats.benchmarks import visible
from basewise.stats.intervals import class_error, independent_rows
from basewise.stats.power import smallest_gap
from basewise.steps import evaluate as tables
from basewise.steps import worth
from basewise.steps.entries import SPARE_SHARE, Entry, limit_of
from basewise.steps.jobs import Arm, Job, feature_store, fit
from basewise.steps.measures import (
    by_class,
    classes_for,
    difference,
    interval_of,
    measured,
    name_of,
    scores_of,
)
from basewise.steps.predict import cache_folder, save_predictor
from basewise.steps.race import Race
from basewise.steps.verdict import Standing, half_tried, leaderboard, saving, sentence, speaks_of_rows, stand


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a run was asked to do. `options`: ChooseOptions; `unfinished`: stopped by hand; `started`: ISO time."""

    budget: Budget
    options: Any
    bases: list[Base]
    methods: Any
    started: str
    seed: int
    unfinished: bool = False


def conclude(task: Task, race: Race, ranks: list[dict[str, Any]], notes: list[str], about: Setup) -> Decision:
    """Everything after the race: predictor, test look, labels saved, tables, report."""
    folder = race.run.folder
    trials = race.trials()
    standing = stand(trials, about.seed, metric=race.metric)
    if about.options.asked is not None:
        standing = saving(standing, about.options.asked, trials, notes, about.unfinished)
    chosen = next(e for e in race.entries if e.arm.name == standing.chosen.name)
    coverage = tables.coverage_table(
        standing.chosen.labels, standing.chosen.probabilities, standing.chosen.groups
    )
    race.progress(0, 0, f"fitting {chosen.arm.name} on all train rows")
    fitted, meter = fit(final_job(race, chosen), race.progress)
    base = chosen.arm.base
    save_predictor(
        folder / "predictor",
        fitted,
        method=chosen.arm.method,
        base=base,
        inputs=task.inputs,
        threshold=coverage["threshold"],
    )
    test, curves, saved, stopped = measure(task, race, chosen, fitted, about, notes)
    if race.metric != "accuracy":
        notes.append(
            f"Chosen by {name_of(race.metric)}; labels saved, calibration, abstention and slices still count right answers."
        )
    board = leaderboard(trials, standing, {b.key: b.card for b in about.bases})
    if (ahead := ahead_but_late(race, chosen, about.unfinished)) is not None:
        notes.insert(0, ahead)
    notes = [*standing_notes(standing, test, trials, bool((task.split == "test").any())), *notes]
    bare = standing.verdict != "no base helps" and bool(half_tried(trials))
    # whether a base would help
    open_ = standing.chosen.base is None and (bare or ahead is not None)
    budget = budget_table(about.budget, race, trials, meter.peak_bytes, notes)
    write_evidence(folder / "evidence.parquet", trials)
    decision = Decision(
        verdict="unfinished" if stopped else standing.verdict,
        sentence=sentence(standing, test, saved, stopped or open_),
        chosen=standing.chosen.name,
        metric=race.metric,
        tied=standing.tied,
        winner=standing.winner,
        leaderboard=board,
        test=test,
        ranks=ranks,
        curves=curves,
        labels_saved=saved,
        coverage=coverage,
        audit=[{**asdict(f), "n_rows": len(f.rows), "rows": list(f.rows[:20])} for f in task.findings],
        budget=budget,
        provenance=provenance(task, about),
        notes=notes,
        folder=str(folder),
        **row_tables(task, standing.chosen, base, notes),
        suspects=tables.suspect_rows(task, speaks_of_rows(standing, trials)),
    )
    decision.save(folder / "decision.json")
    write_report(decision, folder)
    return decision


def write_report(decision: Decision, folder: Path) -> None:
    """report.html beside the decision. The renderer lives a layer above, so it is found by name, not imported."""
    import importlib

    importlib.import_module("basewise.web.report").write_report(decision, folder / "report.html")


def final_job(race: Race, entry: Entry) -> Job:
    """The arm fitted on all train rows; what time is left it may use, for the test rows too."""
    spare = SPARE_SHARE * (race.clock.left - race.last_seconds(entry))
    return replace(
        race.job_of(entry.arm, race.train),
        spare=max(0.0, spare),
        seconds=limit_of(race, entry),
        answers=race.look_rows,
    )


def measure(
    task: Task, race: Race, chosen: Entry, fitted: Any, about: Setup, notes: list[str]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], bool]:
    """(look at the test rows, learning curves, labels saved, whether the run was stopped by hand) once the predictor is saved.

    Ctrl-C ends it, and the decision goes without what was still to be measured; a race that was stopped gets no curves.
    """
    test: dict[str, Any] = {}
    before = "before the locked test rows were answered in full"
    try:
        if (task.split == "test").any():
            test = look_at_test(task, race, chosen, fitted)
        before = "before the labels saved were measured"
        if about.options.curves and not about.unfinished:
            return test, *labels_saved(race, chosen, notes), False
    except KeyboardInterrupt:
        notes.append(f"Stopped by hand {before}; the choice stands, and the same command goes on from here.")
        return test, {}, {}, True
    return test, {}, {}, about.unfinished


def look_at_test(task: Task, race: Race, chosen: Entry, fitted: Any) -> dict[str, Any]:
    """One look at the test rows by the chosen arm and the finished controls that need no base, counted."""
    rows = task.test()
    rows = rows.take(rows.labels >= 0)
    folder = race.run.folder
    unseen = not (folder / "decision.json").exists()
    looks = count_look(folder, task.test_digest(), f"choose: {chosen.arm.name}", unseen)
    answers = {chosen.arm.name: fitted.probabilities(rows.texts)}
    for entry in race.entries:
        if entry.arm.base is None and entry is not chosen and entry.status == "finished":
            control, _ = fit(final_job(race, entry))
            answers[entry.arm.name] = control.probabilities(rows.texts)
    names = list(answers)
    scores = {name: scores_of(race.metric, answers[name], rows.labels) for name in names}
    known = rows.groups, classes_for(race.metric, rows.labels)
    gaps = [difference(scores[names[0]], scores[name], *known) for name in names[1:]]
    adjusted = paired.holm(np.array([g["p"] for g in gaps])) if gaps else np.zeros(0)
    return {
        "n": len(rows),
        "groups": len(np.unique(rows.groups)),
        "looks": looks.total,
        "looks_elsewhere": looks.elsewhere,
        "digest": task.test_digest(),
        **power(scores, rows, race.metric),
        "scores": [
            {
                "name": n,
                **interval_of(scores[n], *known),
                "metrics": measured(answers[n], rows.labels, rows.groups),
            }
            for n in names
        ],
        "differences": [
            {"name": n, **gap, "p_holm": float(p)}
            for n, gap, p in zip(names[1:], gaps, adjusted, strict=True)
        ],
    }


def power(scores: dict[str, np.ndarray], rows: Any, metric: str) -> dict[str, Any]:
    """How small a difference of the first arm to the best other one so many rows show, as the decision's schema has it."""
    first, *rest = scores
    groups, together = rows.groups, len(np.unique(rows.groups))
    if not rest:
        return {"worth": together, "smallest_gap": smallest_gap(together)}
    against = max(rest, key=lambda name: scores[name].mean())
    gap = scores[first] - scores[against]
    worth = independent_rows(gap, groups)
    if metric != "accuracy":
        seen = visible(*class_error(gap, rows.labels, groups))
        return {"against": against, "worth": worth, "smallest_gap": seen if seen <= 1 else None}
    # none that disagrees would promise too much
    apart = max(float((gap != 0).mean()), 1.0 / len(gap))
    return {
        "against": against,
        "discordance": apart,
        "worth": worth,
        "smallest_gap": smallest_gap(worth, apart),
    }


def labels_saved(race: Race, chosen: Entry, notes: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Learning curves of the chosen arm, of words and of the same network from random weights, as the budget allows."""
    fold = race.wanted[0]
    rows = race.rows_of(fold)
    counts = worth.label_counts(len(rows[0]), len(rows[0].classes))
    curves: dict[str, dict[str, Any]] = {}
    if len(counts) < 3 or chosen.arm.base is None:
        return {}, {}
    scratch = Arm(method="scratch", base=chosen.arm.base) if "scratch" in keys("methods") else None
    wanted = [(chosen.arm.name, chosen.arm, 0.5), ("words", Arm(method="words"), 0.3)]
    if scratch is not None and chosen.arm.base.card.family != "static":
        wanted.append(("scratch", scratch, 0.9))
    for name, arm, share in wanted:
        fits = worth.planned_fits(arm, rows, race, counts)
        draws = worth.affordable(fits, race.clock, share)
        if draws < 1:
            notes.append(
                f"No learning curve of {name}: {len(fits)} fits, predicted {max(fits.values()):.0f} s each, do not fit into the time left."
            )
            continue
        curve = worth.curve(arm, rows, fits, draws, race, race.progress)
        if curve is None:
            notes.append(f"The learning curve of {name} was given up: its fits took longer than planned.")
        else:
            curves[name] = curve
    saved: dict[str, Any] = {}
    for control in ("words", "scratch"):
        if chosen.arm.name in curves and control in curves and len(curves[control]["sizes"]) >= 3:
            saved[control] = worth.saved_labels(curves[chosen.arm.name], curves[control], control)
    plain = {name: {"sizes": c["sizes"], "errors": c["errors"]} for name, c in curves.items()}
    return plain, saved


def ahead_but_late(race: Race, chosen: Entry, stopped: bool = False) -> str | None:
    """The line that another arm was ahead of the one that was chosen, and only time ended it, or who stopped the race: of several the
    one that was furthest ahead. None where that is not so."""
    end = "the race was stopped: to go on" if stopped else "the time ran out: a larger budget"
    line, most = None, 0.0
    for entry in race.entries:
        if not entry.out_of_time or not entry.outcomes:
            continue
        theirs, ours = race.common(entry, chosen)
        if len(ours) and theirs.mean() - ours.mean() > most:
            most = theirs.mean() - ours.mean()
            line = (
                f"{entry.arm.name} was ahead of {chosen.arm.name} on the {len(ours):,} rows it was scored on"
                f" ({100 * theirs.mean():.1f} and {100 * ours.mean():.1f} %) when {end} may decide otherwise."
            )
    return line


def standing_notes(standing: Standing, test: dict[str, Any], trials: list[Trial], locked: bool) -> list[str]:
    """What the reader must not miss. `locked`: whether there are test rows."""
    notes, on_bases = [], [t for t in trials if t.base and len(t.row_ids)]
    by = "" if standing.metric == "accuracy" else f" in {name_of(standing.metric)}"
    if not on_bases:
        notes.append("No base was tried, so whether one would help is open.")
    elif standing.verdict == "no base helps":
        notes.append("No base tried is shown to be worth its cost beside a control that needs none.")
    if on_bases and standing.chosen.base is None and (half := half_tried(trials)):
        were, they = ("was", "it") if len(half) == 1 else ("were", "they")
        notes.append(f"{', '.join(half)} {were} not tried in full, so whether {they} would help is open.")
    notes += standing.leads_by_luck(by)
    if standing.aside:
        notes.append(
            f"{' and '.join(standing.aside)} gave every row the same label and came within a point{by}; {standing.chosen.name} is shown to tell"
            " rows apart (log-loss), so it was taken. Where the rare class matters, choose by balanced_accuracy or macro_f1."
        )
    if not test:
        corrected = " and corrected for the choice" if standing.chosen is standing.leader else ""
        why = "No look at the locked test rows is told" if locked else "There were no locked test rows"
        notes.append(f"{why}: the score is cross-validated{corrected}.")
    notes += [
        f"{t.base} + {t.method}, rows shown that are nearest to each text: {t.choices['nearest']}."
        for t in on_bases
        if t.choices.get("nearest")
    ]
    notes += [
        f"On the test rows the advantage over {gap['name']}{by} is not proven:"
        f" {100 * gap['estimate']:+.1f} points [{100 * gap['low']:.1f}, {100 * gap['high']:.1f}]."
        for gap in test.get("differences", [])
        if gap["low"] <= 0
    ]
    return notes


def row_tables(task: Task, chosen: Trial, base: Any, notes: list[str]) -> dict[str, Any]:
    """The report's tables from the chosen trial's held-out rows."""
    position = {int(r): i for i, r in enumerate(task.rows.row_ids)}
    index = np.array([position[int(r)] for r in chosen.row_ids])
    texts = tuple(task.rows.texts[i] for i in index)
    labels, probabilities, classes = chosen.labels, chosen.probabilities, task.classes
    right = probabilities.argmax(1) == labels
    metadata = {name: tuple(values[i] for i in index) for name, values in task.metadata.items()}
    lengths: list[dict[str, Any]] = []
    if base is not None:
        features = feature_store(cache_folder()).features(base, texts)
        tokens = np.asarray(features.tokens)
        limit = min(int(chosen.choices.get("read_tokens", base.card.context)), base.card.context)
        # a method may read less than its base could
        cut = np.asarray(features.cut) | (tokens > limit)
        lengths = tables.length_table(tokens, cut, right, chosen.groups)
        if (many := int(cut.sum())) > 0:
            were = "was" if many == 1 else "were"
            notes.append(
                f"{many} of {len(texts)} rows {were} longer than {chosen.name} reads in full ({limit} tokens) and {were} cut."
            )
    return {
        "by_class": by_class(labels, probabilities.argmax(1), classes, chosen.groups),
        "confusion": tables.confusion(labels, probabilities, classes),
        "calibration": {
            **tables.calibration_table(labels, probabilities, chosen.groups),
            "temperature": chosen.choices.get("temperature"),
        },
        "slices": tables.slice_table(texts, [classes[i] for i in labels], ~right, metadata, chosen.groups),
        "lengths": lengths,
        "wrong": tables.wrong_rows(chosen.row_ids, texts, labels, probabilities, classes),
    }


def budget_table(
    budget: Budget, race: Race, trials: list[Trial], peak: int, notes: list[str]
) -> dict[str, Any]:
    """What was allowed and what was used; memory above what was allowed is noted."""
    peak = max([peak, *(int(t.cost.memory_bytes) for t in trials)])
    if budget.memory_bytes and peak > budget.memory_bytes:
        notes.append(
            f"The memory budget was not kept: {peak / 1e6:,.0f} MB at the peak, {budget.memory_bytes / 1e6:,.0f} MB were allowed."
        )
    return {
        "seconds": budget.seconds,
        "used_seconds": race.clock.used,
        "memory_bytes": budget.memory_bytes,
        "peak_memory_bytes": peak,
        "download_bytes": budget.download_bytes,
        "downloaded_bytes": None,
        "licences": list(budget.licences),
    }


def provenance(task: Task, about: Setup) -> dict[str, Any]:
    """What is needed to do it again."""
    return {
        "task": task.name,
        "source": task.source,
        "rows": len(task.rows),
        "train": int((task.split == "train").sum()),
        "test": int((task.split == "test").sum()),
        "split": task.split_how,
        "reading": task.reading,
        "roles": task.roles,
        "classes": list(task.classes),
        "rows_digest": task.rows.digest(),
        "bases": {b.key: b.digest for b in about.bases},
        "seed": about.seed,
        **surroundings(),
        "started": about.started,
        "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": about.options.command,
        "precision": {},
    }


def surroundings() -> dict[str, Any]:
    """The versions and the machine that a run had."""
    import importlib.metadata

    names = ("torch", "transformers", "scikit-learn", "numpy", "peft", "tokenizers")
    return {
        "versions": {"basewise": __version__, **{n: importlib.metadata.version(n) for n in names}},
        "machine": {
            **asdict(machine()),
            "platform": platform.platform(),
            "python": platform.python_version(),
        },
    }

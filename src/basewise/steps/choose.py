"""choose: which base, adapted how, how good, how sure, at what cost, and whether a base was worth it at all.

The way: audit → bases (fetched under the budget) → one forward pass each → ranks → race → verdict → the winner fitted
on all train rows → one look at the locked test rows → labels saved → report. Every finished job is in the run
folder's journal, so the same command goes on where it was stopped; Ctrl-C ends with the best so far.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.base import Base
from basewise.core.budget import Budget, parse_seconds
from basewise.core.decision import Decision
from basewise.core.errors import BudgetError, InputError, RunError
from basewise.core.files import Progress, silent
from basewise.core.hashing import digest_json
from basewise.core.method import Machine, Wording, compatible, one_column
from basewise.core.registry import keys, part
from basewise.core.rundir import RunDir, check_place, free_folder
from basewise.core.table import read_table
from basewise.core.task import COLUMNS, Task
from basewise.engine.device import machine
from basewise.steps.conclude import Setup, conclude
from basewise.steps.elimination import drop_slow, rescue, stop
from basewise.steps.entries import Clock, Entry
from basewise.steps.fetch import get_bases
from basewise.steps.jobs import Arm, feature_store
from basewise.steps.measures import check_metric
from basewise.steps.passes import pay
from basewise.steps.predict import cache_folder
from basewise.steps.race import Race
from basewise.steps.shortlist import order_lines, rank_base, sample_rows
from basewise.steps.standings import note, used_before
from basewise.steps.unlabelled import check_words, few_labelled, zero_shot

# labels a class under which every score gets its spread over five draws
FEW = 64
FEW_TO_TUNE = 200
"""Labels a class under which a tuned body with a linear head is tried before tuning everything."""
ON_DECODERS = ("lora", "prompt")
"""What is tried on a decoder beside its features: tuning all of it costs too much where this package runs."""
FOLDS = 5
PLANNED = 3
"""Folds that a trained arm needs to be compared where labels are not few (there all are needed, to see the spread)."""


@dataclass(frozen=True, kw_only=True)
class ChooseOptions:
    """What few users need to set. `executor`: a key of parts/executors; `curves`: also measure the labels saved;
    `metric`: a key of parts/metrics to choose by, a share where higher is better; `asked`: a method that is raced to its end and saved
    whatever the verdict (what `adapt` sets)."""

    inputs: tuple[str, ...] | str | None = None
    group: str | None = None
    when: str | None = None
    split: str | None = None
    query: str | None = None
    budget: Budget | None = None
    executor: str = "here"
    workers: int = 2
    curves: bool = True
    metric: str = "accuracy"
    asked: str | None = None
    accept_terms: bool = False
    again: bool = False
    progress: Progress = silent
    announce: Any = None
    command: str = ""
    wording: Wording = field(default_factory=Wording)


def choose(
    source: Any,
    *,
    target: str | None = None,
    budget: str | float = "10m",
    bases: tuple[str, ...] | list[str] | str | None = None,
    methods: tuple[str, ...] | list[str] | str | None = None,
    to: str | Path | None = None,
    seed: int = 0,
    options: ChooseOptions | None = None,
) -> Decision:
    """Try bases and methods on a table of labelled rows under a budget; save the run, its report and its predictor.

    source: a Task, or anything `audit` reads ("sample" is the embedded one). budget: seconds of wall time as "90s", "10m",
    "1h". bases, methods: keys to try; None tries what is here and fits. to: run folder; None makes runs/<name>.
    Rows without labels will do where `options.wording` names the labels: nothing is then proven, and the verdict says so.
    Returns the Decision, whose `folder` holds report.html and predictor/. Raises BasewiseError in one line.
    """
    options = options or ChooseOptions()
    allowed = replace(options.budget or Budget(), seconds=parse_seconds(budget))
    check_budget(allowed)
    check_seed(seed)
    clock = Clock(started=time.monotonic(), seconds=allowed.seconds)
    started = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    bases, methods = ((one,) if isinstance(one, str) else one for one in (bases, methods))
    for key in methods or ():
        part("methods", key)
    check_metric(options.metric)
    check_workers(options.workers)
    if to:
        check_place(Path(to))
    # a pipe can be read once only
    if isinstance(source, str) and source == "-":
        source = read_table(source, query=options.query)
    if unlabelled := few_labelled(source, target, options):
        return zero_shot(unlabelled, (bases, methods), allowed, to, options)
    task = task_of(source, target, options, seed)
    check_asked(methods or (), task, options)
    if bases is None and methods and not any(part("methods", key).REQUIRES for key in methods):
        # nothing would use one, so none is fetched
        bases = ()
    found, notes = get_bases(bases, allowed, options, task)
    identity = identity_of(task, found, methods, seed, allowed, options)
    assigned = assign_folds(task, seed)
    folder = Path(to) if to else free_folder(task.name, identity)
    with RunDir.open(folder, identity) as run:
        # before the time is spent: a guess may be wrong
        if options.announce:
            options.announce(task.reading)
        known = folder / "decision.json"
        decision = Decision.load(known) if known.exists() else None
        # the budget is that of the run, not of a session
        if decision is None or decision.verdict == "unfinished":
            clock = replace(clock, earlier=used_before(folder))
        elif not options.again:
            return replace(decision, folder=str(folder))
        setup = Setup(
            budget=allowed, options=options, bases=found, methods=methods, started=started, seed=seed
        )
        return _run(task, assigned, run, clock, setup, notes)


def identity_of(
    task: Task, bases: list[Base], methods: Any, seed: int, budget: Budget, options: ChooseOptions
) -> str:
    """What makes a run the same one, so that it is gone on with: rows, split, groups, bases, methods, seed, budget and what decides."""
    parts: list[Any] = [task.rows.digest(), task.split.tolist(), [b.digest for b in bases], methods]
    parts += [seed, budget.seconds, options.curves]
    groups, limits = task.rows.groups, [budget.memory_bytes, budget.latency_seconds, sorted(budget.licences)]
    parts += [groups.tolist()] if len(np.unique(groups)) < len(groups) else []
    parts += [limits] if any(limits) else []
    parts += [asdict(options.wording)] if options.wording != Wording() else []
    parts += [options.metric] if options.metric != "accuracy" else []
    parts += [{"asked": options.asked}] if options.asked is not None else []
    return digest_json(parts)


def task_of(source: Any, target: str | None, options: ChooseOptions, seed: int = 0) -> Task:
    """The Task of a source."""
    if isinstance(source, Task):
        return source
    from basewise.steps.audit import AuditOptions, audit

    return audit(
        source,
        inputs=options.inputs,
        target=target,
        group=options.group,
        time=options.when,
        split=options.split,
        query=options.query,
        options=AuditOptions(seed=seed),
    )


def _run(
    task: Task, assigned: np.ndarray, run: RunDir, clock: Clock, setup: Setup, notes: list[str]
) -> Decision:
    """The race and its conclusion inside a locked run folder."""
    from basewise.steps.audit import save_task

    save_task(task, run.folder)
    race = make_race(task, assigned, run, clock, machine(), setup.options.progress)
    race.memory_bytes, race.wording = setup.budget.memory_bytes, setup.options.wording
    race.metric, race.asked = setup.options.metric, setup.options.asked
    race.look_rows, race.watch = int((task.split == "test").sum()), note
    ranks: list[dict[str, Any]] = []
    unfinished = False
    try:
        ranks = _race(race, setup, notes)
    except KeyboardInterrupt:
        unfinished = True
        notes.append("Stopped by hand: this is the best so far; the same command goes on from here.")
        stop(race)
        if not any(entry.status == "finished" for entry in race.entries):
            raise
    rescue(race, "the race was stopped" if unfinished else "the time was short")
    if setup.budget.latency_seconds is not None:
        drop_slow(race, setup.budget.latency_seconds)
    return conclude(task, race, ranks, notes, replace(setup, unfinished=unfinished))


def assign_folds(task: Task, seed: int) -> np.ndarray:
    """(n,) fold numbers of the labelled train rows; InputError where they are too few to be divided."""
    from basewise.core.split import folds

    train = task.train
    labelled = train.take(train.labels >= 0)
    classes = int((labelled.counts > 0).sum())
    if len(labelled) < 4 or classes < 2:
        raise InputError(
            f"{len(labelled)} labelled train rows in {classes} classes are too few",
            "label a few more rows",
        )
    return np.asarray(folds(labelled.labels, labelled.groups, FOLDS, seed))


def make_race(
    task: Task, assigned: np.ndarray, run: RunDir, clock: Clock, on: Machine, progress: Progress = silent
) -> Race:
    """Folds for these rows: five where labels are few, so that the spread is seen; fewer where one is precise enough."""
    train = task.train
    labelled = train.take(train.labels >= 0)
    counts = labelled.counts[labelled.counts > 0]
    present = [int(f) for f in np.unique(assigned)]
    few = float(np.median(counts)) < FEW
    wanted = present if few or len(labelled) < 1_500 else present[: 2 if len(labelled) < 4_000 else 1]
    return Race(
        train=labelled,
        folds=assigned,
        wanted=tuple(wanted),
        run=run,
        clock=clock,
        machine=on,
        features=cache_folder(),
        progress=progress,
        planned_folds=None if few else min(PLANNED, len(wanted)),
    )


def _race(race: Race, setup: Setup, notes: list[str]) -> list[dict[str, Any]]:
    """Controls first, then frozen methods on every base, then the trained ones on the promising bases."""
    methods, options = list(setup.methods or keys("methods")), setup.options
    controls = [m for m in methods if not part("methods", m).REQUIRES]
    frozen = [m for m in methods if part("methods", m).REQUIRES and part("methods", m).RUNGS == "none"]
    trained = [
        m for m in methods if part("methods", m).RUNGS == "rows" and (m != "scratch" or m == race.asked)
    ]
    for method in controls:
        race.enter(Arm(method=method))
    _run_plain(race, options, notes)
    store = feature_store(cache_folder())
    lines: list[dict[str, Any]] = []
    usable: list[Base] = []
    sample = sample_rows(race.train)
    for base in sorted(setup.bases, key=lambda b: b.card.parameters):
        paid = pay(race, base, store, frozen, usable)
        if isinstance(paid, str):
            notes.append(f"{base.key} was left out: {paid}.")
            continue
        lines.append({**rank_base(base, sample, store), **paid})
        usable.append(base)
        for method in frozen:
            if compatible(part("methods", method).REQUIRES, base.card, race.train.provides):
                race.enter(Arm(method=method, base=base))
        _run_plain(race, options, notes)
    ranks = order_lines(lines)
    raced = trained_arms(race, [line["base"] for line in ranks], usable, trained)
    if raced:
        race.run_raced(raced)
    scored = [e for e in race.entries if e.arm.base and e.status == "finished" and e.outcomes]
    for line in ranks:
        own = [race.score(e) for e in scored if e.arm.base and e.arm.base.key == line["base"]]
        line["came_out"] = max(own, default=None)
    return ranks


def _run_plain(race: Race, options: ChooseOptions, notes: list[str]) -> None:
    waiting = [e for e in race.entries if e.status == "waiting"]
    if options.executor != "here":
        try:
            prefetch(race, waiting, options)
        except RunError as error:
            # what was not done there is done here
            notes.append(
                f"{error.message[0].upper()}{error.message[1:]}: what it had to do was done without it."
            )
    for entry in waiting:
        race.run_plain(entry)


def prefetch(race: Race, entries: list[Entry], options: ChooseOptions) -> None:
    """Run the jobs of several arms through another executor into the journal, from where the race reads them."""
    from basewise.steps.jobs import keep
    from basewise.steps.jobs import run as run_job

    jobs = [race.job(e, fold) for e in entries for fold in race.wanted if race.fits(e, len(race.wanted))]
    jobs = [job for job in jobs if race.run.saved(job.name) is None]
    results = part("executors", options.executor).run(run_job, jobs, options.workers)
    for job, outcome in zip(jobs, results, strict=True):
        keep(race.run, job.name, outcome)


def trained_arms(race: Race, order: list[str], bases: list[Base], methods: list[str]) -> list[Entry]:
    """Trained methods on the promising bases, the likeliest first: contrast where labels are few, full where many.

    Bases stand in the order of what their frozen arms came to on these rows, ties in the order of the ranks.
    """
    from basewise.core.base import TRAIN

    few = float(np.median(race.train.counts[race.train.counts > 0])) < FEW_TO_TUNE
    liking = ["contrast", "full", "prompt", "fill", "lora"]
    liking = liking if few else ["full", "contrast", "lora", "prompt", "fill"]
    methods = sorted(methods, key=lambda m: liking.index(m) if m in liking else len(liking))
    frozen = {
        b.key: max((race.score(e) for e in race.entries if e.arm.base is b and e.outcomes), default=0.0)
        for b in bases
    }
    trainable = [b for b in bases if TRAIN in b.card.provides and b.card.family != "static"]
    trainable.sort(key=lambda b: (-frozen[b.key], order.index(b.key)))
    encoders = [b for b in trainable if b.card.family == "encoder"][:2]
    decoders = [b for b in trainable if b.card.family == "decoder"][:1]
    arms = [
        Arm(method=m, base=b)
        for b in encoders
        for m in methods
        if compatible(part("methods", m).REQUIRES, b.card)
    ]
    arms += [
        Arm(method=m, base=b)
        for b in decoders
        for m in methods
        if m in (*ON_DECODERS, race.asked) and compatible(part("methods", m).REQUIRES, b.card)
    ]
    first = {m: i for i, m in enumerate(methods)}
    arms.sort(
        key=lambda a: first[a.method] + (encoders.index(a.base) if a.base in encoders else len(encoders))
    )
    return [race.enter(arm) for arm in arms]


def check_asked(methods: Sequence[str], task: Task, options: ChooseOptions) -> None:
    """InputError for words of labels that the task has not, or a method that compares columns where one column is read."""
    check_words(options.wording, task.classes)
    for method in methods:
        if COLUMNS in part("methods", method).REQUIRES - task.rows.provides:
            raise one_column(method)


def check_seed(seed: int) -> None:
    """InputError for a seed that no generator takes."""
    if seed < 0:
        raise InputError(f"the seed must not be below zero, {seed} came", "0 is usual")


def check_workers(workers: int) -> None:
    """InputError for a number of workers that can do nothing."""
    if workers < 1:
        raise InputError(f"{workers} workers came, at least 1 was expected", "change workers")


def check_budget(budget: Budget) -> None:
    """A budget that cannot hold even the cheapest arm is refused before anything runs."""
    if budget.seconds < 1:
        raise BudgetError("a budget under one second holds nothing", "give at least 10s")

"""bench: what bases can do on standard tasks before anyone adapts them; every number with an interval, every gap paired.

The way: tasks → items and demonstrations by seed → questions (base x task x shots), each journalled when it is answered →
scores an item → tables → bench.json, items.parquet, bench.html. Ctrl-C keeps what is answered; the same command goes on.
"""

from __future__ import annotations

import datetime as dt
import importlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from basewise import __version__
from basewise.core.base import Base
from basewise.core.benchmark import Answers, Benchmark, Json, write_items
from basewise.core.errors import BasewiseError, InputError, RunError
from basewise.core.files import Progress, silent
from basewise.core.hashing import digest_json
from basewise.core.rundir import RunDir, check_place, free_folder
from basewise.core.suite import BenchTask, Data
from basewise.steps import bases as base_steps
from basewise.steps import bench_tables as tables
from basewise.steps.bench_ask import PROBED, Asker, Question, as_record, from_record, way, why_not
from basewise.steps.bench_items import Draw, draw, find_tasks
from basewise.steps.bench_tables import Cell

MOST_SHOTS = 1_000


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What few users set. `corpus`: texts to look for the items in; `announce`: told what is fetched."""

    data: str | Path | None = None
    corpus: str | Path | None = None
    seed: int = 0
    again: bool = False
    progress: Progress = silent
    announce: Any = None
    command: str = ""


def bench(
    bases: Sequence[str],
    suites: Sequence[str] = ("all",),
    *,
    shots: Sequence[int] | None = None,
    limit: int | None = None,
    to: str | Path | None = None,
    options: BenchOptions | None = None,
) -> Benchmark:
    """Ask every base every task of the suites; write the run folder and return the result.

    suites: keys, "all", or single tasks such as "bbh/navigate". shots: numbers of demonstrations; None is each task's usual
    one. limit: most items a task, drawn by seed; None is all. Raises BasewiseError in one line.
    """
    options = options or BenchOptions()
    wanted = check_numbers(shots, limit)
    if to:
        check_place(Path(to))
    if not bases:
        raise InputError("no base was named", "name one or more, such as smollm2-135m")
    if options.corpus is not None:
        from basewise.steps.bench_clean import corpus_files

        corpus_files(Path(options.corpus))
    cards = [base_steps.find(name) for name in dict.fromkeys(bases)]
    if twice := [card.key for i, card in enumerate(cards) if card.key in [c.key for c in cards[:i]]]:
        raise InputError(f"two bases go by the name {twice[0]}", "rename one of their folders")
    tasks = find_tasks(suites, Data.of(options.data))
    if not any(way_of_card(card, task) for card in cards for task in tasks):
        raise InputError(
            f"{cards[0].key} can {', '.join(sorted(cards[0].provides))}; {tasks[0].name} needs a base that can {', '.join(sorted(tasks[0].requires | {'score'}))}",
            "take a decoder such as smollm2-135m, or the suite classify",
        )
    found = [base_steps.pull(card, options.progress, announce=options.announce) for card in cards]
    draws = [draw(task, most_shots(task, wanted), limit, options.seed) for task in tasks]
    identity = digest_json(
        [[b.digest for b in found], [d.digest for d in draws], wanted, str(options.corpus or "")]
    )
    name = "bench-" + "-".join(one.replace("/", "-").replace(",", "-") for one in suites)
    folder = Path(to) if to else free_folder(name[:60], identity)
    with RunDir.open(folder, identity) as run:
        if (folder / "bench.json").exists() and not options.again:
            known = Benchmark.load(folder / "bench.json")
            if known.status == "finished" and not _outdated(known, options):
                return replace(known, folder=str(folder))
        return _run(found, draws, wanted, run, options)


def _outdated(known: Benchmark, options: BenchOptions) -> bool:
    """Whether a finished run has something to do: a question that failed, or a corpus whose files have changed."""
    if any(line.get("failed") for line in known.skipped):
        return True
    if options.corpus is None:
        return False
    from basewise.steps.bench_clean import corpus_state

    return bool(known.contamination.get("state") != corpus_state(Path(options.corpus)))


def check_numbers(shots: Sequence[int] | None, limit: int | None) -> tuple[int, ...] | None:
    """The numbers of demonstrations, sorted; InputError for what cannot be."""
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} leaves no item", "give --limit 1 or more")
    if shots is None:
        return None
    if not shots or any(not 0 <= k <= MOST_SHOTS for k in shots):
        raise InputError(
            f"{list(shots)} demonstrations cannot be given", f"name numbers from 0 to {MOST_SHOTS}"
        )
    return tuple(sorted(set(shots)))


def way_of_card(card: Any, task: BenchTask) -> str:
    """How a base with this card would be asked; empty where it cannot."""
    return way(Base(card=card, folder=Path(), digest=""), task)


def shots_for(task: BenchTask, wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    """Numbers of demonstrations at which a task is asked."""
    return (0,) if task.shotless else (task.shots,) if wanted is None else wanted


def most_shots(task: BenchTask, wanted: tuple[int, ...] | None) -> int:
    """Demonstrations to set aside."""
    return max(shots_for(task, wanted))


def standing(task: BenchTask, wanted: tuple[int, ...] | None) -> int:
    """The number of demonstrations that stands for a task in tables of suites: the one nearest to its usual one."""
    return min(shots_for(task, wanted), key=lambda k: (abs(k - task.shots), -k))


def questions(base: Base, draws: Sequence[Draw], wanted: tuple[int, ...] | None) -> list[Question]:
    """What one base is asked; a probe once, whatever the shots."""
    out = []
    for one in draws:
        numbers = shots_for(one.task, wanted)
        if how := way(base, one.task):
            out += [Question(base, one, k) for k in (numbers[:1] if how == PROBED else numbers)]
    return out


def _run(
    bases: list[Base], draws: list[Draw], wanted: tuple[int, ...] | None, run: RunDir, options: BenchOptions
) -> Benchmark:
    started = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    skipped: list[Json] = []
    kept: list[Answers] = []
    lines: list[Json] = []
    todo = {base.key: questions(base, draws, wanted) for base in bases}
    status = "finished"
    try:
        _answer(bases, todo, run, kept, skipped, options.progress)
    except KeyboardInterrupt:
        status = "unfinished"
        if not kept:
            raise
    if not kept:
        raise InputError(f"nothing could be asked: {skipped[0]['why']}", "take another base or other tasks")
    for base in bases:
        skipped += [
            {"base": base.key, "task": d.task.name, "why": why_not(base, d.task), "failed": False}
            for d in draws
            if not way(base, d.task)
        ]
        lines.append(base_line(base, [a for a in kept if a.base == base.key]))
    result = conclude(kept, draws, wanted, lines, options)
    provenance = {
        "started": started,
        "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": options.command,
        "seed": options.seed,
        "versions": {"basewise": __version__, "python": platform.python_version()},
        "machine": platform.machine(),
        "items": sum(len(d.task.items) for d in draws),
    }
    folder = run.folder
    result = replace(result, status=status, skipped=skipped, provenance=provenance, folder=str(folder))
    result = replace(result, notes=notes_of(result), sentence=sentence(result))
    result.save(folder / "bench.json")
    importlib.import_module("basewise.web.bench").write_page(result, folder / "bench.html")
    by_name = {d.task.name: d.task for d in draws}
    write_items(folder / "items.parquet", [(a, Cell.of(a, by_name[a.task]).scores.tolist()) for a in kept])
    return result


def _answer(
    bases: list[Base],
    todo: dict[str, list[Question]],
    run: RunDir,
    kept: list[Answers],
    skipped: list[Json],
    progress: Progress,
) -> None:
    """Every question, from the journal or from the base, into `kept`; one base is open at a time."""
    total = sum(q.weight for found in todo.values() for q in found if not run.saved(q.name))
    done = 0
    for base in bases:
        asker = Asker(base)
        for question in todo[base.key]:
            if saved := run.saved(question.name):
                kept.append(from_record(*saved))
                continue

            def part(at: int, of: int, _what: str, before: int = done, weight: int = question.weight) -> None:
                share = min(1.0, at / of) if of else 0.0
                progress(before + int(share * weight), total, "benchmark, characters read")

            part(0, 1, "")
            try:
                answers = asker.answer(question, part, run)
            except BasewiseError as error:
                name = question.draw.task.name
                skipped.append({"base": base.key, "task": name, "why": str(error), "failed": True})
            else:
                run.keep(question.name, *as_record(answers))
                kept.append(answers)
            done += question.weight


def base_line(base: Base, answers: list[Answers]) -> Json:
    """One line of the record about a base."""
    computed, unique = sum(a.computed for a in answers), sum(a.unique for a in answers)
    return {
        "name": base.key,
        "family": base.card.family,
        "parameters": base.card.parameters,
        "licence": base.card.licence,
        "digest": base.digest,
        "way": sorted({a.way for a in answers}),
        "precision": next((a.precision for a in answers if a.precision), ""),
        "seconds": sum(a.seconds for a in answers),
        "computed": computed,
        "redundancy": computed / unique if unique else None,
    }


def conclude(
    kept: list[Answers],
    draws: list[Draw],
    wanted: tuple[int, ...] | None,
    bases: list[Json],
    options: BenchOptions,
) -> Benchmark:
    """The tables of a run from its answers."""
    by_name = {d.task.name: d.task for d in draws}
    cells = [Cell.of(a, by_name[a.task]) for a in kept]
    shots_of = {name: standing(task, wanted) for name, task in by_name.items()}
    lines = tables.cell_table(cells)
    result = Benchmark(
        status="finished",
        sentence="",
        bases=bases,
        tasks=tables.task_table(cells),
        cells=lines,
        suites=tables.suite_table(cells, lines, shots_of),
        differences=tables.difference_table(cells, shots_of),
        curves=tables.curve_table(cells),
        scale=tables.scale_table(cells, {b["name"]: b["parameters"] for b in bases}),
    )
    if options.corpus is None:
        return result
    from basewise.steps.bench_clean import contamination, corpus_state, matches

    options.progress(0, 0, "looking for the items in the corpus")
    asked = {c.task.name: c.task for c in cells}
    corpus = Path(options.corpus)
    # before it is read: what changes meanwhile is looked at again
    state = corpus_state(corpus)
    found = contamination(cells, matches(list(asked.values()), corpus), corpus)
    return replace(result, contamination={**found, "state": state})


def notes_of(result: Benchmark) -> list[str]:
    """What the reader must not miss."""
    notes = []
    if result.status == "unfinished":
        notes.append(
            "Stopped by hand: these are the tasks that were answered; the same command goes on from here."
        )
    if any(line["way"] == "probe" for line in result.cells):
        notes.append(
            "Bases that only embed answered by a probe on 8 labelled rows a class, the others in context: not the same labels."
        )
    left: dict[str, list[Json]] = {}
    for line in result.skipped:
        left.setdefault(line["base"], []).append(line)
    for base, lines in left.items():
        asked, rest = ("one task", "") if len(lines) == 1 else (f"{len(lines)} tasks", "for instance ")
        notes.append(f"{base} was not asked {asked}: {rest}{lines[0]['why']}.")
    cut = [line for line in result.cells if line["note"]]
    notes += [f"{line['base']} on {line['task']}: {line['note']}." for line in cut[:5]]
    if len(cut) > 5:
        notes.append(f"{len(cut) - 5} more had fewer demonstrations than asked; see the report.")
    return notes


def sentence(result: Benchmark) -> str:
    """The result in one plain sentence."""
    tasks, names = len(result.tasks), [line["name"] for line in result.bases]
    items = sum(line["score"]["n"] for line in result.cells)
    done = f"{', '.join(names)} answered {items:,} items of {tasks} tasks"
    above = sum(
        bool(g := x["over_chance"]) and g["estimate"] > 0 and g["p_holm"] <= tables.ALPHA
        for x in result.cells
    )
    of = sum(bool(x["over_chance"]) for x in result.cells)
    if len(names) == 1 or not result.differences:
        return f"{done}; {above} of {of} scores are above guessing."
    better = {line["name"]: line["better"] for line in result.tasks}
    single = [d for d in result.differences if d["task"]]
    wins = [w for d in single if (w := tables.better_of(d, better[d["task"]]))]
    told = ", ".join(f"{name} better on {wins.count(name)}" for name in names if name in wins)
    return f"{done}; of {len(single)} paired comparisons {told or 'none shows a difference'}" + (
        f", {len(single) - len(wins)} cannot be told." if told else "."
    )


def load_run(folder: str | Path) -> Benchmark:
    """The result of a finished run; RunError where the folder holds none."""
    path = Path(folder) / "bench.json"
    if not path.exists():
        raise RunError(f"{folder} holds no benchmark", "give a folder that `basewise bench` has written")
    return replace(Benchmark.load(path), folder=str(folder))

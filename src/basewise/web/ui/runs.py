"""Runs: what lies in the folder of runs, and in which state each is; read anew for every page, kept nowhere.

State of a run: "waiting" (started, looks its table over), "running", "finished", "stopped" (by hand; the same command goes on),
"failed" (with its line). It is told from the folder and from the locks of living processes, so that runs of the
command line are seen just as those of the app.
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from basewise.core.benchmark import Benchmark
from basewise.core.decision import Decision
from basewise.core.errors import InputError, RunError, UnknownName
from basewise.core.files import read_json
from basewise.web.pretrain import read_metrics
from basewise.web.ui import jobs
from basewise.web.ui.jobs import Job

TASK_FORMAT = RACE_FORMAT = 1
KINDS = ("choose", "bench", "pretrain")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run folder. `kind`: "choose" | "bench" | "pretrain"; `sentence`: what came out, or what it is doing."""

    name: str
    folder: Path
    kind: str
    state: str
    sentence: str = ""
    job: Job | None = None
    changed: float = 0.0
    about: dict[str, Any] = field(default_factory=dict)


def folder_of(root: Path, name: str) -> Path:
    """The folder of a run; UnknownName (with the nearest names) where there is none."""
    folder = root / name
    known = names(root)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=2) or known[:4]
        fix = f"there are {', '.join(near)}" if near else "there are none yet; start one with New run"
        raise UnknownName(f"no run named {name!r} in {root}", fix)
    return folder


def names(root: Path) -> list[str]:
    """Names of all run folders, whatever the terminal called them, and of jobs whose folder is not made yet."""
    made = {p.name for p in root.iterdir() if shown(p.name) and kind_of(p)} if root.is_dir() else set()
    return sorted(made | {job.name for job in jobs.every(root) if job.kind in KINDS})


def free_name(root: Path, stem: str) -> str:
    """A name for a run that no other has."""
    taken = set(names(root))
    return next(n for n in (stem, *(f"{stem}-{i}" for i in range(2, 10_000))) if n not in taken)


def check_new(root: Path, name: str) -> None:
    """InputError for what is no name of a run, RunError for one that is taken."""
    if not jobs.NAME.fullmatch(name):
        raise InputError(f"{name!r} is no name for a run", "use letters, digits, dots and dashes")
    if name.startswith(jobs.RESERVED):
        raise InputError(f"{name!r} is a name for another kind of job", f"use one such as run-{name}")
    if name in names(root):
        raise RunError(
            f"a run named {name} is here already", f"give another name, such as {free_name(root, name)}"
        )


def shown(name: str) -> bool:
    """Whether a page can name a folder: it is not hidden, and its name is text."""
    return not name.startswith(".") and name.isprintable()


def kind_of(folder: Path) -> str:
    """What made a folder, from the files that only it writes; "" for any other folder."""
    marks = {
        "decision.json": "choose",
        "race.json": "choose",
        "task.json": "choose",
        "bench.json": "bench",
        "metrics.jsonl": "pretrain",
    }
    return next((kind for mark, kind in marks.items() if (folder / mark).is_file()), "")


def every(root: Path) -> list[Run]:
    """All runs, the latest first; one that cannot be read says so and hides no other."""
    found = []
    for name in names(root):
        try:
            found.append(_known(root, name))
        except RunError as error:
            folder = root / name
            found.append(
                Run(
                    name=name,
                    folder=folder,
                    kind=kind_of(folder),
                    state="unreadable",
                    sentence=str(error),
                    changed=age(folder),
                )
            )
    return sorted(found, key=lambda run: -run.changed)


def find(root: Path, name: str) -> Run:
    """A run and its state."""
    folder_of(root, name)
    return _known(root, name)


def _known(root: Path, name: str) -> Run:
    """The run of a name that `names` gave: the folder of runs is not listed again for each of them."""
    folder = root / name
    job = jobs.named(root, name, *KINDS)
    kind = kind_of(folder) or (job.kind if job else "choose")
    state, sentence = state_of(folder, kind, job)
    changed = max(age(folder), job.started if job else 0.0)
    return Run(name=name, folder=folder, kind=kind, state=state, sentence=sentence, job=job, changed=changed)


def age(folder: Path) -> float:
    """When something last changed in a folder, in seconds since 1970; 0 where there is none."""
    marks = ("decision.json", "bench.json", "race.json", "task.json", "metrics.jsonl")
    times = [(folder / mark).stat().st_mtime for mark in marks if (folder / mark).exists()]
    return max(times, default=folder.stat().st_mtime if folder.exists() else 0.0)


def state_of(folder: Path, kind: str, job: Job | None) -> tuple[str, str]:
    """(state, sentence) of a run."""
    alive = (
        job.alive
        if job
        else kind == "choose" and not (folder / "decision.json").exists() and jobs.held(folder / ".lock")
    )
    if alive:
        return ("running" if (folder / "race.json").exists() or kind != "choose" else "waiting"), doing(job)
    if job and (error := job.error) and job.exit_code != 130:
        return "failed", error
    if kind == "choose" and (folder / "decision.json").exists():
        verdict, said = _decided(folder, (folder / "decision.json").stat().st_mtime_ns)
        return ("stopped" if verdict == "unfinished" else "finished"), said
    if kind == "pretrain":
        return _pretraining(folder)
    if kind == "bench" and (folder / "bench.json").exists():
        result = benchmark_of(folder)
        return ("stopped" if result.status == "unfinished" else "finished"), result.sentence
    return (
        "stopped",
        "It was stopped before anything was decided; started again, it goes on from its journal.",
    )


@functools.lru_cache(maxsize=1024)
def _decided(folder: Path, _changed: int) -> tuple[str, str]:
    """Verdict and sentence, read once while the decision does not change on disk."""
    decision = decision_of(folder)
    return decision.verdict, decision.sentence


@functools.lru_cache(maxsize=64)
def _last_metrics(path: Path, _changed: int) -> dict[str, Any]:
    """The last whole line of a run's metrics, read once while they do not change on disk."""
    lines = read_metrics(path)
    return lines[-1] if lines else {}


def _pretraining(folder: Path) -> tuple[str, str]:
    """A pretraining run of the command line: its lock says whether it runs, its metrics how far it is."""
    path = folder / "metrics.jsonl"
    last = _last_metrics(path, path.stat().st_mtime_ns if path.exists() else 0)
    where = (
        f"Step {last['step']:,} of {last['total']:,}, loss {last['loss']:.3f}."
        if last.get("loss")
        else "No step yet."
    )
    if (folder / "pretrain.json").exists():
        return "finished", where
    return ("running" if jobs.held(folder / ".lock") else "stopped"), where


def doing(job: Job | None) -> str:
    """What a living job is at, in words."""
    said = job.progress if job else {}
    if not said:
        return "Starting." if job else "Running in another process."
    count = f": {said['done']:,} of {said['total']:,}" if said["total"] else ""
    return f"{said['what'][:1].upper()}{said['what'][1:]}{count}."


def decision_of(folder: Path) -> Decision:
    """The decision of a finished run; RunError where it is missing, damaged or of a newer version."""
    path = folder / "decision.json"
    if not path.exists():
        raise RunError(f"{folder.name} has no decision yet", "wait until the run has finished")
    task = folder / "task.json"
    if task.exists() and (made := read_json(task).get("format", 1)) > TASK_FORMAT:
        raise RunError(
            f"{folder.name} was written by a newer version (task format {made})",
            "upgrade basewise to read it",
        )
    value = read_json(path)
    unknown = (
        set(value) - set(Decision.__dataclass_fields__)
        if isinstance(value, dict)
        else {"nothing that is known"}
    )
    if unknown:
        raise RunError(
            f"the decision of {folder.name} holds {', '.join(sorted(unknown)[:3])}, which this version does not know",
            "upgrade basewise to read it",
        )
    try:
        return Decision(**value)
    except TypeError as error:
        raise RunError(
            f"the decision of {folder.name} is damaged: {error}", "run the same command again"
        ) from error


def benchmark_of(folder: Path) -> Benchmark:
    """A benchmark; RunError where it is damaged or of a newer version."""
    try:
        return Benchmark(**read_json(folder / "bench.json"))
    except TypeError as error:
        raise RunError(
            f"the benchmark in {folder.name} cannot be read: {error}", "upgrade basewise, or run it again"
        ) from error


def standings_of(folder: Path) -> dict[str, Any]:
    """Where the race of a run stands (steps/standings.py); empty before its first fit."""
    path = folder / "race.json"
    if not path.exists():
        return {}
    value = read_json(path)
    if value.get("format") != RACE_FORMAT:
        raise RunError(f"{folder.name} is run by another version of basewise", "upgrade basewise to watch it")
    return dict(value)

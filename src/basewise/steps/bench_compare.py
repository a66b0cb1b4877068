"""bench --compare: two finished runs on the items that both asked, paired item by item.

Runs of one base each are compared whatever their bases are; otherwise base by base of the same name. Rows come from items.parquet,
so the runs may be of different days, machines and versions: an item is the same where its digest is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.benchmark import Json, read_items
from basewise.core.errors import RunError
from basewise.core.suite import AUROC
from basewise.stats import benchmarks as stat
from basewise.stats.paired import holm
from basewise.steps.bench import load_run
from basewise.steps.bench_tables import ALPHA, better_of, plain

Key = tuple[str, str, int]


def compare_runs(first: str | Path, second: str | Path) -> Json:
    """Paired differences of run `first` minus run `second`: {"sentence", "notes", "differences"} as in Benchmark."""
    runs = [load_run(folder) for folder in (first, second)]
    names = [Path(first).name, Path(second).name]
    rows = [_by_cell(folder) for folder in (first, second)]
    bases = [list(dict.fromkeys(key[0] for key in found)) for found in rows]
    alone = len(bases[0]) == len(bases[1]) == 1
    pairs = [(bases[0][0], bases[1][0])] if alone else [(b, b) for b in bases[0] if b in bases[1]]
    if not pairs:
        raise RunError(
            f"{names[0]} and {names[1]} have no base in common: {', '.join(bases[0])} against {', '.join(bases[1])}",
            "compare runs of the same bases, or runs of one base each",
        )
    tasks = {task["name"]: task for run in runs for task in run.tasks}
    lines: list[Json] = []
    left_out = 0
    for a, b in pairs:
        for key, here in rows[0].items():
            there = rows[1].get((b, *key[1:]))
            if key[0] != a or there is None:
                continue
            line, missed = _pair(here, there, tasks[key[1]])
            left_out += missed
            if line:
                heads = [f"{name}: {base}" for name, base in zip(names, (a, b), strict=True)]
                lines.append({"a": heads[0], "b": heads[1], "shots": [key[2]] * 2, **line})
    if not lines:
        raise RunError(
            f"{names[0]} and {names[1]} have no item in common",
            "run both with the same suites, shots, limit and seed",
        )
    return _conclude(lines, tasks, left_out)


def _by_cell(folder: str | Path) -> dict[Key, dict[str, dict[str, Any]]]:
    """(base, task, shots) -> item digest -> row."""
    path = Path(folder) / "items.parquet"
    if not path.exists():
        raise RunError(f"{folder} holds no items.parquet", "run the benchmark again")
    found: dict[Key, dict[str, dict[str, Any]]] = {}
    for row in read_items(path):
        found.setdefault((row["base"], row["task"], row["shots"]), {})[row["item"]] = row
    return found


def _pair(here: dict[str, Any], there: dict[str, Any], task: Json) -> tuple[Json | None, int]:
    """(the line of one task with its differences under "rows", items that only one run has)."""
    both = [item for item in here if item in there]
    missed = len(here) + len(there) - 2 * len(both)
    if not both or (missed and task["measure"] in ("auroc", "bits per byte")):
        # such scores are made from all items of their own run
        return None, missed
    left, right = (np.array([rows[item]["score"] for item in both]) for rows in (here, there))
    clusters = stat.own_clusters([here[item]["cluster"] for item in both])
    found, p = stat.gap(left, right, clusters, task["measure"] == AUROC)
    head = {"suite": task["suite"], "measure": task["measure"], "task": task["name"]}
    more = {
        "smallest_gap": stat.smallest_paired_gap([left - right], [clusters]),
        "rows": (left - right, clusters),
    }
    return {**head, **plain(found), "p": p, **more}, missed


def _conclude(lines: list[Json], tasks: dict[str, Json], left_out: int) -> Json:
    """Means of suites, Holm over the tasks and over the suites, one sentence.

    A mean is over tasks with as many demonstrations: the same items with more of them are no further items.
    """
    groups: dict[tuple[str, str, str, str, int], list[Json]] = {}
    for line in lines:
        key = (line["a"], line["b"], line["suite"], line["measure"], line["shots"][0])
        groups.setdefault(key, []).append(line)
    whole = []
    for (a, b, suite, measure, shots), found in groups.items():
        parts = [line["rows"] for line in found]
        gap, p = stat.suite_gap([d for d, _ in parts], [c for _, c in parts])
        mean = {**plain(gap), "p": p}
        # the mean of one task is the task's
        if len(found) == 1:
            mean = {key: found[0][key] for key in mean}
        head = {"a": a, "b": b, "suite": suite, "measure": measure, "task": None, "shots": [shots] * 2}
        whole.append({**head, **mean, "smallest_gap": None})
    for entries in (lines, whole):
        for line, p in zip(entries, holm(np.array([x["p"] for x in entries])), strict=True):
            line["p_holm"] = float(p)
    lines = [{key: value for key, value in line.items() if key != "rows"} for line in lines]
    sure = [line for line in lines if line["p_holm"] <= ALPHA]
    first = sum(better_of(line, tasks[line["task"]]["better"]) == line["a"] for line in sure)
    second = sum(better_of(line, tasks[line["task"]]["better"]) == line["b"] for line in sure)
    total, asked = sum(line["n"] for line in lines), len({line["task"] for line in lines})
    at = "" if len(lines) == asked else f" in {len(lines)} comparisons"
    notes = [f"{left_out:,} items stand in one run only and were left out."] if left_out else []
    return {
        "sentence": f"{asked} tasks, {total:,} items in common{at}: the first is better on {first}, the second on {second}.",
        "notes": notes,
        "differences": [*whole, *lines],
    }

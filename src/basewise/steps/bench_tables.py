"""Tables of a benchmark: a score with its interval a cell, suites, paired gaps, curves over shots, trend over size.

Each is computed from per-item scores. p values that are read together are adjusted together (Holm): those against guessing
over the scores of a base on a suite, those between bases over all tasks and pairs, those between suites over all of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from basewise.core.benchmark import Answers, Json
from basewise.core.suite import AUROC, HALF, LOW, BenchTask
from basewise.stats import benchmarks as stat
from basewise.stats import intervals
from basewise.stats.intervals import Interval
from basewise.stats.paired import holm
from basewise.steps.bench_scores import chance, majority, measures, scores

ALPHA = 0.05
DISAGREE = 0.2
"""Share of items on which two bases are taken to differ in being right, where no second base says."""

LEAST_RATIO = 1.5
"""Between the largest and the smallest base: nearer sizes say nothing of a tenfold one."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The answers of one base to one task with so many shots, and their scores (n,) and clusters (n,)."""

    answers: Answers
    task: BenchTask
    scores: np.ndarray
    clusters: np.ndarray

    @classmethod
    def of(cls, answers: Answers, task: BenchTask) -> Cell:
        return cls(
            answers=answers,
            task=task,
            scores=scores(answers, task),
            clusters=stat.own_clusters(answers.clusters),
        )

    @property
    def group(self) -> tuple[str, str]:
        """(suite, measure): what may be averaged."""
        return self.task.suite, self.task.measure

    @property
    def shown(self) -> int:
        """Demonstrations in the prompts: as many as were asked for, or as fitted."""
        return self.answers.shots if self.answers.shown is None else self.answers.shown


def repeated(cells: Sequence[Cell]) -> dict[int, int]:
    """Places of cells -> the place of another of the same base and task that shows as many demonstrations, as no more fit: the
    same prompts and the same answers, so that they are counted once."""
    first: dict[tuple[str, str, str, int], int] = {}
    order = sorted(range(len(cells)), key=lambda i: cells[i].answers.shots)
    places = {
        i: first.setdefault((c.answers.base, c.task.name, c.answers.way, c.shown), i)
        for i, c in ((i, cells[i]) for i in order)
    }
    return {i: at for i, at in places.items() if i != at}


def _once(cells: Sequence[Cell]) -> list[Cell]:
    """The cells without those that are `repeated`."""
    again = repeated(cells)
    return [cell for i, cell in enumerate(cells) if i not in again]


def plain(interval: Interval) -> Json:
    """An Interval as JSON; an end that is not known, as with a single cluster, is None."""
    ends = {key: value if math.isfinite(value := getattr(interval, key)) else None for key in ("low", "high")}
    return {"estimate": interval.estimate, **ends, "n": interval.n}


def _adjust(entries: Sequence[Json]) -> None:
    """p_holm of gaps that are asked together, in place."""
    if entries:
        for entry, p in zip(entries, holm(np.array([e["p"] for e in entries])), strict=True):
            entry["p_holm"] = float(p)


def _gap(found: tuple[Interval, float]) -> Json:
    return {**plain(found[0]), "p": found[1]}


def cell_table(cells: Sequence[Cell]) -> list[Json]:
    """One line a cell: its score, its score by other measures, how far it is from guessing and from the majority."""
    lines: list[Json] = []
    against: dict[tuple[str, ...], list[Json]] = {}
    again = repeated(cells)
    for place, cell in enumerate(cells):
        a, base, common = cell.answers, chance(cell.task), majority(cell.task)
        line: Json = {
            "base": a.base,
            "task": a.task,
            "shots": a.shots,
            "way": a.way,
            "seconds": a.seconds,
            "note": a.note,
        }
        line["score"] = plain(stat.score_interval(cell.scores, cell.clusters, cell.task.measure == AUROC))
        line["also"] = {
            m: plain(stat.score_interval(scores(a, cell.task, m), cell.clusters)) for m in measures(cell.task, a)
        }  # fmt: skip
        line["over_chance"] = (
            None if base is None else _gap(stat.over_chance(cell.scores, base, cell.clusters))
        )
        line["over_majority"] = None if common is None else _gap(stat.gap(cell.scores, common, cell.clusters))
        for key in ("over_chance", "over_majority"):
            if line[key] and place not in again:
                against.setdefault((*cell.group, a.base, key), []).append(line[key])
        lines.append(line)
    for family in against.values():
        _adjust(family)
    for place, at in again.items():
        lines[place]["note"] += f"; the same answers as at {lines[at]['shots']}, counted once"
        for key in ("over_chance", "over_majority"):
            if lines[place][key]:
                lines[place][key]["p_holm"] = lines[at][key]["p_holm"]
    return lines


def task_table(cells: Sequence[Cell]) -> list[Json]:
    """One line a task."""
    lines: dict[str, Json] = {}
    for cell in cells:
        task, base, common = cell.task, chance(cell.task), majority(cell.task)
        line = lines.setdefault(
            task.name,
            {
                "name": task.name,
                "suite": task.suite,
                "about": task.about,
                "measure": task.measure,
                "better": task.better,
                "n": len(task.items),
                "clusters": len(np.unique(cell.clusters)),
                "chance": None if base is None else float(base.mean()),
                "majority": None if common is None else float(common.mean()),
                "shots": [],
            },
        )
        line["shots"] = sorted({*line["shots"], cell.answers.shots})
    return list(lines.values())


def _grouped(cells: Sequence[Cell], shots_of: dict[str, int]) -> dict[tuple[str, str, str], list[Cell]]:
    """(suite, measure, base) -> its cells at the shots that stand for the base and task."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        if cell.answers.way == "probe" or cell.answers.shots == shots_of[cell.task.name]:
            groups.setdefault((*cell.group, cell.answers.base), []).append(cell)
    return groups


def suite_table(cells: Sequence[Cell], lines: Sequence[Json], shots_of: dict[str, int]) -> list[Json]:
    """One line a suite, measure and base: the mean over its tasks, and how many of them are above guessing."""
    by_key = {(x["base"], x["task"], x["shots"]): x for x in lines}
    out = []
    for (suite, measure, base), found in _grouped(cells, shots_of).items():
        mean = stat.suite_interval([c.scores for c in found], [c.clusters for c in found])
        if len(found) == 1:
            mean = stat.score_interval(found[0].scores, found[0].clusters, measure == AUROC)
        gaps = [by_key[c.answers.base, c.answers.task, c.answers.shots]["over_chance"] for c in found]
        above = [g for g in gaps if g and g["estimate"] > 0 and g["p_holm"] <= ALPHA]
        out.append(
            {
                "suite": suite,
                "measure": measure,
                "base": base,
                "way": found[0].answers.way,
                "shots": sorted({c.answers.shots for c in found}),
                "tasks": len(found),
                "score": plain(mean),
                "above_chance": len(above) if any(gaps) else None,
                "smallest_gap": assumed_gap(found),
            }
        )
    return out


def assumed_gap(cells: Sequence[Cell]) -> float | None:
    """Smallest gap to another base that these items would show if the two disagreed on a fifth of them, or on as many as the gap;
    shares only."""
    if any(not np.isin(c.scores, (0.0, 1.0)).all() for c in cells):
        return None
    worth = [intervals.independent_rows(c.scores, c.clusters) for c in cells]
    return stat.smallest_mean_gap(worth, [DISAGREE] * len(cells))


def difference_table(cells: Sequence[Cell], shots_of: dict[str, int]) -> list[Json]:
    """Every pair of bases on the tasks that both answered: task by task, and the mean of a suite's tasks."""
    groups = _grouped(cells, shots_of)
    bases = list(dict.fromkeys(c.answers.base for c in cells))
    single: list[Json] = []
    whole: list[Json] = []
    for suite, measure in dict.fromkeys((s, m) for s, m, _ in groups):
        for a, b in itertools.combinations(bases, 2):
            left = {c.task.name: c for c in groups.get((suite, measure, a), ())}
            right = {c.task.name: c for c in groups.get((suite, measure, b), ())}
            both = [name for name in left if name in right]
            if both:
                pairs = [(left[name], right[name]) for name in both]
                head = {"a": a, "b": b, "suite": suite, "measure": measure}
                one, mean = compare(pairs, head)
                single += one
                whole.append(mean)
    _adjust(single)
    _adjust(whole)
    return [*whole, *single]


def compare(pairs: Sequence[tuple[Cell, Cell]], head: Json) -> tuple[list[Json], Json]:
    """(a line a task, the line of their mean) for pairs of cells on the same items."""
    lines, gaps, clusters = [], [], []
    for left, right in pairs:
        gap = left.scores - right.scores
        gaps.append(gap)
        clusters.append(left.clusters)
        seen = stat.smallest_paired_gap([gap], [left.clusters])
        found = stat.gap(left.scores, right.scores, left.clusters, left.task.measure == AUROC)
        shots = [left.answers.shots, right.answers.shots]
        lines.append(
            {
                **head,
                "task": left.task.name,
                "shots": shots,
                **_gap(found),
                "smallest_gap": seen if np.any(gap) else assumed_gap([left]),
            }
        )
    several = stat.suite_gap(gaps, clusters) if len(gaps) > 1 else None
    mean = _gap(several) if several else {k: lines[0][k] for k in ("estimate", "low", "high", "n", "p")}
    # items that all agree say nothing of how far two bases differ
    differ = any(np.any(gap) for gap in gaps)
    seen = stat.smallest_paired_gap(gaps, clusters) if differ else assumed_gap([left for left, _ in pairs])
    return lines, {**head, "task": None, "shots": None, **mean, "smallest_gap": seen}


def curve_table(cells: Sequence[Cell]) -> list[Json]:
    """Score over the number of demonstrations, a line a base, suite and measure, over the tasks asked at every number."""
    groups: dict[tuple[str, str, str], dict[int, dict[str, Cell]]] = {}
    for cell in _once(cells):
        if cell.answers.way != "probe":
            place = groups.setdefault((*cell.group, cell.answers.base), {})
            place.setdefault(cell.answers.shots, {})[cell.task.name] = cell
    out: list[Json] = []
    for (suite, measure, base), by_shots in groups.items():
        counts = sorted(by_shots)
        names = [name for name in by_shots[counts[0]] if all(name in by_shots[k] for k in counts)]
        if len(counts) < 2 or not names:
            continue
        rows = {k: [by_shots[k][name] for name in names] for k in counts}
        points: list[Json] = [
            {
                "shots": _shown(k, row),
                **plain(stat.suite_interval([c.scores for c in row], [c.clusters for c in row])),
            }
            for k, row in rows.items()
        ]
        gain = stat.suite_gap(
            [m.scores - f.scores for m, f in zip(rows[counts[-1]], rows[counts[0]], strict=True)],
            [c.clusters for c in rows[counts[0]]],
        )
        out.append(
            {
                "base": base,
                "suite": suite,
                "measure": measure,
                "tasks": len(names),
                "points": points,
                "gain": _gap(gain),
            }
        )
    _adjust([line["gain"] for line in out])
    return out


def _shown(asked: int, row: Sequence[Cell]) -> int:
    """The demonstrations of a point: those that were shown where all tasks had as many, else those asked for."""
    shown = {cell.shown for cell in row}
    return shown.pop() if len(shown) == 1 else asked


def scale_table(cells: Sequence[Cell], sizes: dict[str, float]) -> list[Json]:
    """Score per tenfold parameters over the bases that were asked, by suite and number of demonstrations; and of the gain
    from the fewest demonstrations to the most. The interval is over items; the bases are the ones given."""
    out = []
    slopes: dict[tuple[str, str], dict[int, tuple[list[str], dict[str, tuple[np.ndarray, np.ndarray]]]]] = {}
    for (suite, measure, shots), by_base in _asked(cells).items():
        bases = sorted(by_base, key=lambda name: sizes[name])
        x = np.log10([sizes[name] for name in bases])
        names = [n for n in by_base[bases[0]] if all(n in by_base[b] for b in bases)]
        if len(bases) < 2 or np.ptp(x) < math.log10(LEAST_RATIO) or not names:
            continue
        scores = {n: np.array([by_base[b][n].scores for b in bases]) for n in names}
        clusters = {n: by_base[bases[0]][n].clusters for n in names}
        found = {n: (stat.slope(scores[n], x), clusters[n]) for n in names}
        errors = [stat.slope_error(scores[n], x, clusters[n]) for n in names]
        slopes.setdefault((suite, measure), {})[shots] = bases, found
        lower = measure == "bits per byte"
        out.append(_scale_line((suite, measure, shots), bases, list(found.values()), lower, errors))
    for (suite, measure), by_shots in slopes.items():
        least, most = min(by_shots), max(by_shots)
        (bases, first), (others, last) = by_shots[least], by_shots[most]
        shared = [n for n in first if n in last]
        # slopes over other bases differ by more than the shots
        if least < most and shared and bases == others:
            gains = [(last[n][0] - first[n][0], last[n][1]) for n in shared]
            out.append(_scale_line((suite, measure, "gain"), bases, gains, False))
    _adjust(out)
    for line in out:
        line["sentence"] = scale_sentence(line)
    return out


def _asked(cells: Sequence[Cell]) -> dict[tuple[str, str, int], dict[str, dict[str, Cell]]]:
    """The cells of bases that were asked, by suite, measure and demonstrations, then base, then task.

    Shares whose aim is one half are left out: no higher and no lower one is better.
    """
    out: dict[tuple[str, str, int], dict[str, dict[str, Cell]]] = {}
    for cell in _once(cells):
        if cell.answers.way != "probe" and cell.task.better != HALF:
            by_base = out.setdefault((*cell.group, cell.answers.shots), {})
            by_base.setdefault(cell.answers.base, {})[cell.task.name] = cell
    return out


def _scale_line(
    key: tuple[str, str, Any],
    bases: list[str],
    slopes: Sequence[tuple[np.ndarray, np.ndarray]],
    lower: bool,
    errors: Sequence[float] | None = None,
) -> Json:
    suite, measure, shots = key
    found = stat.suite_gap([s for s, _ in slopes], [c for _, c in slopes], errors)
    line = {"suite": suite, "measure": measure, "shots": shots, "bases": bases, "lower": lower}
    return {**line, "tasks": len(slopes), **_gap(found)}


def scale_sentence(line: Json) -> str:
    """Whether prompting improves with scale here, in words."""
    unit = 1.0 if line["measure"] == "bits per byte" else 100.0
    value = round(unit * line["estimate"], 2) + 0.0
    ends = ", ".join(
        "?" if line[k] is None else f"{round(unit * line[k], 2) + 0.0:.2f}" for k in ("low", "high")
    )
    sure = line["p_holm"] <= ALPHA
    better = value < 0 if line["lower"] else value > 0
    verdict = (
        "cannot be told from no trend"
        if not sure
        else ("improves" if better else "gets worse") + " with scale"
    )
    what = (
        "the gain from demonstrations"
        if line["shots"] == "gain"
        else f"{line['measure']} at {line['shots']} shot{'' if line['shots'] == 1 else 's'}"
    )
    points = "bits" if unit == 1.0 else "points"
    return (
        f"{line['suite']}: {what} {verdict}: {value:+.2f} [{ends}] {points} per tenfold parameters"
        f" over {len(line['bases'])} bases"
    )


def better_of(line: Json, better: str) -> str:
    """Which of a pair of bases a gap favours; empty where it favours none."""
    if line["p_holm"] > ALPHA or line["estimate"] == 0 or better == HALF:
        return ""
    first = line["estimate"] < 0 if better == LOW else line["estimate"] > 0
    return str(line["a"] if first else line["b"])

"""Which benchmark tasks, which of their items, which demonstrations: everything of a run that no base is needed for.

Draws are by seed and task, so they are the same for every base and every number of demonstrations. Items used as
demonstrations are never scored, at any number of shots of the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from basewise.core.errors import InputError, UnknownName
from basewise.core.hashing import digest_json, generator
from basewise.core.registry import keys, part
from basewise.core.suite import AUROC, SEPARATOR, BenchTask, Data, Item

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A task with the items that are scored and those that may stand before them, in the order in which they are taken."""

    task: BenchTask
    demonstrations: tuple[Item, ...]

    @property
    def digest(self) -> str:
        """Names what is asked; the number of shots is apart."""
        task = self.task
        return digest_json(
            [task.name, task.kind, task.most_tokens, task.stop]
            + [[item.digest for item in items] for items in (task.items, self.demonstrations)]
        )

    def prompt(self, item: Item, shots: int) -> str:
        """The context of an item behind so many demonstrations; the first of them stands nearest to the question."""
        shown = [demonstration.shown for demonstration in self.demonstrations[:shots]][::-1]
        return SEPARATOR.join([*shown, item.context]) if shown else item.context


def find_tasks(names: Sequence[str], data: Data) -> list[BenchTask]:
    """Tasks of "all", of suites, or single ones ("bbh/navigate"); in the order asked, each once.

    Raises UnknownName with the nearest suites or tasks, TableError where a file of the data is not there.
    """
    found: dict[str, BenchTask] = {}
    wanted = [one.strip() for name in names for one in str(name).split(",") if one.strip()]
    if not wanted:
        raise InputError("no suite was named", f"name one of {', '.join([ALL, *keys('suites')])}")
    for name in wanted:
        found.update(_tasks_named(name, data))
    return list(found.values())


def _tasks_named(name: str, data: Data) -> dict[str, BenchTask]:
    """The tasks of "all", of a suite, or a single one; "all" leaves out suites whose tasks have to be named."""
    suite, _, task = name.partition("/")
    known = keys("suites")
    if suite not in (ALL, *known):
        raise UnknownName.of("suite", name, [ALL, *known])
    if suite != ALL and by_name(suite):
        return {name: named(suite, name, data)}
    listed = [key for key in known if not by_name(key)] if suite == ALL else [suite]
    made: dict[str, BenchTask] = {}
    for key in listed:
        made |= {one.name: one for one in tasks_of(key, data)}
        if task and name not in made:
            raise UnknownName.of("task", name, made)
    return {name: made[name]} if task else made


def tasks_of(key: str, data: Data) -> list[BenchTask]:
    """All tasks of one suite."""
    made: list[BenchTask] = part("suites", key).tasks(data)
    return made


def by_name(key: str) -> bool:
    """Whether the tasks of a suite are another package's: found by their names alone, and no part of "all"."""
    return bool(vars(part("suites", key)).get("BY_NAME", False))


def named(key: str, name: str, data: Data) -> BenchTask:
    """One task of a suite whose tasks are found by name; InputError where none was named."""
    if not name.partition("/")[2]:
        raise InputError(f"the suite {key} has no tasks of its own", f"name one, such as {key}/TaskName")
    made: BenchTask = part("suites", key).named(name, data)
    return made


def draw(task: BenchTask, shots: int, limit: int | None, seed: int) -> Draw:
    """The demonstrations for up to `shots`, and at most `limit` items (the task's share of it), whole clusters at a time."""
    rng = generator("bench shown", seed, task.name)
    own = not task.pool
    order = balanced(task.pool or task.items, rng)[:shots] if shots else []
    shown = tuple((task.pool or task.items)[i] for i in order)
    spent = set(order) if own else set()
    # the items do not depend on how many are shown
    rng = generator("bench items", seed, task.name)
    most = len(task.items) if limit is None else max(1, round(limit * task.share))
    clusters = [item.cluster for item in task.items]
    # both kinds of items, as many of each
    if task.measure == AUROC:
        outside = {i for i, item in enumerate(task.items) if item.answer < 0}
        halves = (outside, set(range(len(task.items))) - outside)
        picked = sorted(
            i for other in halves for i in sample(clusters, max(1, most // 2), spent | other, rng)
        )
    else:
        picked = sample(clusters, most, spent, rng)
    if not picked:
        raise InputError(
            f"{task.name} has {len(task.items)} items, none is left after {shots} demonstrations",
            "give fewer --shots",
        )
    return Draw(task=replace(task, items=tuple(task.items[i] for i in picked)), demonstrations=shown)


def balanced(items: Sequence[Item], rng: np.random.Generator) -> list[int]:
    """Indices in a random order that takes the answers in turn, so that every beginning of it is balanced over them."""
    by_answer: dict[Any, list[int]] = {}
    for i in rng.permutation(len(items)):
        item = items[int(i)]
        if item.answer >= 0 or item.target:
            by_answer.setdefault(item.choices[item.answer] if item.choices else "", []).append(int(i))
    groups = [by_answer[name] for name in sorted(by_answer)]
    order: list[int] = []
    for turn in range(max(map(len, groups), default=0)):
        left = [group[turn] for group in groups if turn < len(group)]
        order += [left[int(k)] for k in rng.permutation(len(left))]
    return order


def sample(clusters: Sequence[str], most: int, spent: set[int], rng: np.random.Generator) -> list[int]:
    """At most `most` indices that are not spent, whole clusters in a random order, the last one cut; in the items' order."""
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(clusters):
        groups.setdefault(name or f"\0{i}", []).append(i)
    names = list(groups)
    picked: list[int] = []
    for k in rng.permutation(len(names)):
        if len(picked) >= most:
            break
        picked += [i for i in groups[names[int(k)]] if i not in spent][: most - len(picked)]
    return sorted(picked)

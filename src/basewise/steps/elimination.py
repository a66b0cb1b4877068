"""elimination: who leaves a race before its end, and why: proven worse, out of time, too slow in use; and who is let back in."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from basewise.stats.intervals import class_error
from basewise.stats.luck import Luck, luck_of_training, worse_across_folds
from basewise.stats.paired import counted, mcnemar_midp
from basewise.stats.sequential import proven_worse

if TYPE_CHECKING:
    from basewise.steps.entries import Entry
    from basewise.steps.race import Race

LEAST_FOLDS = 2
"""Folds on which an arm that ran out of time must have been scored to be compared all the same."""

OVERRUN = 0.1
"""Of the budget, what the last fit may take beyond its end where nothing else would be saved than a guess."""


def drop(race: Race, among: list[Entry] | None = None) -> None:
    """End arms proven worse than the leader: on the rows that both were scored on, and beyond the luck of training.

    among: the arms that train alike, all when left out; they tell how large the luck is.
    """
    if (leader := race.leader()) is None:
        return
    # one fold proves nothing
    arms, looks = len(race.entries), max(1, len(race.wanted) - 1)
    level = race.alpha / (max(1, arms - 1) * looks)
    luck = None
    for entry in race.entries:
        shared = sorted(set(leader.outcomes) & set(entry.outcomes))
        spared = entry is leader or entry.arm.method == race.asked
        if spared or entry.status != "partial" or len(shared) < 2:
            continue
        ours, theirs = race.common(leader, entry)
        gap, together = ours - theirs, race.groups(shared)
        # right and wrong can be counted, which is exact at every look
        if race.metric == "accuracy":
            worth, wins, losses = counted(ours, theirs, together)
            if not proven_worse(wins, losses, arms, looks, race.alpha):
                continue
            of_rows = float(np.sqrt(gap.var() / worth)), np.inf
        else:
            # careful whatever the metric weighs: a rare class may hold all of the difference
            of_rows = class_error(gap, race.labels(shared), together)
        luck = luck or luck_of(race, [leader, *(e for e in among or race.entries if e is not leader)])
        p = worse_across_folds(
            ours, theirs, [int((race.folds == fold).sum()) for fold in shared], luck, of_rows
        )
        if p <= level:
            entry.status = "dropped"
            entry.why = f"proven worse than {leader.arm.name} on {len(ours)} rows of {len(shared)} folds"


def luck_of(race: Race, entries: list[Entry]) -> Luck:
    """Luck of training, pooled over these arms as far as each of them came."""
    sizes = [int((race.folds == fold).sum()) for fold in race.wanted]
    rights = []
    for entry in entries:
        done = list(takewhile(entry.outcomes.__contains__, race.wanted))
        if done and entry.status != "failed":
            rights.append(np.split(race.scores(entry, done), np.cumsum(sizes[: len(done)])[:-1]))
    rights.sort(key=len, reverse=True)
    longest = len(rights[0])
    return luck_of_training([np.stack([r[j] for r in rights if j < len(r)]) for j in range(longest)])


def give_way(race: Race, running: list[Entry]) -> None:
    """Beyond the planned folds arms go on as long as they fit into the time left together; of those that do not, the worst gives way
    to the others, so that what is left is used. The leader stays."""
    leader = race.leader()
    beyond = sorted((e for e in running if not race.planned(e) and e is not leader), key=race.score)
    while beyond and len(running) > 1 and not race.fit_together(running):
        entry = beyond.pop(0)
        if race.kept(entry):
            continue
        running.remove(entry)
        race.skip(entry, len(race.wanted) - len(entry.outcomes))
        entry.why = f"gave way after {len(entry.outcomes)} of {len(race.wanted)} folds: the {max(0.0, race.clock.left):.0f} s left do not hold its fits beside those of the others"


def stop(race: Race) -> None:
    """End what a race that was stopped by hand had under way, with what stands in the journal: workers may have scored more than the
    race has read. Such an arm counts as ended by time alone."""
    for entry in race.entries:
        if entry.status in ("waiting", "partial"):
            race.recall(entry)
        if entry.status == "partial":
            entry.out_of_time = True
            entry.status, entry.why = "dropped", "the race was stopped before it was scored in full"


def rescue(race: Race, why: str = "the time was short") -> None:
    """Let arms that only time ended count where they lead or were asked for, on the rows they were scored on: finished is not better.

    Where nothing was finished but the guess of the majority, an arm that is shown to beat it counts after one fold, and its last fit
    may take OVERRUN of the budget beyond its end: what would be saved is of no use. why: what ended them.
    """
    leader = race.leader()
    if leader is None:
        return
    guess = leader.arm.method == "majority" and race.asked != "majority"
    room = max(race.clock.left, OVERRUN * race.clock.seconds) if guess else race.clock.left
    for entry in race.entries:
        if not entry.out_of_time or len(entry.outcomes) < (1 if guess else LEAST_FOLDS):
            continue
        ours, theirs = race.common(entry, leader)
        leads = ours.mean() > theirs.mean() or entry.arm.method == race.asked
        shown = len(entry.outcomes) >= LEAST_FOLDS
        if not shown:
            together = race.groups(sorted(set(entry.outcomes) & set(leader.outcomes)))
            shown = mcnemar_midp(ours > theirs, theirs > ours, together) < race.alpha
        if leads and shown and race.last_seconds(entry) <= room:
            entry.status = "finished"
            entry.why = f"scored on {len(entry.outcomes)} of {len(race.wanted)} folds: {why}"


def drop_slow(race: Race, most: float) -> None:
    """End arms that take more than `most` seconds a row in use; the controls that guess are never that slow."""
    for entry in race.entries:
        each = race.trial(entry).cost.predict_seconds_per_row
        if entry.outcomes and each > most:
            entry.status = "dropped"
            entry.why = f"{1e3 * each:.2f} ms a row is above the latency allowed, {1e3 * most:.2f} ms"

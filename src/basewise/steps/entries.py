"""What a race is made of: an arm with what it was predicted to cost and came to, and the clock that all arms run against."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from basewise.core.budget import Cost
from basewise.steps.jobs import Arm, Outcome

SPARE_SHARE = 0.5
"""Of what the plan leaves, what may go into extras: an arm must not be lost because a busy machine made them longer."""


@dataclass
class Entry:
    """An arm in the race: its prediction before, its outcomes so far by fold; `spare`: seconds beyond its estimate that a fit
    of it was last given; `adds_bytes`: memory beyond what the process holds anyway; `folds`: those that are planned for it, the race's
    when None."""

    arm: Arm
    predicted: Cost
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    status: str = "waiting"
    why: str = ""
    out_of_time: bool = False
    spare: float = 0.0
    adds_bytes: float = 0.0
    folds: int | None = None


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The time budget as a contract: `left` is what may still be promised. `earlier`: seconds that the same run took before it was
    stopped."""

    started: float
    seconds: float
    earlier: float = 0.0

    @property
    def used(self) -> float:
        return self.earlier + time.monotonic() - self.started

    @property
    def left(self) -> float:
        return self.seconds - self.used


def spare_of(race: Any, entry: Entry) -> float:
    """Seconds that one fit of this arm may take beyond its estimate: what all that is planned leaves, shared over its fits.

    Planned are measured times once there are any, which hold what earlier fits took beyond their estimate: so the same is given again
    as long as the plan fits.
    """
    open_ = [e for e in race.entries if e.status in ("waiting", "partial")]
    planned = sum(race.seconds_a_fold(e) * max(1, race.planned(e)) for e in open_)
    left = race.clock.left - planned - max((race.last_seconds(e) for e in open_), default=0.0)
    before = entry.spare if entry.outcomes and left >= 0 else 0.0
    entry.spare = float(max(before, SPARE_SHARE * left / (max(1, race.planned(entry)) + 1), 0.0))
    return entry.spare


def limit_of(race: Any, entry: Entry) -> float:
    """Seconds that one fit on stored features may take, however busy the machine has become; networks count their steps."""
    if race.network_runs(entry.arm):
        return float("inf")
    fits = len(race.wanted) - len(entry.outcomes) + 1
    return max(1.0, (race.clock.left - race.look_rows * race.predict_seconds(entry)) / fits)

"""standings: where a race is now, as race.json in its run folder, for whoever watches; the race itself never reads it.

Written before and after each fit: {"format", "written" (seconds since 1970), "seconds" of the budget, "used", "rungs" wanted,
"rows", "metric" of the scores, "now": {"name", "rung"} | null, "arms": [{"name", "method", "base", "status", "why", "rungs" done,
"score": interval | null, "predicted_seconds", "seconds" | null}]}, the arms in the order in which they stand.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from basewise.core.errors import RunError
from basewise.core.files import read_json, write_json
from basewise.steps.measures import classes_for, interval_of

if TYPE_CHECKING:
    from basewise.steps.entries import Entry
    from basewise.steps.race import Race

FILE = "race.json"
FORMAT = 1


def note(race: Race, now: Entry | None = None) -> None:
    """Write where the race stands; `now`: the arm whose next rung is about to run."""
    arms = [arm_line(race, entry) for entry in race.entries]
    arms.sort(key=lambda a: -a["score"]["estimate"] if a["score"] else 1.0)
    value = {
        "format": FORMAT,
        "written": time.time(),
        "seconds": race.clock.seconds,
        "used": race.clock.used,
        "rungs": len(race.wanted),
        "rows": len(race.train),
        "metric": race.metric,
        "now": {"name": now.arm.name, "rung": len(now.outcomes) + 1} if now else None,
        "arms": arms,
    }
    write_json(race.run.folder / FILE, value)


def used_before(folder: Path) -> float:
    """Seconds that the run of this folder has taken in earlier sessions, as far as they were noted; 0 for a run that is new."""
    used = [0.0]
    with contextlib.suppress(RunError, KeyError, TypeError, ValueError):
        used.append(float(read_json(folder / FILE)["used"]))
    # of a run that was stopped by hand
    with contextlib.suppress(RunError, KeyError, TypeError, ValueError):
        used.append(float(read_json(folder / "decision.json")["budget"]["used_seconds"]))
    return max(used)


def arm_line(race: Race, entry: Entry) -> dict[str, Any]:
    """One arm as it stands: its score on the rows it was scored on so far, with its interval."""
    folds = sorted(entry.outcomes)
    score = None
    if folds:
        groups = np.concatenate([race.train.groups[race.folds == fold] for fold in folds])
        score = interval_of(race.scores(entry, folds), groups, classes_for(race.metric, race.labels(folds)))
    return {
        "name": entry.arm.name,
        "method": entry.arm.method,
        "base": entry.arm.base.key if entry.arm.base else None,
        "status": entry.status,
        "why": entry.why,
        "rungs": len(folds),
        "score": score,
        "predicted_seconds": entry.predicted.seconds,
        "seconds": race.seconds_a_fold(entry) if folds else None,
    }

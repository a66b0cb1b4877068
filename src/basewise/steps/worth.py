"""worth: what the base was worth, in labels. Learning curves over nested label counts, and the labels saved.

Each curve is fitted on growing, nested subsets of the same rows and scored on the same held-out rows, so the
comparison of two curves is paired. Formulas and intervals: stats/transfer.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from basewise.core.files import Progress
from basewise.core.registry import part
from basewise.core.task import Examples
from basewise.steps.entries import Clock
from basewise.steps.jobs import Arm, keep, outcome_from
from basewise.steps.jobs import run as run_job

SIZES = 6
DRAWS = 5
UNTOLD = 0.05
"""A factor whose interval goes from below this to infinity says nothing."""
ROOM = 4.0
"""The factor is read where the control has at least this many times the labels: at its last size it could only be censored.
Fixed beforehand, since a size picked for what it shows would make the interval too narrow."""


def label_counts(rows: int, classes: int) -> list[int]:
    """Up to SIZES row counts from about 16 to all rows, evenly spaced on a log scale."""
    first = min(max(16, 2 * classes), rows)
    return sorted({round(float(value)) for value in np.geomspace(first, rows, SIZES)})


def nested(examples: Examples, counts: list[int], seed: int) -> list[np.ndarray]:
    """Nested stratified subsets, one index array a count."""
    from basewise.core.split import nested_subsets

    return list(nested_subsets(examples.labels, counts, seed))


def planned_fits(
    arm: Arm, examples: tuple[Examples, Examples], race: Any, counts: list[int]
) -> dict[int, float]:
    """{row count: seconds of a fit}. Of an arm that was raced all counts, by what it took on all rows, growing with the rows; of another
    one on a base about three, each predicted by itself, since a training has a least number of steps however few the rows."""
    known = next((e for e in race.entries if e.arm.name == arm.name and e.outcomes), None)
    if known is not None:
        each = race.seconds_a_fold(known) / max(counts)
        return {count: each * count for count in counts}
    (train, held_out), card, some = examples, None, counts
    # the largest count is the one that tells most
    if arm.base:
        card, some = arm.base.card, counts[:: -max(1, len(counts) // 3)][::-1]
    costs = [
        part("methods", arm.method).estimate(train.take(rows), card, race.machine_now(card))
        for rows in nested(train, some, 0)
    ]
    return {
        n: c.seconds + len(held_out) * c.predict_seconds_per_row for n, c in zip(some, costs, strict=True)
    }


def curve(
    arm: Arm,
    examples: tuple[Examples, Examples],
    fits: dict[int, float],
    draws: int,
    race: Any,
    progress: Progress,
) -> dict[str, Any] | None:
    """{"sizes", "errors" one a seed a size, "right" (sizes, draws, groups of rows), "pool"}; None when the budget cannot hold it.

    examples: (train, held out). fits: seconds by row count, as `planned_fits` gives them. No fit is begun that the time left does
    not hold, by what the last one took against its plan.
    """
    train, held_out = examples
    counts, slower = list(fits), 1.0
    rights: list[list[np.ndarray]] = []
    for count_index, count in enumerate(counts):
        row = []
        for draw in range(draws):
            rows = train.take(nested(train, counts, draw)[count_index])
            job = race.job_of(arm, rows, held_out.texts, draw)
            saved = race.run.saved(job.name)
            if saved is None and race.clock.left <= slower * fits[count]:
                done = counts[: len(rights)]
                return _finish(done, rights, len(train), held_out.groups) if len(done) >= 3 else None
            before = race.clock.left
            outcome = outcome_from(*saved) if saved else run_job(job)
            if not saved:
                slower = max(1.0, (before - race.clock.left) / max(fits[count], 1e-3))
                keep(race.run, job.name, outcome)
            if outcome.error:
                return None
            row.append(outcome.probabilities.argmax(1) == held_out.labels)
            progress(count_index * draws + draw + 1, len(counts) * draws, f"learning curve of {arm.name}")
        rights.append(row)
    return _finish(counts, rights, len(train), held_out.groups)


def _finish(
    counts: list[int], rights: list[list[np.ndarray]], pool: int, groups: np.ndarray
) -> dict[str, Any]:
    from basewise.stats.transfer import by_group

    right = by_group(np.array(rights), groups)
    return {"sizes": list(counts), "errors": (1 - right.mean(2)).tolist(), "right": right, "pool": pool}


def affordable(fits: dict[int, float], clock: Clock, share: float) -> int:
    """How many draws of a whole curve fit into `share` of what is left."""
    return int(min(DRAWS, (clock.left * share) // max(sum(fits.values()), 1e-3)))


def ends(low: float, high: float | None) -> str:
    """[2.4, ∞]: the interval of a factor, open where the control never gets there (inf, None in JSON)."""
    return f"[{low:.1f}, {'∞' if high is None or np.isinf(high) else f'{high:.1f}'}]"


def saved_labels(base: dict[str, Any], control: dict[str, Any], against: str) -> dict[str, Any]:
    """The labels saved by the base at a size that leaves the control room to catch up, as the decision's schema has it."""
    from basewise.stats.transfer import LearningCurve, labels_saved

    def as_curve(value: dict[str, Any]) -> Any:
        errors = np.asarray(value["errors"]).T
        return LearningCurve(
            sizes=np.asarray(value["sizes"], float),
            errors=errors,
            right=value["right"],
            pool=value.get("pool"),
        )

    room = [size for size in base["sizes"] if size * ROOM <= max(control["sizes"])]
    at = float(max(room or [min(base["sizes"])]))
    result = labels_saved(as_curve(base), as_curve(control), at=at)
    factor = f"{'at least ' if result.censored else ''}{result.factor:.1f} times"
    catches = result.catches_up_at
    sentence = (
        f"At {at:.0f} labelled rows {against} would need {factor} as many to be as good"
        f" {ends(result.low, result.high)}"
    )
    told = result.low >= UNTOLD or bool(np.isfinite(result.high))
    if not told:
        sentence = f"At {at:.0f} labelled rows these curves cannot tell how many labels the base saves against {against}"
    elif result.low <= 1:
        sentence += ", so it is not shown that the base saves labels"
    if catches is not None and np.isfinite(catches):
        sentence += f"; it catches up at about {catches:.0f} rows"
    return {
        "factor": float(result.factor),
        "low": float(result.low),
        "high": float(result.high) if np.isfinite(result.high) else None,
        "censored": bool(result.censored),
        "catches_up_at": float(catches) if catches is not None and np.isfinite(catches) else None,
        "at": at,
        "told": told,
        "sentence": sentence + ".",
    }

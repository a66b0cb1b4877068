"""Claim: chosen by macro F1 or balanced accuracy on uneven classes, intervals and eliminations hold as those of accuracy do.

By simulation, where the truth is known: 70, 20, 7 and 3 % of the rows are of one class, the rarer the more often wrong; all arms are
alike and share the hardness of rows. Aims: the winner's interval covers 93-98 %, two equal arms are said to differ in at most 6 %
(5 % is asked of the test), one given arm is dropped from a race of five looks in at most 5 %. What is called is the product's own
code (`corrected_winner`, `difference`, `elimination.drop`, the files in parts/metrics). Beside it: one arm's own interval.
Run: python benchmarks/rare_classes.py [--races 1000]
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from scipy.special import ndtri

import common
from basewise.core.budget import Cost
from basewise.core.task import Examples
from basewise.stats.intervals import bootstrap_counts
from basewise.stats.selection import corrected_winner
from basewise.steps.elimination import drop
from basewise.steps.entries import Entry
from basewise.steps.jobs import Arm, Outcome
from basewise.steps.measures import difference, interval_of, scores_of
from basewise.steps.race import Race
from honesty import share

METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
SHARES, RIGHT = np.array([0.7, 0.2, 0.07, 0.03]), np.array([0.92, 0.8, 0.65, 0.5])
ARMS, ROWS, LOOKS, HARD = (5, 20), (300, 1_000, 3_000), 5, 0.5
WINNER_RANGE, MOST_DIFFERENT, MOST_FALSE = (0.93, 0.98), 0.06, 0.05
Json = dict[str, Any]


def table(arms: int, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and what each arm says (K, n); a wrong answer falls on the other classes by their shares."""
    labels = rng.choice(len(SHARES), rows, p=SHARES)
    latent = np.sqrt(HARD) * rng.standard_normal(rows) + np.sqrt(1 - HARD) * rng.standard_normal((arms, rows))
    wrong = latent > ndtri(RIGHT[labels])
    other = np.tile(SHARES, (len(SHARES), 1)) * (1 - np.eye(len(SHARES)))
    reach = np.cumsum(other / other.sum(1, keepdims=True), 1)[labels]
    slip = (rng.random((arms, rows, 1)) > reach).sum(2)
    return labels, np.where(wrong, np.minimum(slip, len(SHARES) - 1), labels)


def as_probabilities(said: np.ndarray) -> np.ndarray:
    """(n, C) from the classes said (n,)."""
    return np.eye(len(SHARES))[said] * 0.8 + 0.05


def drops_first(metric: str, labels: np.ndarray, said: np.ndarray) -> bool:
    """Whether the first arm is dropped from a race of five folds, with a look after each."""
    n = len(labels)
    race = Race(
        train=Examples((), labels, np.arange(n), np.arange(n), tuple("abcd")),
        folds=np.arange(n) * LOOKS // n,
        wanted=tuple(range(LOOKS)),
        run=None,  # type: ignore[arg-type]
        clock=None,  # type: ignore[arg-type]
        machine=None,  # type: ignore[arg-type]
        metric=metric,
    )
    race.entries = [Entry(Arm(method=f"arm {i}"), Cost(), status="partial") for i in range(len(said))]
    for look in range(LOOKS):
        for entry, answers in zip(race.entries, said, strict=True):
            if entry.status == "partial":
                probabilities = as_probabilities(answers[race.folds == look])
                entry.outcomes[look] = Outcome(probabilities=probabilities, cost=Cost(), choices={})
        drop(race)
    return race.entries[0].status == "dropped"


def cell(metric: str, arms: int, rows: int, races: int, rng: np.random.Generator) -> Json:
    """Coverage of the winner's interval and of one arm's own, arms said to differ, the first arm dropped."""
    labels, said = table(1, 2_000_000, rng)
    truth = float(scores_of(metric, as_probabilities(said[0]), labels).mean())
    weights = bootstrap_counts(rows, 1_000, 0)
    hits: dict[str, list[bool]] = {
        k: [] for k in ("winner_covered", "one_covered", "said_to_differ", "dropped")
    }
    for _ in range(races):
        labels, said = table(arms, rows, rng)
        scores = np.array([scores_of(metric, as_probabilities(s), labels) for s in said])
        found, one = corrected_winner(scores, weights=weights).interval, interval_of(scores[0])
        hits["winner_covered"].append(found.low <= truth <= found.high)
        hits["one_covered"].append(one["low"] <= truth <= one["high"])
        hits["said_to_differ"].append(difference(scores[0], scores[1])["p"] <= 0.05)
        hits["dropped"].append(drops_first(metric, labels, said))
    low, high = WINNER_RANGE
    out = {name: share(found) for name, found in hits.items()}
    met = {
        "winner": low <= out["winner_covered"]["share"] <= high,
        "differ": out["said_to_differ"]["share"] <= MOST_DIFFERENT,
        "dropped": out["dropped"]["share"] <= MOST_FALSE,
    }
    return {"metric": metric, "arms": arms, "rows": rows, "truth": truth, **out, "met": met}


def main() -> None:
    """Simulate, print, write."""
    o = common.options(__doc__, races=1_000)
    races, rng, began = 30 if o.smoke else o.races, np.random.default_rng(7), time.perf_counter()
    grid = [(5, 300)] if o.smoke else [(k, n) for k in ARMS for n in ROWS]
    cells = [cell(metric, *shape, races, rng) for metric in METRICS for shape in grid]
    kinds = ("winner_covered", "one_covered", "said_to_differ", "dropped")
    rows = [[c["metric"], c["arms"], c["rows"], *(f"{c[k]['share']:.3f}" for k in kinds)] for c in cells]
    print(common.table(rows, ("metric", "arms", "rows", *kinds)))
    aims = {
        "winner's interval 93-98 % in every cell": "winner",
        "equal arms said to differ in at most 6 % in every cell": "differ",
        "false eliminations at most 5 % in every cell": "dropped",
    }
    met = {said: all(c["met"][kind] for c in cells) for said, kind in aims.items()}
    reached = [c["winner_covered"]["share"] for c in cells]
    headline = (
        f"winner's interval covers {min(reached):.1%} to {max(reached):.1%}, equal arms differ in at most "
        f"{max(c['said_to_differ']['share'] for c in cells):.1%}, false eliminations at most {max(c['dropped']['share'] for c in cells):.1%}"
    )
    print(json.dumps({"headline": headline, "met": met}, indent=1))
    result = {"cells": cells, "met": met, "headline": headline, "seconds": time.perf_counter() - began}
    common.write_result(
        "rare_classes",
        (__doc__ or "").splitlines()[0],
        result | {"settings": {"races": races}},
        smoke=o.smoke,
    )


if __name__ == "__main__":
    main()

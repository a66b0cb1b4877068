"""Claim: the winner's interval covers 93-98 %, false eliminations at most 5 % under looking all the time, labels saved covers 93-97 %.

By simulation, where the truth is known: nothing is trained. Rows have a hardness that all arms share (a Gaussian copula; right
or wrong of two arms correlate by 0.3 to 0.6, as those of real models do). What is called is the product's own code:
`corrected_winner`, `elimination.drop` on a race without training, `labels_saved`. Each share stands with its own Wilson interval.
A cell is met when its share lies in the range; the verdict never uses the interval to excuse a miss.
Run: python benchmarks/honesty.py [--races 1500 --drops 400 --curves 1000]
"""

from __future__ import annotations

import functools
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

import common
from basewise.core.budget import Cost
from basewise.core.task import Examples
from basewise.stats.intervals import bootstrap_counts, wilson
from basewise.stats.paired import mcnemar_midp
from basewise.stats.selection import corrected_winner
from basewise.stats.sequential import log_bar, log_e_value
from basewise.stats.transfer import LearningCurve, labels_saved
from basewise.steps.elimination import drop
from basewise.steps.entries import Entry
from basewise.steps.jobs import Arm, Outcome
from basewise.steps.race import Race

ARMS, ROWS, SHAPES = (5, 20, 50), (100, 300, 1000), ("alike", "spread", "one better")
LEVELS, ALIKE = (0.6, 0.8, 0.93), (0.3, 0.45, 0.6)
WINNER_RANGE, SAVED_RANGE, MOST_FALSE = (0.93, 0.98), (0.93, 0.97), 0.05
FACTORS, DRAWS, TEST_ROWS = (1.5, 3.0, 8.0), (3, 5), (300, 1000)
Json = common.Json


def share(hits: list[bool] | np.ndarray) -> Json:
    """A share over simulations with its Wilson interval."""
    n, k = len(hits), int(np.sum(hits))
    if n == 0:
        return {"n": 0}
    found = wilson(k, n)
    return {"share": k / n, "low": found.low, "high": found.high, "n": n}


# --- rows of differing hardness


@functools.lru_cache(maxsize=64)
def tie_of(level: float, correlation: float) -> float:
    """Latent correlation at which right or wrong of two arms of this accuracy correlate by `correlation`."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    low, high = 0.0, 0.999
    for _ in range(40):
        r = (low + high) / 2
        given = ndtr((ndtri(level) - np.sqrt(r) * nodes) / np.sqrt(1 - r))
        found = ((weights * given**2).sum() - level**2) / (level * (1 - level))
        low, high = (r, high) if found < correlation else (low, r)
    return low


def accuracies(shape: str, arms: int, level: float, rng: np.random.Generator) -> np.ndarray:
    """(K,) true accuracies; the best stands anywhere."""
    if shape == "alike":
        return np.full(arms, level)
    if shape == "spread":
        return np.clip(level + 0.03 * rng.normal(size=arms), 0.05, 0.99)
    out = np.full(arms, level)
    out[rng.integers(arms)] += 0.03
    return out


def outcomes(truth: np.ndarray, n: int, latent: float, rng: np.random.Generator) -> np.ndarray:
    """(K, n) right or wrong; truth (K,) or (K, n)."""
    hardness = rng.standard_normal(n, dtype=np.float32)
    own = rng.standard_normal((len(truth), n), dtype=np.float32)
    bars = ndtri(truth) if truth.ndim == 2 else ndtri(truth)[:, None]
    return np.sqrt(latent) * hardness + np.sqrt(1 - latent) * own < bars


# --- the winner's interval


def winner_cell(arms: int, n: int, shape: str, races: int, rng: np.random.Generator) -> Json:
    """Coverage of the winner's true accuracy, all levels and correlations mixed; the bias beside."""
    # `stand` always draws with seed 0, so all races share these
    weights = bootstrap_counts(n, 1_000, 0)
    hits, levels, bias, naive, width = [], [], [], [], []
    for i in range(races):
        level, alike = LEVELS[i % 3], ALIKE[i // 3 % 3]
        truth = accuracies(shape, arms, level, rng)
        found = corrected_winner(outcomes(truth, n, tie_of(level, alike), rng), weights=weights)
        true = float(truth[found.winner])
        hits.append(found.interval.low <= true <= found.interval.high)
        levels.append(level)
        bias.append(found.estimate - true)
        naive.append(found.naive - true)
        width.append(found.interval.high - found.interval.low)
    cover = share(hits)
    low, high = WINNER_RANGE
    return {
        "arms": arms,
        "rows": n,
        "shape": shape,
        "coverage": cover,
        "by_level": {str(v): share([h for h, w in zip(hits, levels, strict=True) if w == v]) for v in LEVELS},
        "optimism_naive": float(np.mean(naive)),
        "optimism_corrected": float(np.mean(bias)),
        "width": float(np.mean(width)),
        "met": low <= cover["share"] <= high,
    }


# --- eliminations


class SimulatedRace(Race):
    """A race whose outcomes are given beforehand: only the reading of rows is replaced, leader and rules are the product's."""

    table: np.ndarray
    ends: np.ndarray

    def scores(self, entry: Entry, folds: list[int], metric: str = "") -> np.ndarray:
        right = self.table[self.entries.index(entry), : self.ends[len(folds) - 1]].astype(float)
        return 1.0 - right if metric == "log_loss" else right


_SEEN = Outcome(probabilities=np.zeros((0, 2)), cost=Cost(), choices={})


def run_race(
    right: np.ndarray, looks: int, groups: np.ndarray | None = None
) -> tuple[list[Entry], list[tuple[int, int]], float]:
    """Entries after the race, (leader, dropped) pairs, share of the fits that were run; one look after each part."""
    arms, n = right.shape
    alone = np.arange(n)
    rows = Examples((), np.zeros(n, np.int64), alone, alone if groups is None else groups, ("right", "wrong"))
    race = SimulatedRace(
        train=rows,
        folds=np.arange(n) * looks // n,
        wanted=tuple(range(looks)),
        run=None,  # type: ignore[arg-type]
        clock=None,  # type: ignore[arg-type]
        machine=None,  # type: ignore[arg-type]
    )
    race.table, race.ends = right, np.searchsorted(race.folds, np.arange(looks), side="right")
    race.entries = [Entry(Arm(method=f"arm {i}"), Cost(), status="partial") for i in range(arms)]
    proofs, fits = [], 0
    for look in range(looks):
        running = [e for e in race.entries if e.status == "partial"]
        for entry in running:
            entry.outcomes[look] = _SEEN
        fits += len(running)
        leader = race.leader()
        drop(race)
        assert leader is not None
        proofs += [
            (race.entries.index(leader), race.entries.index(e)) for e in running if e.status == "dropped"
        ]
    return race.entries, proofs, fits / (arms * looks)


def drop_cell(
    arms: int, n: int, shape: str, looks: int, luck: float, races: int, rng: np.random.Generator
) -> Json:
    """How often the truly best arm is dropped, and how often any arm at least as good as the leader.

    luck: standard deviation of an arm's accuracy from part to part (luck of training), 0 for none.
    """
    as_good, best_gone, regret, run_share = [], [], [], []
    for i in range(races):
        level, alike = LEVELS[i % 3], ALIKE[i // 3 % 3]
        truth = accuracies(shape, arms, level, rng)
        by_row = truth
        if luck:
            parts = np.clip(truth[:, None] + luck * rng.normal(size=(arms, looks)), 0.02, 0.995)
            by_row = parts[:, np.arange(n) * looks // n]
        right = outcomes(by_row, n, tie_of(level, alike), rng)
        entries, proofs, fits = run_race(right, looks)
        # arm 0 where all are alike: any given one of the equals
        best = int(truth.argmax())
        as_good.append(any(truth[gone] >= truth[leader] for leader, gone in proofs))
        best_gone.append(entries[best].status == "dropped")
        left = [k for k, e in enumerate(entries) if e.status != "dropped"]
        final = left[int(right[left].mean(1).argmax())]
        regret.append(float(truth.max() - truth[final]))
        run_share.append(fits)
    cell = {
        "arms": arms,
        "rows": n,
        "shape": shape,
        "looks": looks,
        "luck_of_training": luck,
        "best_dropped": share(best_gone),
        "any_dropped_though_as_good": share(as_good),
        "regret": common.spread(regret),
        "share_of_fits_run": float(np.mean(run_share)),
    }
    cell["met"] = cell["best_dropped"]["share"] <= MOST_FALSE
    return cell


def every_row_cell(arms: int, n: int, races: int, rng: np.random.Generator) -> Json:
    """All arms alike and a look after each single row: does any rival ever 'prove' one given arm worse?"""
    bar, wrong = log_bar(arms), []
    for i in range(races):
        level, alike = LEVELS[i % 3], ALIKE[i // 3 % 3]
        right = outcomes(np.full(arms, level), n, tie_of(level, alike), rng)
        wins = (right[1:] & ~right[:1]).cumsum(1)
        losses = (right[:1] & ~right[1:]).cumsum(1)
        wrong.append(bool((log_e_value(wins, losses) >= bar).any()))
    cell = share(wrong)
    return {"arms": arms, "rows": n, "given_arm_dropped": cell, "met": cell["share"] <= MOST_FALSE}


# --- rows that belong together


def grouped_cell(arms: int, groups: int, each: int, races: int, rng: np.random.Generator) -> Json:
    """All arms alike, each good with some groups of rows and bad with others; what the groups change, beside tests that count rows.

    Coverage of the winner's interval, "arm 0 differs from arm 1" at 5 %, and how often arm 0 is dropped in a race of five looks.
    """
    n, tie = groups * each, 0.3
    together, alone = np.repeat(np.arange(groups), each), np.arange(n)
    weights = {"groups": bootstrap_counts(n, 1_000, 0, together), "rows": bootstrap_counts(n, 1_000, 0)}
    hits: dict[str, dict[str, list[bool]]] = {
        kind: {who: [] for who in weights} for kind in ("winner_covered", "said_to_differ", "dropped")
    }
    for i in range(races):
        level = LEVELS[i % 3]
        hard, own = rng.standard_normal(n), rng.standard_normal((arms, n))
        liked = np.repeat(rng.standard_normal((arms, groups)), each, axis=1)
        right = np.sqrt(tie) * hard + np.sqrt(tie) * liked + np.sqrt(1 - 2 * tie) * own < ndtri(level)
        for who, ids in (("groups", together), ("rows", alone)):
            found = corrected_winner(right, weights=weights[who], clusters=ids).interval
            hits["winner_covered"][who].append(found.low <= level <= found.high)
            hits["said_to_differ"][who].append(mcnemar_midp(right[0], right[1], ids) <= 0.05)
            hits["dropped"][who].append(run_race(right, 5, ids)[0][0].status == "dropped")
    cell = {kind: {who: share(found) for who, found in by.items()} for kind, by in hits.items()}
    low, high = WINNER_RANGE
    covered, dropped = (cell[kind]["groups"]["share"] for kind in ("winner_covered", "dropped"))
    met = low <= covered <= high and dropped <= MOST_FALSE
    return {"arms": arms, "groups": groups, "rows_a_group": each, **cell, "met": met}


# --- labels saved


@dataclass(frozen=True)
class Law:
    """error(n) = floor + scale * n ** -power: the control's; the base's is the same at `factor` times the labels."""

    floor: float
    scale: float
    power: float

    def error(self, sizes: np.ndarray) -> np.ndarray:
        return np.minimum(self.floor + self.scale * sizes**-self.power, 0.9)


LAWS = (Law(0.0, 1.2, 0.35), Law(0.05, 1.6, 0.5), Law(0.12, 2.0, 0.6))


def simulate_curve(
    errors: np.ndarray, sizes: np.ndarray, draws: int, hardness: np.ndarray, pool: float, rng: Any
) -> LearningCurve:
    """A curve measured with `draws` nested draws on rows of a given hardness.

    A draw's error moves by 12 % at 16 labels, falling to about 4 % at 4,000, alike for neighbouring sizes (nested). Rows differ
    for all methods (hardness) and for this one; what is left is the luck of one draw on one row. pool: labels there are; a
    draw of n of them is the same as any other to the share n / pool (0: draws share nothing).
    """
    steps = np.full(len(sizes), 0.6)
    common_luck, luck = rng.normal(size=1), rng.normal(size=draws)
    scale = 0.12 * (sizes / 16) ** -0.2
    moved = np.empty((len(sizes), draws))
    for j, size in enumerate(sizes):
        if j:
            common_luck = steps[j] * common_luck + np.sqrt(1 - steps[j] ** 2) * rng.normal(size=1)
            luck = steps[j] * luck + np.sqrt(1 - steps[j] ** 2) * rng.normal(size=draws)
        same = min(1.0, size / pool) if pool else 0.0
        # the mean of the factor is 1, so that the truth stays the law's
        z = np.sqrt(same) * common_luck + np.sqrt(1 - same) * luck
        moved[j] = errors[j] * np.exp(scale[j] * z - scale[j] ** 2 / 2)
    rows = len(hardness)
    own = rng.standard_normal(rows, dtype=np.float32)
    noise = rng.standard_normal((len(sizes), draws, rows), dtype=np.float32)
    latent = np.sqrt(0.5) * hardness + np.sqrt(0.25) * own + np.sqrt(0.25) * noise
    right = latent < ndtri(1 - np.clip(moved, 1e-4, 0.98))[:, :, None]
    return LearningCurve(sizes=sizes, errors=1 - right.mean(2).T, right=right, pool=pool or None)


def saved_cell(
    factor: float, draws: int, rows: int, reach: float, pool: float, times: int, rng: np.random.Generator
) -> Json:
    """Coverage of the known factor at 256 labels; reach: the control's largest size over 256."""
    base_sizes, at = np.geomspace(16, 512, 6), 256.0
    sizes = np.geomspace(16, 256 * reach, 6)
    hits, said, true_said, bounds, found_factors = [], [], [], [], []
    for i in range(times):
        law = LAWS[i % len(LAWS)]
        hardness = rng.standard_normal(rows, dtype=np.float32)
        base = simulate_curve(law.error(base_sizes * factor), base_sizes, draws, hardness, pool, rng)
        control = simulate_curve(law.error(sizes), sizes, draws, hardness, pool, rng)
        found = labels_saved(base, control, at=at)
        hits.append(found.low <= factor <= found.high)
        said.append(found.censored)
        if found.censored:
            true_said.append(found.factor <= factor)
            bounds.append(found.factor)
        else:
            found_factors.append(found.factor)
    low, high = SAVED_RANGE
    cover = share(hits)
    cell = {
        "factor": factor,
        "draws": draws,
        "test_rows": rows,
        "control_reaches": reach,
        "one_pool": bool(pool),
        "coverage": cover,
        "censored": share(said),
        "at_least_true": share(true_said),
        "at_least": common.spread(bounds),
        "at_least_said_and_false": share([c and not t for c, t in _said(said, true_said)]),
        "factor_found": common.spread(found_factors),
    }
    if reach > factor:
        cell["met"] = low <= cover["share"] <= high
    else:
        cell["met"] = not true_said or cell["at_least_true"]["share"] >= 0.95
    return cell


def _said(said: list[bool], true_said: list[bool]) -> list[tuple[bool, bool]]:
    truths = iter(true_said)
    return [(c, next(truths) if c else True) for c in said]


# --- all


def measure(races: int, drops: int, curves: int, smoke: bool) -> Json:
    """All cells; a smoke run takes the corners."""
    rng = np.random.default_rng(5)
    arms, rows = ((5, 20), (100, 300)) if smoke else (ARMS, ROWS)
    began, out = time.perf_counter(), {}
    out["winner"] = [winner_cell(k, n, s, races, rng) for k in arms for n in rows for s in SHAPES]
    print(f"winner: {time.perf_counter() - began:.0f} s", flush=True)
    # the product's five folds
    settings = [(k, n, s, 5, 0.0) for k in arms for n in rows for s in SHAPES]
    settings += [(k, n, s, n // 20, 0.0) for k in arms[:2] for n in rows for s in SHAPES]
    settings += [(k, n, s, 5, 0.015) for k in arms[:2] for n in rows[1:] for s in SHAPES]
    out["drops"] = [drop_cell(*setting, drops, rng) for setting in settings]
    out["drops_every_row"] = [every_row_cell(k, n, drops, rng) for k in arms[:2] for n in rows]
    print(f"drops: {time.perf_counter() - began:.0f} s", flush=True)
    shapes = (
        [(5, 40, 10)] if smoke else [(k, g, e) for k in arms[:2] for g, e in ((20, 20), (100, 5), (400, 2))]
    )
    # its own, so that the other cells are those of earlier runs
    grouped_rng = np.random.default_rng(6)
    out["grouped"] = [grouped_cell(*shape, drops, grouped_rng) for shape in shapes]
    cells = [(f, d, r, 16.0, 0.0) for f in FACTORS for d in DRAWS for r in TEST_ROWS]
    cells += [(f, d, r, 2.0, 0.0) for f in FACTORS for d in DRAWS for r in TEST_ROWS]
    cells += [(3.0, d, r, 16.0, 4096.0) for d in DRAWS for r in TEST_ROWS]
    out["labels_saved"] = [saved_cell(*c, curves, rng) for c in (cells[::5] if smoke else cells)]
    out["seconds"] = time.perf_counter() - began
    return out


def told(result: Json) -> Json:
    """Every cell counted, in one line and as aims met and missed; a kind is met when all its cells are."""

    def cells(kind: str) -> tuple[int, int]:
        return sum(c["met"] for c in result[kind]), len(result[kind])

    def reached(kind: str, name: str, pick: Any = bool) -> str:
        values = [c[name]["share"] for c in result[kind] if c[name]["n"] and pick(c)]
        return f"{min(values):.1%} to {max(values):.1%}"

    winner, saved = cells("winner"), cells("labels_saved")
    drops, every, grouped = cells("drops"), cells("drops_every_row"), cells("grouped")
    headline = (
        f"winner's interval covers {reached('winner', 'coverage')}, in range in {winner[0]} of {winner[1]} cells; the best is dropped in "
        f"{reached('drops', 'best_dropped')} of the races ({drops[0]} of {drops[1]} cells at most 5 %); rows in groups: {grouped[0]} of "
        f"{grouped[1]} cells met; labels saved covers "
        f"{reached('labels_saved', 'coverage', lambda c: c['control_reaches'] > c['factor'])}, {saved[0]} of {saved[1]} cells met"
    )
    met = {
        "winner's interval 93-98 % in every cell": winner[0] == winner[1],
        "false eliminations at most 5 % in every cell": drops[0] == drops[1] and every[0] == every[1],
        "rows in groups: winner's interval 93-98 %, false eliminations at most 5 %": grouped[0] == grouped[1],
        "labels saved 93-97 % (censored: true in 95 %) in every cell": saved[0] == saved[1],
    }
    return {"headline": headline, "met": met}


def main() -> None:
    """Simulate, print, write."""
    o = common.options(__doc__, races=1_500, drops=400, curves=1_000)
    races, drops, curves = (30, 10, 20) if o.smoke else (o.races, o.drops, o.curves)
    result = measure(races, drops, curves, o.smoke)
    result |= told(result)
    print(json.dumps({k: result[k] for k in ("headline", "met", "seconds")}, indent=1))
    settings = {"races": races, "drops": drops, "curves": curves}
    common.write_result(
        "honesty", (__doc__ or "").splitlines()[0], result | {"settings": settings}, smoke=o.smoke
    )


if __name__ == "__main__":
    main()

"""Claim: slices, calibration errors and conformal sets keep their promises where rows come in groups, and the calibration error's interval covers it.

By simulation, where the truth is known; the product's own functions, beside what counting rows one by one gives.
Slices: 72 customers of 12 rows, a quarter of them hard, six regions that do not differ: at most 5 % of the reports may confirm one.
Calibration: a confidence that is 0, 5 or 15 points too high throughout, 200 rows: at least 93 % of the intervals hold it; beside it the
percentile bootstrap. The same at 0 and 8 points in 15 groups of 20 and 40 of 20, half of them 20 points better and half 20 worse. Sets at 90 %: at least 89.5 % of new groups' rows are covered, and at most 5 % of the sets fall below their band.
Run: python benchmarks/grouped.py [--times 400]
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

import common
from basewise.stats.calibration import ece_debiased, ece_interval
from basewise.stats.conformal import calibration_rows, conformal_quantile, coverage_band
from basewise.stats.slices import find_slices, halves
from honesty import share

MOST_FALSE, LEAST_COVERED, LEAST_HELD, ALPHA = 0.05, 0.93, 0.895, 0.1
GAPS, ROWS = (0.0, 0.05, 0.15), 200
GROUPED = ((15, 20, 0.0), (15, 20, 0.08), (40, 20, 0.0), (40, 20, 0.08))
"""(groups, rows a group, how much too high the confidence is)"""
SETS = ((15, 20, 1.0), (60, 5, 1.0), (60, 20, 1.0), (200, 2, 1.0), (30, 10, 0.3))
"""(groups, rows a group, how far groups lie apart)"""
Json = dict[str, Any]


def slices(times: int) -> Json:
    """How often a slice is confirmed where none is worse, by groups and by rows."""
    out = {}
    for who, aware in (("groups", True), ("rows", False)):
        hits = []
        for seed in range(times):
            rng = np.random.default_rng(seed)
            customers = np.repeat(np.arange(72), 12)
            region = rng.integers(0, 6, 72)[customers]
            wrong = rng.random(864) < np.where(rng.random(72) < 0.25, 0.9, 0.05)[customers]
            ids = customers if aware else None
            half = halves(864, np.random.default_rng(seed), ids)
            found = find_slices({f"region {r}": region == r for r in range(6)}, wrong, half, clusters=ids)
            hits.append(any(s.confirmed for s in found))
        out[who] = share(hits)
    return {**out, "met": out["groups"]["share"] <= MOST_FALSE}


def percentile(confidence: np.ndarray, right: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """The percentile bootstrap's interval, whose draws hold the noise once more."""
    n = len(right)
    draws = [ece_debiased(confidence[i], right[i], 10) for i in rng.integers(0, n, (300, n))]
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def calibration(gap: float, times: int) -> Json:
    """How often the interval holds a known calibration error."""
    rng = np.random.default_rng(1)
    hits: dict[str, list[bool]] = {"basic": [], "percentile": []}
    for _ in range(times):
        confidence = rng.uniform(0.4, 1, ROWS)
        right = rng.random(ROWS) < confidence - gap
        found = ece_interval(confidence, right, bins=10)
        hits["basic"].append(found.low <= gap <= found.high)
        low, high = percentile(confidence, right, rng)
        hits["percentile"].append(low <= gap <= high)
    out = {name: share(found) for name, found in hits.items()}
    return {"gap": gap, **out, "met": out["basic"]["share"] >= LEAST_COVERED}


def grouped_calibration(groups: int, each: int, gap: float, times: int) -> Json:
    """How often the interval holds a known calibration error of rows in groups, by groups and by rows; and estimates of nothing."""
    rng, clusters = np.random.default_rng(3), np.repeat(np.arange(groups), each)
    hits: dict[str, list[bool]] = {"groups": [], "rows": []}
    nothing = []
    for _ in range(times):
        confidence = rng.uniform(0.45, 0.75, groups * each)
        right = rng.random(groups * each) < confidence - gap + rng.choice([-0.2, 0.2], groups)[clusters]
        for who, ids in (("groups", clusters), ("rows", None)):
            found = ece_interval(confidence, right, bins=10, clusters=ids)
            hits[who].append(found.low <= gap <= found.high)
            if ids is not None:
                nothing.append(found.estimate == 0)
    out = {who: share(found) for who, found in hits.items()}
    shape = {"groups_of_rows": groups, "rows_a_group": each, "gap": gap}
    return {**shape, **out, "estimated_at_0": share(nothing), "met": out["groups"]["share"] >= LEAST_COVERED}


def sets(groups: int, each: int, apart: float, times: int) -> Json:
    """Share of new groups' rows that a set covers, and how often it falls below the band that goes with it."""
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(groups), each)
    held: dict[str, list[float]] = {"groups": [], "rows": []}
    below = []

    def truth(levels: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-(1 + levels + 0.5 * rng.normal(size=len(levels)))))

    for _ in range(times):
        seen = truth(rng.normal(0, apart, groups)[clusters])
        new = truth(rng.normal(0, apart, 2_000))
        for who, ids in (("groups", clusters), ("rows", None)):
            held[who].append(float((new >= conformal_quantile(seen, ALPHA, ids)).mean()))
        band = coverage_band(calibration_rows(seen, ALPHA, clusters), ALPHA, 0.9)
        below.append(held["groups"][-1] < band[0])
    means = {who: common.spread(values) for who, values in held.items()}
    met = means["groups"]["mean"] >= LEAST_HELD and np.mean(below) <= MOST_FALSE
    return {
        "groups": groups,
        "rows_a_group": each,
        "apart": apart,
        "covered": means,
        "below": share(below),
        "met": bool(met),
    }


def main() -> None:
    """Simulate, print, write."""
    o = common.options(__doc__, times=400)
    times, began = 20 if o.smoke else o.times, time.perf_counter()
    found = slices(times)
    errors = [calibration(gap, times) for gap in GAPS]
    together = [grouped_calibration(*shape, times) for shape in GROUPED]
    covered = [sets(*shape, times) for shape in SETS]
    headline = (
        f"a slice that is not there is confirmed in {found['groups']['share']:.1%} of the reports ({found['rows']['share']:.1%} by rows); "
        f"calibration error covered in {min(e['basic']['share'] for e in errors):.1%} or more (percentile "
        f"{min(e['percentile']['share'] for e in errors):.1%}), of rows in groups in {min(e['groups']['share'] for e in together):.1%} "
        f"or more ({min(e['rows']['share'] for e in together):.1%} by rows); 90 % sets cover "
        f"{min(c['covered']['groups']['mean'] for c in covered):.1%} or more of new groups' rows "
        f"({min(c['covered']['rows']['mean'] for c in covered):.1%} by rows)"
    )
    met = {
        "slices: at most 5 % false reports": found["met"],
        "calibration error covered in at least 93 %": all(e["met"] for e in errors),
        "calibration error of rows in groups covered in at least 93 %": all(e["met"] for e in together),
        "sets: at least 89.5 % covered, at most 5 % below the band": all(c["met"] for c in covered),
    }
    print(json.dumps({"headline": headline, "met": met}, indent=1))
    common.write_result(
        "grouped",
        (__doc__ or "").splitlines()[0],
        {
            "settings": {"times": times},
            "slices": found,
            "calibration": errors,
            "calibration_in_groups": together,
            "sets": covered,
            "met": met,
            "headline": headline,
            "seconds": time.perf_counter() - began,
        },
        smoke=o.smoke,
    )


if __name__ == "__main__":
    main()

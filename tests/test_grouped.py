"""Rows that belong together are right or wrong together: what slices, calibration and conformal sets make of them."""

from __future__ import annotations

import numpy as np
import pytest

from basewise.stats.calibration import ece_debiased, ece_interval, reliability
from basewise.stats.conformal import calibration_rows, conformal_quantile, coverage_band
from basewise.stats.slices import find_slices, halves


def test_a_group_lies_in_one_half() -> None:
    clusters = np.random.default_rng(0).integers(0, 40, 500)
    half = halves(500, np.random.default_rng(1), clusters)
    for group in np.unique(clusters):
        assert len(set(half[clusters == group])) == 1
    assert 100 < half.sum() < 400
    alone = halves(500, np.random.default_rng(1), np.arange(500) + 7)
    np.testing.assert_array_equal(alone, halves(500, np.random.default_rng(1)))
    np.testing.assert_array_equal(alone, np.random.default_rng(1).random(500) < 0.5)


def slices_confirmed(seed: int, aware: bool) -> int:
    """How many of twelve regions are confirmed to be worse, where only customers differ and none of the regions does."""
    rng = np.random.default_rng(seed)
    customers = np.repeat(np.arange(72), 12)
    region = rng.integers(0, 6, 72)[customers]
    wrong = rng.random(864) < np.where(rng.random(72) < 0.25, 0.9, 0.05)[customers]
    predicates = {f"region {r}": region == r for r in range(6)}
    ids = customers if aware else None
    half = halves(864, np.random.default_rng(seed), ids)
    return sum(s.confirmed for s in find_slices(predicates, wrong, half, clusters=ids))


def test_differences_between_customers_are_no_slices() -> None:
    blind = [slices_confirmed(seed, False) for seed in range(60)]
    aware = [slices_confirmed(seed, True) for seed in range(60)]
    assert np.mean(np.array(blind) > 0) > 0.5, "rows counted one by one find slices that are not there"
    assert np.mean(np.array(aware) > 0) < 0.1


def test_a_real_slice_is_found_in_groups_and_its_interval_is_wider() -> None:
    rng = np.random.default_rng(0)
    customers = np.repeat(np.arange(300), 4)
    bad = (customers % 5) == 0
    wrong = rng.random(1200) < np.where(bad, 0.6, 0.05)
    half = halves(1200, rng, customers)
    twice = np.repeat(np.arange(1200), 2)
    one = find_slices({"bad": bad}, wrong, half, clusters=np.arange(1200))[0]
    two = find_slices({"bad": bad[twice]}, wrong[twice], half[twice], clusters=twice)[0]
    assert one.confirmed
    assert two.confirmed
    assert two.n == 2 * one.n
    assert two.high - two.low == pytest.approx(one.high - one.low, rel=0.15), "copies say nothing new"


def test_copied_rows_do_not_narrow_the_bins() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.4, 1, 400)
    right = rng.random(400) < confidence
    copies = np.repeat(np.arange(400), 4)
    alone = reliability(confidence, right, 5)
    grouped = reliability(confidence[copies], right[copies], 5, copies)
    for a, b in zip(alone, grouped, strict=True):
        assert b.high - b.low == pytest.approx(a.high - a.low, rel=0.2)
    assert reliability(confidence, right, 5, np.arange(400)) == alone


@pytest.mark.parametrize("gap", [0.0, 0.06, 0.15])
@pytest.mark.slow
def test_the_interval_of_the_calibration_error_covers_it(gap: float) -> None:
    """80 tables of 300 rows whose confidence is `gap` too high throughout."""
    rng, hits, widths = np.random.default_rng(3), 0, []
    for _ in range(80):
        confidence = rng.uniform(0.4, 1, 300)
        found = ece_interval(confidence, rng.random(300) < confidence - gap, bins=10, resamples=150)
        hits += found.low <= gap <= found.high
        widths.append(found.high - found.low)
        assert found.low <= found.estimate <= found.high
    assert hits / 80 >= 0.9
    assert np.mean(widths) < 0.2


@pytest.mark.slow
def test_groups_do_not_hide_a_calibration_error_nor_leave_its_interval() -> None:
    """60 tables of 40 groups of 20, too sure by 8 points; noise by the groups of all rows made 0 of most and missed a quarter."""
    rng, hits, nothing = np.random.default_rng(1), 0, 0
    groups = np.repeat(np.arange(40), 20)
    for _ in range(60):
        confidence = rng.uniform(0.45, 0.75, 800)
        chance = confidence - 0.08 + rng.choice([-0.2, 0.2], 40)[groups]
        found = ece_interval(confidence, rng.random(800) < chance, 10, groups, resamples=60)
        hits += found.low <= 0.08 <= found.high
        nothing += found.estimate == 0
    assert hits / 60 >= 0.92
    assert nothing / 60 <= 0.2


def test_rows_that_are_all_right_leave_the_calibration_error_open() -> None:
    sure = np.full(20, 0.9)
    right, wrong = ece_interval(sure, np.ones(20)), ece_interval(sure, np.zeros(20))
    assert (right.low, right.high) == (0.0, pytest.approx(0.1)), "0.9 lies in Wilson's interval of 20 of 20"
    assert (wrong.low, wrong.high) == (pytest.approx(0.9 - 0.161125, abs=1e-5), pytest.approx(0.9))
    assert ece_interval(np.ones(20), np.ones(20)).high == pytest.approx(0.161125, abs=1e-5)
    one = ece_interval(sure[:1], np.ones(1))
    assert (one.low, one.high) == (0.0, 1.0)
    together = ece_interval(np.ones(20), np.ones(20), clusters=np.arange(20) % 5)
    assert together.high == pytest.approx(0.434482, abs=1e-5), "five groups"


@pytest.mark.parametrize(("n", "share"), [(160, 0.99), (40, 0.97)])
def test_the_interval_covers_where_nearly_all_rows_are_right(n: int, share: float) -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(100):
        confidence = rng.uniform(0.9994, 1, n)
        found = ece_interval(confidence, rng.random(n) < share, 10, resamples=40)
        hits += found.low <= 0.9997 - share <= found.high
    assert hits / 100 >= 0.93


def test_groups_widen_the_interval_of_the_calibration_error() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.4, 1, 300)
    right = rng.random(300) < confidence - 0.1
    copies = np.repeat(np.arange(300), 4)
    alone, grouped, blind = (
        ece_interval(confidence, right),
        ece_interval(confidence[copies], right[copies], clusters=copies),
        ece_interval(confidence[copies], right[copies]),
    )
    assert grouped.high - grouped.low == pytest.approx(alone.high - alone.low, rel=0.35)
    assert blind.high - blind.low < 0.8 * (grouped.high - grouped.low)
    assert ece_debiased(confidence, right) == ece_debiased(confidence, right, clusters=np.arange(300))


@pytest.mark.slow
def test_many_rows_are_drawn_from_some_and_the_width_is_right() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.4, 1, 60_000)
    found = ece_interval(confidence, rng.random(60_000) < confidence - 0.1, resamples=200)
    assert found.n == 60_000
    # of the mean gap, the same throughout
    by_hand = 2 * 1.96 * np.sqrt(0.22 / 60_000)
    assert found.high - found.low == pytest.approx(by_hand, rel=0.25)


def test_sets_cover_rows_of_new_groups() -> None:
    """Calibrated on 15 groups of 20: rows counted one by one promise too much, on average and still more in the bad tenth."""
    rng, alpha = np.random.default_rng(0), 0.1
    blind, aware, below, bands = [], [], 0, []
    clusters = np.repeat(np.arange(15), 20)
    for _ in range(400):
        level = rng.normal(0, 1, 15)[clusters]
        truth = 1 / (1 + np.exp(-(1 + level + 0.5 * rng.normal(size=300))))
        new = 1 / (1 + np.exp(-(1 + rng.normal(0, 1, 2_000) + 0.5 * rng.normal(size=2_000))))
        blind.append(float((new >= conformal_quantile(truth, alpha)).mean()))
        aware.append(float((new >= conformal_quantile(truth, alpha, clusters)).mean()))
        worth = calibration_rows(truth, alpha, clusters)
        assert worth < 300
        bands.append(coverage_band(worth, alpha, 0.9)[0])
        below += aware[-1] < bands[-1]
    assert np.mean(aware) >= 1 - alpha - 0.005
    assert np.mean(aware) > np.mean(blind)
    assert below / 400 <= 0.1, "five in a hundred are promised to lie below the band"


def test_without_groups_the_sets_are_as_ever() -> None:
    truth = np.random.default_rng(0).random(99)
    down = np.sort(truth)[::-1]
    assert conformal_quantile(truth) == down[89]
    assert conformal_quantile(truth, clusters=np.arange(99)) == down[89]
    assert conformal_quantile(truth[:5], 0.1) == 0.0


def test_few_groups_do_not_hide_a_calibration_error() -> None:
    """Rows that are too sure by 0.15 throughout, in groups that have nothing in common: the estimate does not fall with their number."""
    rng = np.random.default_rng(0)
    for groups in (3, 5, 10):
        found = []
        for _ in range(30):
            confidence = rng.uniform(0.5, 1, 300)
            right = rng.random(300) < confidence - 0.15
            found.append(ece_debiased(confidence, right, 10, np.arange(300) % groups))
        assert 0.12 < np.mean(found) < 0.17, groups
    one = ece_interval(confidence, right, clusters=np.zeros(300))
    assert (one.low, one.high) == (0.0, 1.0)


def test_many_rows_in_groups_are_drawn_by_whole_groups() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(300), 200)
    confidence = np.full(60_000, 0.8) + rng.uniform(-0.05, 0.05, 60_000)
    right = rng.random(60_000) < np.clip(0.65 + 0.15 * rng.standard_normal(300), 0, 1)[groups]
    found = ece_interval(confidence, right, 5, groups, resamples=150)
    # of the mean gap
    by_hand = 2 * 1.96 * 0.15 / np.sqrt(300)
    assert found.high - found.low == pytest.approx(by_hand, rel=0.3)

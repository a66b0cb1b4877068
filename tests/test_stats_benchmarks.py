"""Benchmark statistics: linearised numbers have the right mean, paired gaps the right sign, intervals their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.stats import benchmarks as b
from basewise.stats import intervals

VALUES = st.lists(st.floats(-5, 5, allow_subnormal=False), min_size=2, max_size=40)


def alone(n: int) -> np.ndarray:
    return np.arange(n)


@settings(deadline=None)
@given(VALUES, st.integers(0, 2**31))
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(values: list[float], seed: int) -> None:
    from basewise.core.hashing import generator

    x = np.round(np.array(values), 1)
    positive = generator(seed).permutation(len(x)) < max(1, len(x) // 2)
    pairs = x[positive][:, None] - x[~positive][None]
    by_hand = float(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert b.auroc_parts(x, positive).mean() == pytest.approx(by_hand)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0.1, 9)), min_size=1, max_size=30))
def test_a_ratio_of_sums_is_the_mean_of_its_parts(pairs: list[tuple[float, float]]) -> None:
    amounts, sizes = np.array(pairs).T
    assert b.ratio_parts(amounts, sizes).mean() == pytest.approx(amounts.sum() / sizes.sum())


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_gap_turns_its_sign_with_its_sides(pairs: list[tuple[bool, bool]]) -> None:
    left, right = np.array(pairs, float).T
    for clusters in (alone(len(left)), alone(len(left)) // 2):
        (one, p), (other, q) = b.gap(left, right, clusters), b.gap(right, left, clusters)
        assert one.estimate == pytest.approx(-other.estimate)
        assert one.low == pytest.approx(-other.high) or not np.isfinite(one.low)
        assert p == pytest.approx(q) and 0 <= p <= 1
        assert one.low - 1e-8 <= one.estimate <= one.high + 1e-8


@settings(deadline=None)
@given(st.lists(VALUES.filter(lambda v: len(v) == 7), min_size=2, max_size=2))
def test_the_slope_of_two_bases_is_their_difference(values: list[list[float]]) -> None:
    scores = np.array(values)
    assert b.slope(scores, np.array([8.0, 9.0])) == pytest.approx(scores[1] - scores[0])


def test_a_slope_is_as_sure_as_the_differences_it_is_made_of() -> None:
    """Of two bases the error is that of their difference in the slope's unit, also where they hardly or never differ."""
    draw, own = np.random.default_rng(0), np.arange(60)
    sizes = np.array([8.0, 8.5])
    for flips in (0, 1, 20):
        first = draw.integers(0, 2, 60).astype(float)
        second = np.where(np.arange(60) < flips, 1 - first, first)
        careful = b.careful_error(second - first, own, paired=True)
        assert b.slope_error(np.array([first, second]), sizes, own) == pytest.approx(careful / 0.5)
    found, p = b.suite_gap([np.zeros(60)], [own], [b.slope_error(np.ones((2, 60)), sizes, own)])
    assert found.high == pytest.approx(1.96 * 2 / 62, rel=1e-3) and p == pytest.approx(1.0)
    # values that are no counts: nothing is added
    three = draw.normal(size=(3, 60))
    even = np.array([8.0, 9.0, 10.0])
    plain = intervals.standard_error(b.slope(three, even), own)
    assert b.slope_error(three, even, own) == pytest.approx(plain)


def test_a_slope_needs_sizes_that_differ() -> None:
    with pytest.raises(ValueError, match="at least two"):
        b.slope(np.zeros((2, 3)), np.array([8.0, 8.0]))


def test_the_law_of_guessing_is_the_binomial_where_chances_are_equal() -> None:
    from scipy.stats import binom

    for right in (0, 3, 10, 20):
        tail = min(binom.cdf(right, 20, 0.25), binom.sf(right - 1, 20, 0.25))
        scores = np.arange(20) < right
        _, p = b.over_chance(scores.astype(float), np.full(20, 0.25), alone(20))
        assert p == pytest.approx(min(1.0, 2 * tail))


def test_chances_that_differ_add_up() -> None:
    chance = np.array([0.5] * 40 + [0.1] * 40)
    found, p = b.over_chance(np.array([1.0, 0.0] * 40), chance, alone(80))
    assert found.estimate == pytest.approx(0.5 - 0.3)
    assert p < 1e-4


def test_clusters_widen_and_one_cluster_says_nothing() -> None:
    scores = np.repeat([0.0, 1.0] * 10, 10)
    narrow, wide = (
        b.score_interval(scores, alone(200)),
        b.score_interval(scores, np.repeat(np.arange(20), 10)),
    )
    assert wide.high - wide.low > 2.5 * (narrow.high - narrow.low)
    assert intervals.design_effect(scores, np.repeat(np.arange(20), 10)) > 8
    found, p = b.gap(scores, scores[::-1] * 0.5, np.zeros(200))
    assert p == 1.0 and found.high == float("inf")


def test_no_spread_is_not_certainty() -> None:
    zeros = [np.zeros(10)] * 3
    found = b.suite_interval(zeros, [alone(10)] * 3)
    assert found.estimate == found.low == 0 and 0.05 < found.high < 0.3
    few, _ = b.suite_gap(zeros, [alone(10)] * 3)
    many, p = b.suite_gap([np.zeros(1_000)] * 3, [alone(1_000)] * 3)
    assert few.low < 0 < few.high and few.high > 10 * many.high and p == 1.0
    grouped, _ = b.suite_gap(zeros, [alone(10) // 5] * 3)
    assert grouped.high > few.high


def test_few_clusters_that_agree_are_no_certainty() -> None:
    two = np.arange(10) // 5
    found, p = b.over_chance(np.zeros(10), np.full(10, 0.1), two)
    assert p > 0.3 and found.low < 0 < found.high
    equal, p = b.gap(np.ones(10), np.ones(10), two)
    assert p == 1.0 and equal.low < 0 < equal.high
    many, _ = b.gap(np.ones(1_000), np.ones(1_000), np.arange(1_000) // 5)
    assert many.high < 0.05 < equal.high


def test_rounding_is_no_evidence() -> None:
    same = np.array([0.1, 0.7, 0.3, 0.9] * 5)
    noise = same * (1 + 1e-16 * np.arange(20)) - same + 1e-16
    found, p = b.suite_gap([noise, noise], [alone(20)] * 2)
    assert p == 1.0 and abs(found.estimate) < 1e-12 and found.high == float("inf")
    assert b.gap(same, same - noise, alone(20))[1] == 1.0


def test_empty_cluster_names_are_clusters_of_their_own() -> None:
    assert b.own_clusters(["", "x", "", "x"]).tolist() == [0, 1, 2, 1]


def test_the_interval_of_an_area_stays_among_the_shares() -> None:
    positive = np.arange(60) < 30
    x = np.where(positive, 10.0, 0.0) + np.arange(60) % 7
    # nearly all in order
    x[29], x[59] = 4.0, 9.0
    found = b.score_interval(b.auroc_parts(x, positive), alone(60), share=True)
    plain = b.score_interval(b.auroc_parts(x, positive), alone(60))
    assert plain.high > 1, "the case is one that a plain interval fails"
    assert 0 < found.low < found.estimate < found.high < 1


@pytest.mark.slow
def test_intervals_of_areas_ratios_and_suites_cover() -> None:
    """2,000 draws each; within 93 to 97 % for 60 items or more."""
    draw = np.random.default_rng(0)
    hit = {"area": 0, "ratio": 0, "suite": 0, "gap": 0}
    rounds, n = 2_000, 80
    for _ in range(rounds):
        positive = np.arange(n) < n // 2
        x = draw.normal(size=n) + positive
        found = b.score_interval(b.auroc_parts(x, positive), alone(n), share=True)
        # P(N(1, 2) > 0)
        hit["area"] += found.low <= 0.760250 <= found.high
        sizes = draw.gamma(4.0, 1.0, n)
        found = b.score_interval(b.ratio_parts(sizes * draw.gamma(9.0, 1 / 9, n), sizes), alone(n))
        hit["ratio"] += found.low <= 1.0 <= found.high
        rates = (0.2, 0.5, 0.9)
        tasks = [(draw.random(n) < r).astype(float) for r in rates]
        found = b.suite_interval(tasks, [alone(n)] * 3)
        hit["suite"] += found.low <= np.mean(rates) <= found.high
        groups = np.repeat(np.arange(20), 4)
        effect = np.repeat(draw.normal(size=20), 4) + draw.normal(size=80) + 0.3
        found, _ = b.gap(effect, np.zeros(80), groups)
        hit["gap"] += found.low <= 0.3 <= found.high
    assert all(0.93 <= share / rounds <= 0.97 for share in hit.values()), hit


def test_two_areas_are_at_most_one_apart() -> None:
    """Six messages of a real run: the interval of the difference went to -1.28."""
    positive = np.array([True, True, True, False, False, False])
    low = b.auroc_parts(np.array([0.1, 0.2, 0.9, 0.3, 0.4, 0.5]), positive)
    high = b.auroc_parts(np.array([0.9, 0.8, 0.7, 0.3, 0.4, 0.5]), positive)
    plain, p = b.gap(low, high, np.arange(6))
    found, same = b.gap(low, high, np.arange(6), share=True)
    assert plain.low < -1 == found.low and found.high == plain.high and p == same
    rows = np.array([1.0, 1.0, 1.0, 0.0]), np.array([0.0, 0.0, 0.0, 0.0]), np.array([0, 0, 1, 1])
    assert b.gap(*rows)[0].high == 1.0

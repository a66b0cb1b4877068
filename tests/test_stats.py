"""Statistics: golden numbers, and properties that must hold for any input."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import binom

from basewise.stats import (
    calibration,
    conformal,
    duplicates,
    estimators,
    intervals,
    luck,
    noise,
    paired,
    power,
    selection,
    sequential,
    slices,
    transfer,
)
from basewise.steps import worth
from basewise.steps.measures import interval_of


@settings(deadline=None)
@given(st.integers(0, 80), st.integers(0, 80))
def test_sign_test_is_the_exact_binomial_tail(wins: int, losses: int) -> None:
    expected = binom.sf(wins - 1, wins + losses, 0.5)
    assert float(sequential.sign_test(wins, losses)) == pytest.approx(float(expected), abs=1e-12)


def test_golden_intervals() -> None:
    wilson = intervals.wilson(8, 10)
    assert (round(wilson.low, 4), round(wilson.high, 4)) == (0.4902, 0.9433)
    exact = intervals.clopper_pearson(0, 100)
    assert exact.low == 0 and exact.high == pytest.approx(0.0362, abs=1e-4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_intervals_hold_their_estimate_and_stay_in_bounds(case: tuple[int, int]) -> None:
    k, n = case
    for method in (intervals.wilson, intervals.clopper_pearson):
        found = method(k, n)
        assert 0 <= found.low <= k / n <= found.high <= 1
    assert intervals.clopper_pearson(k, n).high >= intervals.wilson(k, n).estimate


def test_clusters_of_copies_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(60) < 0.7
    alone = intervals.clustered_mean(values, np.arange(60))
    copied = intervals.clustered_mean(np.repeat(values, 5), np.repeat(np.arange(60), 5))
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=1e-6)
    assert alone.estimate == copied.estimate


def test_golden_mcnemar() -> None:
    a = np.array([True] * 15 + [False] * 5 + [True] * 80)
    b = np.array([False] * 15 + [True] * 5 + [True] * 80)
    assert paired.mcnemar_midp(a, b) == pytest.approx(0.0266, abs=2e-4)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=5, max_size=80))
def test_paired_difference_is_antisymmetric(rows: list[tuple[bool, bool]]) -> None:
    a, b = np.array(rows).T
    ab, ba = paired.paired_difference(a, b), paired.paired_difference(b, a)
    assert ab.low <= ab.estimate + 1e-9 and ab.estimate <= ab.high + 1e-9
    assert ab.low == pytest.approx(-ba.high, abs=1e-6) and ab.estimate == -ba.estimate


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_adjusted_p_values(p: list[float]) -> None:
    values = np.array(p)
    assert (paired.holm(values) >= values - 1e-12).all()
    assert (paired.holm(values) >= paired.benjamini_hochberg(values) - 1e-12).all()
    assert (paired.benjamini_hochberg(values) >= values - 1e-12).all()


def test_probability_best_sums_to_one() -> None:
    scores = np.random.default_rng(0).random((4, 50))
    assert paired.probability_best(scores).sum() == pytest.approx(1)


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, 200))
def test_e_value_grows_with_wins(wins: int, losses: int) -> None:
    assert sequential.log_e_value(wins + 1, losses) >= sequential.log_e_value(wins, losses) - 1e-9
    assert sequential.log_e_value(0, 0) == pytest.approx(0, abs=1e-9)


def test_e_value_rarely_misjudges_under_continuous_looking() -> None:
    rng = np.random.default_rng(3)
    false = 0
    for _ in range(300):
        walk = np.cumsum(rng.random(300) < 0.5)
        looks = range(1, 301, 5)
        false += any(
            sequential.log_e_value(int(walk[i - 1]), i - int(walk[i - 1])) >= np.log(20) for i in looks
        )
    assert false / 300 <= 0.05


def test_winner_of_equal_arms_is_corrected_downwards() -> None:
    rng = np.random.default_rng(0)
    found = [
        selection.corrected_winner(rng.random((20, 200)) < 0.8, seed=i, resamples=300) for i in range(60)
    ]
    assert np.mean([f.naive for f in found]) > 0.84
    assert abs(np.mean([f.estimate for f in found]) - 0.8) < 0.02
    assert np.mean([f.interval.low <= 0.8 <= f.interval.high for f in found]) > 0.9


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(5, 60))
def test_winner_is_corrected_downwards_inside_its_interval(seed: int, arms: int, n: int) -> None:
    right = np.random.default_rng(seed).random((arms, n)) < 0.7
    found = selection.corrected_winner(right, resamples=100)
    assert 0 <= found.interval.low <= found.estimate <= found.naive
    assert found.estimate <= found.interval.high <= 1
    # nothing was picked: the plain interval of a share
    if arms == 1:
        plain = intervals.wilson(int(right.sum()), n)
        assert (found.interval.low, found.interval.high) == pytest.approx((plain.low, plain.high))


def test_winner_far_ahead_is_left_as_it_is() -> None:
    right = np.random.default_rng(0).random((6, 400)) < np.array([[0.9], *[[0.3]] * 5])
    found = selection.corrected_winner(right)
    assert found.winner == 0 and found.optimism == 0 and found.estimate == found.naive


def as_folds(scores: np.ndarray, rows: int, rng: np.random.Generator) -> list[np.ndarray]:
    """(arms, folds) true shares to one (arms, rows) bool array a fold; rows of one fold are as hard for all arms."""
    hard = rng.random((scores.shape[1], rows))
    own = rng.random((*scores.shape, rows))
    pick = rng.random((*scores.shape, rows)) < 0.5
    drawn = np.where(pick, hard[None], own) < scores[:, :, None]
    return [drawn[:, j] for j in range(scores.shape[1])]


@pytest.mark.parametrize("moved", [0.0, 0.04])
def test_luck_of_training_is_found_on_average(moved: float) -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(60):
        folds = as_folds(0.7 + moved * rng.normal(size=(6, 5)), 300, rng)
        # one arm ran three folds only
        stopped = [fold[: 6 - (j > 2)] for j, fold in enumerate(folds)]
        found.append(luck.luck_of_training(stopped))
    assert found[0].freedom == 5 + 5 + 4 + 4
    assert np.mean([f.variance for f in found]) == pytest.approx(moved**2, abs=2e-4)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 6))
def test_luck_ignores_the_order_of_arms_and_what_all_share(seed: int, arms: int, folds: int) -> None:
    rng = np.random.default_rng(seed)
    rights = [rng.random((arms, 20)) < 0.6 for _ in range(folds)]
    found = luck.luck_of_training(rights)
    turned = luck.luck_of_training([r[::-1] for r in rights])
    assert found.freedom == (arms - 1) * (folds - 1)
    assert turned.spread == pytest.approx(found.spread) and turned.variance == pytest.approx(found.variance)
    same = luck.luck_of_training([np.repeat(r[:1], arms, axis=0) for r in rights])
    assert (same.spread, same.variance) == pytest.approx((0, 0), abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.01))
def test_more_luck_never_makes_a_drop_easier(seed: int, more: float) -> None:
    rng = np.random.default_rng(seed)
    ours, theirs = rng.random(90) < 0.8, rng.random(90) < 0.5
    known = luck.Luck(variance=1e-3, spread=4e-3, freedom=8)
    unsure = luck.Luck(variance=1e-3 + more, spread=4e-3 + more, freedom=8)
    p = luck.worse_across_folds(ours, theirs, [30, 30, 30], known)
    assert 0 <= p <= 1
    if p < 0.5:
        assert luck.worse_across_folds(ours, theirs, [30, 30, 30], unsure) >= p - 1e-9
    # one fold cannot tell luck from worth
    assert luck.worse_across_folds(ours, theirs, [90], known) == 1.0


def test_equal_arms_with_luck_are_seldom_called_worse() -> None:
    rng = np.random.default_rng(4)
    by_rows, by_folds = [], []
    for _ in range(300):
        folds = as_folds(np.clip(0.7 + 0.04 * rng.normal(size=(5, 4)), 0, 1), 400, rng)
        ours, theirs = np.concatenate([f[0] for f in folds]), np.concatenate([f[1] for f in folds])
        by_folds.append(luck.worse_across_folds(ours, theirs, [400] * 4, luck.luck_of_training(folds)))
        by_rows.append(sequential.sign_test(int((ours & ~theirs).sum()), int((theirs & ~ours).sum())))
    # rows alone are fooled
    assert np.mean(np.array(by_rows) <= 0.05) > 0.12
    assert np.mean(np.array(by_folds) <= 0.05) <= 0.07


@pytest.mark.slow
def test_rows_in_groups_count_as_many_as_they_are_worth() -> None:
    """40 groups of 10 rows whose outcomes agree within a group: tests that count rows are fooled, those that know the groups are not."""
    rng = np.random.default_rng(4)
    groups, truth = np.repeat(np.arange(40), 10), float(ndtr(0.6 / np.hypot(0.9, 0.45)))
    fooled, told, covered, scored = [], [], [], []
    for _ in range(300):
        hard = np.repeat(rng.normal(size=(2, 40)), 10, axis=1)
        a, b = 0.9 * hard + 0.45 * rng.normal(size=(2, 400)) < 0.6
        fooled.append(paired.mcnemar_midp(a, b) <= 0.05)
        told.append(paired.mcnemar_midp(a, b, groups) <= 0.05)
        gap = paired.paired_difference(a, b, clusters=groups)
        covered.append(gap.low <= 0 <= gap.high)
        score = interval_of(a, groups)
        scored.append(score["low"] <= truth <= score["high"])
        assert gap.n == score["n"] == 400
    assert np.mean(fooled) > 0.3
    assert 0.02 <= np.mean(told) <= 0.09
    assert 0.91 <= np.mean(covered) <= 0.98
    assert 0.90 <= np.mean(scored) <= 0.99


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60))
def test_rows_on_their_own_are_worth_themselves(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, n)) < 0.7
    alone = rng.permutation(n)
    assert intervals.independent_rows(a, alone) == n
    assert paired.paired_difference(a, b, clusters=alone) == paired.paired_difference(a, b)
    wins, losses = paired.discordant(a, b)
    if wins + losses:
        exact = binom(wins + losses, 0.5)
        k = min(wins, losses)
        assert paired.mcnemar_midp(a, b) == pytest.approx(min(1.0, 2 * exact.cdf(k) - exact.pmf(k)))
    twice = np.repeat(a, 2)
    assert intervals.independent_rows(twice, np.repeat(np.arange(n), 2)) <= n
    one = intervals.independent_rows(a, np.zeros(n))
    assert one == 1


@pytest.mark.parametrize(
    ("n", "discordance"),
    [(5, 0.1), (10, 0.1), (20, 0.1), (100, 0.01), (300, 1 / 300), (400, 0.3), (1_000, 0.1)],
)
def test_the_gap_that_is_told_is_shown_in_four_of_five_tests(n: int, discordance: float) -> None:
    """By simulation of the very test; few rows and few that disagree were told gaps that showed in 4 to 24 of 100."""
    gap = power.smallest_gap(n, discordance)
    assert gap is not None
    apart = max(gap, discordance)
    rng = np.random.default_rng(n)
    outcomes = rng.multinomial(n, [(apart + gap) / 2, (apart - gap) / 2, 1 - apart], 2_000)
    shown = {}
    for b, c, _ in np.unique(outcomes, axis=0):
        a = np.repeat([1, 0], [b, c])
        shown[b, c] = b + c > 0 and paired.mcnemar_midp(a, 1 - a) <= 0.05
    assert np.mean([shown[b, c] for b, c, _ in outcomes]) == pytest.approx(0.8, abs=0.03)


def test_too_few_rows_show_no_gap() -> None:
    assert [power.smallest_gap(n) for n in (0, 1, 4.9)] == [None] * 3
    assert power.smallest_gap(1_001, 1e-3) > power.smallest_gap(1_000, 1e-3) > 1e-3
    assert power.power_of(5, 1.0, 0.1) == pytest.approx(1)


def test_calibrated_probabilities_have_no_debiased_error() -> None:
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(100):
        confidence = rng.uniform(0.5, 1, 500)
        errors.append(calibration.ece_debiased(confidence, rng.random(500) < confidence))
    assert np.mean(errors) < 0.02


def test_promised_risk_is_kept() -> None:
    rng = np.random.default_rng(0)
    broken = 0
    for _ in range(100):
        confidence = rng.random(800)
        right = rng.random(800) < 0.5 + confidence / 2
        found = conformal.threshold_for_risk(confidence, right, 0.1, 0.05)
        if found is not None:
            tail = np.linspace(found[0], 1, 1_000)
            broken += (0.5 - tail / 2).mean() > 0.1
    assert broken <= 8
    assert conformal.threshold_for_risk(np.ones(5), np.ones(5)) is None
    # a size in the middle promises nothing where all rows do
    for n in (110, 200, 205):
        assert conformal.threshold_for_risk(np.linspace(1, 0.6, n), np.ones(n)) == (0.6, 1.0)


def test_rows_that_are_equally_sure_are_promised_for_together() -> None:
    # sorted by class, as tables are
    confidence, right = np.repeat([0.9, 0.6], 500), np.arange(1_000) < 700
    assert conformal.threshold_for_risk(confidence, right) == (0.9, 0.5)
    assert conformal.threshold_for_risk(np.full(1_000, 0.7), right) is None


def test_groups_promise_less() -> None:
    confidence, right = np.linspace(1, 0, 600), np.arange(600) < 480
    alone, grouped = (
        conformal.threshold_for_risk(confidence, right, clusters=groups)
        for groups in (np.arange(600), np.arange(600) // 2)
    )
    assert alone is not None and grouped is not None and grouped[0] > alone[0]


def test_conformal_set_covers() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        p = rng.random(201)
        covered.append(p[-1] >= conformal.conformal_quantile(p[:-1], 0.1))
    assert 0.83 < np.mean(covered) < 0.97
    low, high = conformal.coverage_band(100)
    assert low < 0.9 < high


def test_flipped_labels_are_suspected() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 600)
    p = np.full((600, 4), 0.05)
    p[np.arange(600), labels] = 0.85
    given_labels = labels.copy()
    flipped = rng.choice(600, 30, replace=False)
    given_labels[flipped] = (labels[flipped] + 1) % 4
    assert set(noise.label_suspects(p, given_labels)[:30]) == set(flipped)
    assert not len(
        noise.label_suspects(np.tile([0.95, 0.05], (480, 1)), (np.arange(480) % 20 == 0).astype(int))
    ), "a predictor that gives all rows the same doubts none"


def test_near_duplicates() -> None:
    texts = [
        "Hello, my parcel has not arrived yet and I am waiting since Monday",
        "hello my parcel has not arrived yet, and I am waiting since monday!",
        "Hi, my parcel has not arrived yet and I am waiting since Monday",
        "I cannot log in to my account after the last update",
        "",
        "",
    ]
    exact, near = duplicates.exact_groups(texts), duplicates.Sketch.of(texts).groups(0.7)
    assert exact[0] == exact[1] != exact[2] and exact[4] != exact[5]
    assert near[0] == near[1] == near[2] != near[3] and near[4] != near[5]


def test_long_texts_that_begin_alike_are_not_the_same() -> None:
    rng = np.random.default_rng(4)
    words = ["".join(rng.choice(list("abcdefghijklmnop"), 6)) for _ in range(3000)]

    def say(count: int) -> str:
        return " ".join(rng.choice(words, count))

    head, tail = say(700), say(12_000)
    texts = [
        f"{head} {say(3000)}",
        f"{head} {say(3000)}",
        f"{head} {tail}",
        f"{head} {tail} {say(100)}",
        tail,
    ]
    near = duplicates.Sketch.of(texts).groups(0.8)
    assert len(set(near[:3])) == 3
    assert near[2] == near[3] == near[4], "a changed end, or another beginning, leaves them near"
    whole = np.unique(duplicates._hashes(duplicates.normalise(tail)))
    assert (duplicates._shingles(duplicates.normalise(tail)) == whole[: duplicates.MOST_SHINGLES]).all()
    assert len(tail) > duplicates.PIECE, "more than one piece"


def test_long_texts_are_compared_by_a_sample_of_their_shingles() -> None:
    """Of thousands of characters a fixed number of hashes is kept, and what is told apart stays so."""
    rng = np.random.default_rng(0)
    words = rng.integers(10**4, 10**5, (40, 600)).astype(str)
    changed = words.copy()
    # a fiftieth, and three tenths, of the words
    changed[:20, :12], changed[20:, :180] = "other", "another"
    texts = [" ".join(row) for row in (*words, *changed)]
    assert max(len(duplicates._shingles(text)) for text in texts) == duplicates.MOST_SHINGLES
    near = duplicates.Sketch.of(texts).groups(0.8)
    assert (near[:20] == near[40:60]).all() and len(np.unique(near)) == 60
    short = np.arange(0, 300, dtype=np.uint64), np.arange(100, 400, dtype=np.uint64)
    assert duplicates.jaccard(*short) == 0.5


def test_rows_that_only_share_words_are_told_apart_by_their_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing their texts pair by pair is what would take hours of a large table."""
    rng = np.random.default_rng(1)
    common, rare = (rng.integers(low, 10 * low, 60).astype(str) for low in (10**3, 10**5))
    texts = [" ".join([*rng.choice(common, 25), *rng.choice(rare, 6)]) for _ in range(600)]
    texts.append(texts[0] + " once more")
    compared = []
    true = duplicates.jaccard
    monkeypatch.setattr(duplicates, "jaccard", lambda a, b: compared.append(1) or true(a, b))
    near = duplicates.Sketch.of(texts).groups(0.8)
    assert near[0] == near[600] and len(np.unique(near)) == 600
    assert len(compared) < 20


def test_identical_rows_stay_linear() -> None:
    assert len(set(duplicates.Sketch.of(["the same words again"] * 5_000).groups(0.7))) == 1


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_estimators_ignore_empty_columns_and_rotation(seed: int, padding: int) -> None:
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(12, 40)), int(rng.integers(3, 60))
    x, y = rng.normal(size=(n, d)), np.arange(n) % 3
    padded = np.hstack([x, np.zeros((n, padding))])
    turn, _ = np.linalg.qr(rng.normal(size=(d, d)))
    for estimate in (estimators.logme, estimators.hscore_shrunk):
        assert estimate(padded, y) == pytest.approx(estimate(x, y), rel=1e-5, abs=1e-6)
        assert estimate(x @ turn, y) == pytest.approx(estimate(x, y), rel=1e-5, abs=1e-6)
    assert estimators.neighbours(padded, y) == estimators.neighbours(x, y)


def test_estimators_prefer_features_that_tell_the_classes_apart() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    noise_only = rng.normal(size=(90, 200))
    telling = noise_only + 3 * np.eye(3)[y] @ rng.normal(size=(3, 200))
    for estimate in (estimators.logme, estimators.hscore_shrunk, estimators.neighbours):
        assert estimate(telling, y) > estimate(noise_only, y)


def test_planted_slice_is_confirmed() -> None:
    rng = np.random.default_rng(0)
    inside = rng.random(800) < 0.2
    wrong = rng.random(800) < np.where(inside, 0.5, 0.1)
    predicates = {"planted": inside, **{f"noise {i}": rng.random(800) < 0.3 for i in range(20)}}
    found = slices.find_slices(predicates, wrong, rng.random(800) < 0.5)
    assert found[0].name == "planted" and found[0].confirmed
    assert sum(s.confirmed for s in found) <= 3


def curve(factor: float, rng: np.random.Generator, draws: int = 5, rows: int = 600) -> transfer.LearningCurve:
    sizes = np.geomspace(20, 2_000, 6)
    truth = 0.1 + 2.0 * (sizes * factor) ** -0.5
    right = rng.random((6, draws, rows)) < (1 - truth)[:, None, None]
    return transfer.LearningCurve(sizes=sizes, errors=1 - right.mean(2).T, right=right)


def test_labels_saved_finds_the_factor_and_says_when_it_cannot() -> None:
    rng = np.random.default_rng(0)
    found = transfer.labels_saved(curve(4, rng), curve(1, rng), at=200)
    assert found.low <= 4 <= found.high and not found.censored
    beyond = transfer.labels_saved(curve(50, rng), curve(1, rng), at=1_000)
    assert beyond.censored and beyond.high == float("inf")


def test_rows_in_groups_bound_the_labels_saved_as_the_groups_would() -> None:
    rng = np.random.default_rng(0)
    base, control = curve(4, rng), curve(1, rng)
    alone = transfer.labels_saved(base, control, at=200)
    groups = rng.permutation(np.repeat(np.arange(600), 3))

    def grouped(one: transfer.LearningCurve) -> transfer.LearningCurve:
        assert one.right is not None
        right = transfer.by_group(one.right[..., groups], groups)
        assert np.allclose(1 - right.mean(2).T, one.errors)
        return replace(one, right=right)

    found = transfer.labels_saved(grouped(base), grouped(control), at=200)
    assert (found.factor, found.low, found.high) == pytest.approx((alone.factor, alone.low, alone.high))
    assert base.right is not None and transfer.by_group(base.right, np.arange(600)) is base.right


def noisy(
    draws: int, pool: float | None, rng: np.random.Generator, rows: int = 400, level: float = 0.1
) -> transfer.LearningCurve:
    """A curve whose draws move by `level` of the error at the first size, half at the last; draws share rows of a pool."""
    sizes = np.geomspace(16, 1_000, 5)
    truth = 0.1 + 1.5 * sizes**-0.5
    share = np.minimum(sizes / pool, 1.0) if pool else np.zeros(5)
    z = np.sqrt(share) * rng.normal(size=5) + np.sqrt(1 - share) * rng.normal(size=(draws, 5))
    moved = truth * (1 + level * np.linspace(1, 0.5, 5) * z)
    right = rng.random((5, draws, rows)) < 1 - moved.T[:, :, None]
    return transfer.LearningCurve(sizes=sizes, errors=1 - right.mean(2).T, right=right, pool=pool)


@pytest.mark.parametrize(("draws", "pool"), [(3, None), (6, None), (4, 4_000.0)])
def test_luck_of_draws_is_counted_once(draws: int, pool: float | None) -> None:
    rng = np.random.default_rng(6)
    curves = [noisy(draws, pool, rng) for _ in range(300)]
    found = np.mean([np.diag(transfer._draw_covariance(c)[0]) for c in curves], axis=0)
    rows = np.mean([transfer._spread_of_rows(transfer._row_deviations(c))[0] for c in curves], axis=0)
    seen = np.var([c.errors.mean(0) for c in curves], axis=0)
    assert found + rows == pytest.approx(seen, rel=0.25)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_draws_from_fewer_rows_say_less(seed: int, draws: int) -> None:
    curve = noisy(draws, None, np.random.default_rng(seed))
    scale = [
        transfer._draw_covariance(replace(curve, pool=pool))[1] for pool in (None, 1e6, 8_000.0, 2_500.0)
    ]
    for more, fewer in pairwise(scale):
        assert (fewer >= more - 1e-15).all()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.floats(1, 30))
def test_labels_saved_hold_their_factor_and_spend_five_percent(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    base, control = curve(factor, rng, rows=100), curve(1, rng, rows=100)
    found = transfer.labels_saved(base, control, at=300)
    assert 0 <= found.low <= found.factor <= found.high
    assert not found.censored or (found.low == found.factor and found.high == float("inf"))
    gap = transfer._behind(base, control, 300, control.sizes)
    level = transfer._upper_level(gap)
    assert ((level >= transfer.TAIL) & (level < 0.05)).all()
    assert (transfer._picked_level(gap) >= transfer.PICKED).all()


def measured(factor: float, rng: np.random.Generator) -> dict[str, object]:
    found = curve(factor, rng, rows=4_000)
    return {"sizes": list(found.sizes), "errors": found.errors.T.tolist(), "right": found.right}


def test_labels_saved_are_read_where_the_control_can_catch_up() -> None:
    rng = np.random.default_rng(1)
    found = worth.saved_labels(measured(3, rng), measured(1, rng), "words")
    assert found["at"] * worth.ROOM <= 2_000 and not found["censored"]
    assert found["low"] <= 3 <= found["high"] and "not shown" not in found["sentence"]
    equal = worth.saved_labels(measured(1, rng), measured(1, rng), "words")
    assert equal["low"] <= 1 and "not shown that the base saves labels" in equal["sentence"]
    ahead = worth.saved_labels(measured(1_000, rng), measured(1, rng), "words")
    assert ahead["censored"] and ahead["high"] is None and "∞" in ahead["sentence"]


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(2, 40), st.integers(1, 9))
def test_more_rivals_or_looks_never_make_a_drop_easier(wins: int, losses: int, arms: int, looks: int) -> None:
    if sequential.proven_worse(wins, losses, arms + 1, looks + 1):
        assert sequential.proven_worse(wins, losses, arms, looks)
        assert sequential.proven_worse(wins + 1, losses, arms + 1, looks + 1)
        assert wins > losses


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_monotone_fit(values: list[float]) -> None:
    fitted = transfer.monotone(np.array(values))
    assert (np.diff(fitted) <= 1e-12).all() and fitted.mean() == pytest.approx(np.mean(values))

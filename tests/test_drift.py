"""Drift, alarms and accuracy without labels: p-values that are exact, alarms as rare as stated, shifts that are seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.stats import alarms
from basewise.stats.drift import Said, _aucs, _chi2, _ks, compare
from basewise.stats.unlabelled import estimated_accuracy, label_shift
from basewise.web import windows


def rows(
    rng: np.random.Generator, n: int, shift: float = 0.0, prior: tuple[float, ...] = (0.5, 0.3, 0.2)
) -> Said:
    labels = rng.choice(len(prior), n, p=prior)
    confidence = np.clip(rng.beta(6, 2, n) - 0.2 * shift, 0, 1).round(2)
    return Said(labels, confidence, rng.normal(size=(n, 6)) + shift)


@pytest.mark.slow
def test_the_joint_p_value_is_uniform_where_nothing_has_changed() -> None:
    rng = np.random.default_rng(0)
    p = np.array([compare(rows(rng, 60), rows(rng, 40), rng, permutations=39).p for _ in range(600)])
    counts = np.bincount((p * 40).round().astype(int), minlength=41)[1:]
    assert counts.sum() == 600
    expected = 15.0
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    # 39 degrees of freedom: beyond it with probability 0.001; the seed is fixed
    assert chi2 < 73


def test_rows_that_are_all_the_same_show_nothing() -> None:
    same = Said(np.zeros(100, int), np.ones(100), np.zeros((100, 3)))
    rng = np.random.default_rng(7)
    found = [compare(same, same, rng, permutations=39) for _ in range(60)]
    # 6 expected, more than 15 with probability 0.0001
    assert sum(f.p <= 0.1 for f in found) <= 15
    assert sum(f.p_values["features"] <= 0.1 for f in found) <= 15


@pytest.mark.parametrize(("shift", "prior"), [(0.5, (0.5, 0.3, 0.2)), (0.0, (0.2, 0.3, 0.5))])
def test_a_shift_is_seen(shift: float, prior: tuple[float, ...]) -> None:
    rng = np.random.default_rng(1)
    found = compare(rows(rng, 300), rows(rng, 300, shift, prior), rng)
    assert found.p <= 0.01
    assert (found.auc or 0) > 0.6 or shift == 0


def test_tests_agree_with_their_definitions() -> None:
    from scipy.stats import ks_2samp
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(2)
    values = rng.integers(0, 12, 50) / 10
    member = np.zeros((1, 50))
    member[0, 30:] = 1
    assert _ks(values, member)[0] == pytest.approx(ks_2samp(values[:30], values[30:]).statistic)
    scores = rng.normal(size=(1, 50))
    assert _aucs(scores, member)[0] == pytest.approx(roc_auc_score(member[0], scores[0]))
    tied = scores.round(0)
    assert _aucs(tied, member)[0] == pytest.approx(roc_auc_score(member[0], tied[0]))
    labels = np.repeat([0, 1], 25)
    assert _chi2(labels, np.ones((1, 50)) * (np.arange(50) % 2)) == pytest.approx(0.0, abs=0.2)


def test_rows_without_features_are_compared_by_their_outputs() -> None:
    rng = np.random.default_rng(3)
    a, b = rows(rng, 50), rows(rng, 50)
    found = compare(Said(a.labels, a.confidence), b, rng)
    assert set(found.p_values) == {"confidence", "classes"}
    assert found.auc is None


@pytest.mark.parametrize("windows", [50, 200])
@pytest.mark.slow
def test_alarms_without_a_change_come_as_often_as_stated(windows: int) -> None:
    rng = np.random.default_rng(4)
    threshold = alarms.threshold_for(windows)
    assert alarms.run_length(threshold) == pytest.approx(windows, rel=0.05)
    lengths = []
    for _ in range(1500):
        level, n = 0.0, 0
        while level < threshold:
            level, n = alarms.cusum(level, rng.integers(1, 201) / 200), n + 1
        lengths.append(n)
    error = np.std(lengths) / np.sqrt(len(lengths))
    assert np.mean(lengths) == pytest.approx(windows, abs=4 * error)


@given(st.floats(0.005, 1), st.floats(0, 10))
def test_the_level_never_falls_below_nothing(p: float, before: float) -> None:
    assert alarms.cusum(before, p) >= 0
    assert alarms.cusum(before, 0.005) >= alarms.cusum(before, p)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 100), st.floats(0.05, 0.99))
def test_without_a_change_the_estimate_is_the_accuracy_then(seed: int, accuracy: float) -> None:
    rng = np.random.default_rng(seed)
    confidence = rng.random(400).round(2)
    right = rng.random(400) < accuracy
    found = estimated_accuracy(confidence, right, confidence, rng)
    assert found.estimate == pytest.approx(right.mean(), abs=1e-9)
    assert found.by_confidence == pytest.approx(right.mean())
    assert found.low <= found.estimate <= found.high


@pytest.mark.slow
def test_each_estimate_finds_the_truth_where_its_assumption_holds() -> None:
    """ATC: rows above a threshold are right, those below are wrong. DoC: the confidence is calibrated then and now."""
    rng = np.random.default_rng(5)
    held, close = 0, 0
    for _ in range(40):
        then, now = rng.beta(8, 2, 600), rng.beta(6, 3, 500)
        found = estimated_accuracy(then, then > 0.75, now, rng)
        held += found.low <= (now > 0.75).mean() <= found.high
        calibrated = estimated_accuracy(then, rng.random(600) < then, now, rng)
        # 2.9 standard errors of the accuracy then
        close += abs(calibrated.by_confidence - now.mean()) < 0.05
    assert held >= 36
    assert close >= 37


@pytest.mark.parametrize("confidence", [0.99, 0.01])
def test_an_estimate_of_all_rows_or_none_is_not_certain(confidence: float) -> None:
    rng = np.random.default_rng(0)
    then = rng.random(400)
    found = estimated_accuracy(then, then > 0.3, np.full(50, confidence), rng)
    assert found.estimate == float(confidence > 0.5)
    assert found.high - found.low == pytest.approx(1.96**2 / (50 + 1.96**2), abs=1e-3)


@pytest.mark.slow
def test_held_out_rows_in_groups_leave_more_open() -> None:
    """25 references of 20 groups of 20, some hard: counted one by one their accuracy was missed in a third."""
    clusters, missed, blind = np.repeat(np.arange(20), 20), 0, 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        hard = (rng.random(20) < 0.3)[clusters]
        right = rng.random(400) < np.where(hard, 0.3, 0.95)
        then, now = rng.beta(4, 1.5, 400), rng.beta(4, 1.5, 500)
        for ids in (clusters, None):
            found = estimated_accuracy(then, right, now, rng, ids)
            out = not found.low <= 0.755 <= found.high
            missed, blind = missed + (out and ids is not None), blind + (out and ids is None)
    assert missed / 25 <= 0.1 < 0.2 < blind / 25


def test_shares_of_classes_leave_more_open_where_rows_come_in_groups() -> None:
    rng, clusters = np.random.default_rng(0), np.repeat(np.arange(20), 20)
    true = (rng.random(20) < 0.5).astype(int)[clusters]
    said = np.where(rng.random(400) < np.where(rng.random(20) < 0.3, 0.5, 0.02)[clusters], 1 - true, true)
    confusion = np.zeros((2, 2))
    np.add.at(confusion, (said, true), 1)
    counts = np.array([300, 100])
    alone = label_shift(confusion, counts, rng)
    grouped = label_shift(confusion, counts, rng, (said, true, clusters))
    assert (grouped["now"] == alone["now"]).all()
    assert (grouped["high"] - grouped["low"] > 1.3 * (alone["high"] - alone["low"])).all()


def test_label_shift_is_recovered() -> None:
    rng = np.random.default_rng(6)
    said_given_true = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.2], [0.1, 0.1, 0.7]])
    then, now = np.array([0.4, 0.3, 0.3]), np.array([0.1, 0.2, 0.7])
    confusion = rng.multinomial(30_000, (said_given_true * then).ravel()).reshape(3, 3)
    counts = rng.multinomial(20_000, said_given_true @ now)
    found = label_shift(confusion, counts, rng)
    assert found["now"].sum() == pytest.approx(1)
    assert np.abs(found["now"] - now).max() < 0.05
    assert ((found["low"] <= now) & (now <= found["high"])).all()
    assert np.abs(label_shift(confusion, confusion.sum(1), rng)["now"] - found["before"]).max() < 0.01


@pytest.mark.parametrize("classes", [windows.MOST_SHIFTED, 400])
def test_shares_are_not_told_of_very_many_classes(classes: int) -> None:
    rng = np.random.default_rng(0)
    confusion = (np.eye(classes) * 20 + rng.integers(0, 2, (classes, classes))).tolist()
    reference = {"confusion": confusion, "confidence": rng.random(900).tolist(), "right": [1] * 900}
    told = {"version": "v", "classes": [str(i) for i in range(classes)], "reference": reference}
    lines = [(i, int(rng.integers(classes)), float(rng.random()), 0, None) for i in range(500)]
    found = windows.look(told, windows.Rows(lines, lines, lines), 0, None)
    assert ("shares" in found) == (classes <= windows.MOST_SHIFTED)
    assert "estimated_accuracy" in found

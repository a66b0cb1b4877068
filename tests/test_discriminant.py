"""Discriminants: scikit-learn's numbers, what must not change them, classes with one row or none; and the probe beside them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.engine import probe
from basewise.engine.discriminant import SHRINKAGES, discriminants, held_out_discriminants
from basewise.engine.folds import folds_of, rows_a_class
from basewise.engine.heads import log_loss, softmax


def blobs(n: int, width: int, classes: int, seed: int, apart: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """(n, width) rows around class means, stretched, with every class present; (n,) labels."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    means = apart * rng.normal(size=(classes, width))
    stretch = np.geomspace(0.3, 3.0, width)
    return (means[labels] + rng.normal(size=(n, width)) * stretch).astype(np.float32), labels


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
@pytest.mark.parametrize("classes", [2, 4])
def test_numbers_are_those_of_scikit_learn(shrinkage: float, classes: int) -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    x, y = blobs(80, 6, classes, 1)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x, y)
    head = discriminants(x, y, classes, (shrinkage,))[shrinkage]
    # they divide the spread by n, here it is by n - C: their products are that much larger
    larger = 80 / (80 - classes)
    prior = np.log(np.bincount(y) / 80)
    centre = x.mean(0).astype(np.float64)
    coefficients = np.linalg.solve(_shrunk(x, y, classes, shrinkage), theirs.means_.T - centre[:, None])
    np.testing.assert_allclose(head.weights, coefficients, rtol=2e-3, atol=2e-3)
    ours = larger * (x @ head.weights + head.bias - prior) + prior
    if classes == 2:
        np.testing.assert_allclose(ours[:, 1] - ours[:, 0], theirs.decision_function(x), rtol=1e-2, atol=2e-2)
    else:
        expected = theirs.decision_function(x)
        np.testing.assert_allclose(
            ours - ours.mean(1, keepdims=True),
            expected - expected.mean(1, keepdims=True),
            rtol=1e-2,
            atol=2e-2,
        )


def _shrunk(x: np.ndarray, y: np.ndarray, classes: int, shrinkage: float) -> np.ndarray:
    means = np.stack([x[y == c].mean(0) for c in range(classes)]).astype(np.float64)
    within = x - means[y]
    spread = within.T @ within / (len(x) - classes)
    return (1 - shrinkage) * spread + shrinkage * np.trace(spread) / len(spread) * np.eye(len(spread))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.sampled_from(SHRINKAGES))
def test_shifting_and_turning_the_rows_changes_nothing(seed: int, classes: int, shrinkage: float) -> None:
    x, y = blobs(40, 5, classes, seed)
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    moved = ((x + rng.normal(size=5)) @ turn).astype(np.float32)
    a = discriminants(x, y, classes, (shrinkage,))[shrinkage].probabilities(x)
    b = discriminants(moved, y, classes, (shrinkage,))[shrinkage].probabilities(moved)
    np.testing.assert_allclose(a, b, atol=2e-3)


def test_classes_without_a_row_get_a_floor_and_odd_tables_stay_finite() -> None:
    x, y = blobs(30, 4, 3, 0)
    found = discriminants(x, y, 5, (0.6,))[0.6].probabilities(x)
    np.testing.assert_allclose(found.sum(1), 1.0, atol=1e-9)
    assert (found[:, 3:] > 0).all() and (found[:, 3:] < 0.04).all()
    for rows, labels in (
        # one row a class: no spread within
        (x[:3], np.arange(3)),
        # all rows alike
        (np.ones((6, 4), np.float32), np.array([0, 1] * 3)),
        (x[:1], np.zeros(1, int)),
    ):
        for head in discriminants(rows, labels, 3, SHRINKAGES).values():
            assert np.isfinite(head.probabilities(rows)).all()


def test_where_classes_are_gaussians_few_rows_do_better_than_by_logistic_regression() -> None:
    from basewise.engine.heads import solve

    gains = []
    for seed in range(6):
        x, y = blobs(1060, 60, 10, seed, apart=0.6)
        train, test = slice(0, 60), slice(60, None)
        head = discriminants(x[train], y[train], 10, (0.6,))[0.6]
        other = solve(x[train], y[train], 10, 5.0)
        gains.append(
            (head.logits(x[test]).argmax(1) == y[test]).mean()
            - (other.logits(x[test]).argmax(1) == y[test]).mean()
        )
    assert np.mean(gains) > 0.02


def test_held_out_is_honest_on_noise_and_leaves_other_rows_out() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 30)).astype(np.float32), rng.integers(0, 2, 200)
    fold = folds_of(y, 5, rng)
    whole = held_out_discriminants(x, y, 2, (0.1,), fold, range(5))[0.1]
    assert log_loss(softmax(whole), y) > np.log(2) - 0.02
    one = held_out_discriminants(x, y, 2, (0.1,), fold, [2])[0.1]
    assert np.isfinite(one[fold == 2]).all()
    assert np.isnan(one[fold != 2]).all()


def matrices(rows: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(9)
    found = {f"layer{k}": rows @ rng.normal(size=(rows.shape[1], 24)) for k in (2, 4, 6)}
    return {**found, "all": sum(found.values()) / 3}


def test_the_probe_takes_a_discriminant_where_it_lowers_the_held_out_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = blobs(240, 24, 12, 3, apart=0.6)
    layers = matrices(x)
    both = probe.fit_probe(layers.__getitem__, list(layers), y, 12)
    assert both.choices["discriminant"] in SHRINKAGES
    monkeypatch.setattr(probe, "_beside", lambda alone, *rest: alone)
    alone = probe.fit_probe(layers.__getitem__, list(layers), y, 12)
    assert alone.choices["discriminant"] is None
    assert both.choices["out_of_fold_log_loss"] < alone.choices["out_of_fold_log_loss"]
    assert both.held_out is not None
    # what was held out is what the fitted head would say of unseen rows: log-probabilities of the same scale
    np.testing.assert_allclose(np.exp(both.held_out).sum(1), 1.0, atol=1e-6)


def test_one_rare_class_does_not_keep_the_others_from_a_choice() -> None:
    x, y = blobs(241, 24, 6, 4)
    y[y == 0] = 1
    # the only row of its class
    y[240] = 0
    layers = matrices(x)
    fitted = probe.fit_probe(layers.__getitem__, list(layers), y, 6)
    assert fitted.choices["out_of_fold_log_loss"] is not None
    assert fitted.held_out is not None
    assert np.isnan(fitted.held_out[240]).all()
    assert np.isfinite(fitted.held_out[:240]).all()


@given(st.lists(st.integers(0, 40), max_size=30))
def test_nine_rows_in_ten_are_in_usual_classes(counts: list[int]) -> None:
    sizes = np.array(counts, int)
    usual = rows_a_class(sizes)
    if not sizes.sum():
        assert usual == 0
    else:
        assert usual in sizes
        assert sizes[sizes >= usual].sum() >= 0.9 * sizes.sum()
        assert sizes[sizes > usual].sum() < 0.9 * sizes.sum() or usual == sizes[sizes > 0].min()

"""The training loop: exact accumulation, schedule, time limit, bad numbers, memory, determinism; and linear heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.core.errors import BasewiseError, OutOfMemory
from basewise.engine import heads, loop
from basewise.engine.folds import folds_of
from basewise.engine.heads import Head, fit_temperature, log_loss, out_of_fold, rotate, softmax, solve
from basewise.engine.optim import adamw, depth_of, groups, set_factor, triangle

ROWS, WIDTH = 40, 6


def problem(seed: int = 0) -> tuple[torch.nn.Module, loop.Loss, np.ndarray]:
    """A linear model on random rows of pretended lengths."""
    with loop.seeded(seed):
        model = torch.nn.Linear(WIDTH, 3)
        x, y = torch.randn(ROWS, WIDTH), torch.randint(0, 3, (ROWS,))
    lengths = np.random.default_rng(seed).integers(1, 30, ROWS)

    def loss(rows: np.ndarray) -> torch.Tensor:
        at = torch.from_numpy(rows)
        return torch.nn.functional.cross_entropy(model(x[at]), y[at], reduction="sum")

    return model, loss, lengths


def run(plan: loop.Plan, seed: int = 0, loss=None) -> tuple[loop.Outcome, torch.Tensor]:
    model, own, lengths = problem(seed)
    optimiser = adamw(groups(model, 0.05, layers=1))
    source = loop.epochs(lengths, 7, np.random.default_rng(seed))
    outcome = loop.train(model, optimiser, source, loss(own) if loss else own, lengths, plan)
    return outcome, model.weight.detach().clone()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 200), st.integers(1, ROWS))
def test_any_cut_gives_the_gradient_of_the_whole_step(budget: int, count: int) -> None:
    model, loss, lengths = problem()
    rows = np.random.default_rng(count).permutation(ROWS)[:count]
    found = []
    for tokens in (0, budget):
        model.zero_grad()
        loop.accumulate(loss, rows, lengths, tokens, False, "cpu")
        found.append(model.weight.grad.clone())
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_training_lowers_the_loss_and_repeats_exactly() -> None:
    one, weights = run(loop.Plan(steps=120))
    two, again = run(loop.Plan(steps=120))
    assert one.steps == 120
    assert not one.shortened
    assert one.loss < 1.05
    torch.testing.assert_close(weights, again, rtol=0, atol=0)
    assert one.loss == two.loss


def test_a_time_limit_shortens_the_run() -> None:
    outcome, _ = run(loop.Plan(steps=10_000_000, seconds=0.2))
    assert outcome.shortened
    assert loop.MEASURED_STEPS <= outcome.steps < 10_000_000


def test_numbers_that_are_not_finite_stop_the_run() -> None:
    with pytest.raises(BasewiseError, match="not a finite number"):
        run(loop.Plan(steps=50), loss=lambda own: lambda rows: own(rows) * float("nan"))


def test_one_bad_step_is_skipped() -> None:
    seen = []

    def spoilt(own):
        def loss(rows: np.ndarray) -> torch.Tensor:
            seen.append(1)
            return own(rows) * (float("nan") if len(seen) == 4 else 1.0)

        return loss

    outcome, weights = run(loop.Plan(steps=20, tokens=0), loss=spoilt)
    assert outcome.steps == 20
    assert torch.isfinite(weights).all()


def test_no_memory_means_smaller_pieces_then_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    # a third of a second each, with all that the tests have imported
    monkeypatch.setattr(loop.gc, "collect", int)

    def tight(limit: int):
        def wrap(own):
            def loss(rows: np.ndarray) -> torch.Tensor:
                if len(rows) > limit:
                    raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")
                return own(rows)

            return loss

        return wrap

    _, small = run(loop.Plan(steps=5), loss=tight(2))
    _, whole = run(loop.Plan(steps=5))
    torch.testing.assert_close(small, whole, rtol=1e-4, atol=1e-6)
    with pytest.raises(OutOfMemory):
        run(loop.Plan(steps=5), loss=tight(0))


def test_a_snapshot_is_a_copy() -> None:
    model, loss, _ = problem()
    optimiser = adamw(groups(model, 0.1, layers=1))
    loss(np.arange(5)).backward()
    optimiser.step()
    state = loop.snapshot(model, optimiser, 1)
    before = state.model["weight"].clone()
    optimiser.step()
    torch.testing.assert_close(state.model["weight"], before, rtol=0, atol=0)
    moments = state.optimiser["state"][0]["exp_avg"]
    assert moments.data_ptr() != optimiser.state_dict()["state"][0]["exp_avg"].data_ptr()


def test_schedule_and_depths() -> None:
    model, _, _ = problem()
    optimiser = adamw(groups(model, 1.0, layers=1))
    rates = []
    for done in (0.05, 0.1, 0.55, 1.0):
        set_factor(optimiser, triangle(done, 0.1))
        rates.append(optimiser.param_groups[0]["lr"] / optimiser.param_groups[0]["rate"])
    assert rates == pytest.approx([0.5, 1.0, 0.5, 0.0])
    names = [
        "embeddings.word",
        "bert.encoder.layer.0.x",
        "model.layers.5.y",
        "classifier.weight",
        "bert.pooler.z",
    ]
    assert [depth_of(name, 6) for name in names] == [0, 1, 6, 7, 7]


def test_epochs_visit_every_row_once() -> None:
    source = loop.epochs(np.arange(1, 24), 5, np.random.default_rng(0))
    assert sorted(np.concatenate([next(source) for _ in range(5)]).tolist()) == list(range(23))


# ---------------------------------------------------------------- heads


def blobs(n: int, width: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return (rng.normal(size=(classes, width))[y] + rng.normal(size=(n, width))).astype(np.float32), y


@pytest.mark.parametrize(("n", "width"), [(60, 8), (20, 50)])
@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_the_solver_agrees_with_scikit_learn(n: int, width: int, strength: float) -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = blobs(n, width, 4)
    rotated, rotation = rotate(x)
    head = rotation.unrotate(solve(rotated, y, 4, strength, energy=rotation.energy, tolerance=1e-6))
    theirs = LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(x, y).predict_proba(x)
    np.testing.assert_allclose(head.probabilities(x), theirs, atol=2e-3)


def test_sparse_and_dense_agree() -> None:
    from scipy.sparse import csr_matrix

    x, y = blobs(50, 7, 3)
    one, two = solve(x, y, 3, 1.0, tolerance=1e-6), solve(csr_matrix(x), y, 3, 1.0, tolerance=1e-6)
    np.testing.assert_allclose(one.probabilities(x), two.probabilities(x), atol=1e-4)


def test_an_absent_class_keeps_a_share_and_tensors_round_trip() -> None:
    x, y = blobs(30, 5, 3)
    head = solve(x, np.where(y == 1, 0, y), 3, 1.0)
    probabilities = head.probabilities(x)
    np.testing.assert_allclose(probabilities[:, 1], 1 / 33, rtol=1e-6)
    np.testing.assert_allclose(probabilities.sum(1), 1.0)
    np.testing.assert_array_equal(Head.of_tensors(head.tensors()).probabilities(x), probabilities)


def test_temperature_recovers_a_known_one() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 4)) * 2
    y = np.array([rng.choice(4, p=p) for p in softmax(logits)])
    assert fit_temperature(logits * 3.0, y) == pytest.approx(3.0, rel=0.1)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.lists(st.integers(0, 4), min_size=5, max_size=60))
def test_folds_are_even_within_each_class(n_folds: int, labels: list[int]) -> None:
    y = np.array(labels)
    fold = folds_of(y, n_folds, np.random.default_rng(0))
    for c in np.unique(y):
        # held out, nothing could be known of its class
        if (y == c).sum() == 1:
            assert fold[y == c] == -1
            continue
        counts = np.bincount(fold[y == c], minlength=n_folds)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("mkl", [True, False])
def test_sparse_products_are_those_of_scipy(mkl: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.sparse import random

    if mkl and not torch.backends.mkl.is_available():
        pytest.skip("torch was built without MKL")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
    design = random(30, 50, 0.1, format="csr", dtype=np.float32, rng=np.random.default_rng(0))
    times, transposed_times = heads.sparse_products(design)
    columns, rows = torch.randn(51, 3)[:-1], torch.randn(30, 3)
    np.testing.assert_allclose(times(columns).numpy(), design.toarray() @ columns.numpy(), atol=1e-5)
    np.testing.assert_allclose(transposed_times(rows).numpy(), design.toarray().T @ rows.numpy(), atol=1e-5)


def test_out_of_fold_is_honest_on_noise() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 30)).astype(np.float32), rng.integers(0, 2, 200)
    logits = out_of_fold(x, y, 2, (0.1, 100.0), folds_of(y, 5, rng))
    assert log_loss(softmax(logits[100.0]), y) > np.log(2) - 0.02
    assert np.isfinite(logits[0.1]).all()

"""The planner's closed forms: parameters as transformers has them, layouts that divide, laws that are found again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.core.shapes import (
    Shape,
    block_parameters,
    flop_per_token,
    parameters,
    parameters_by_part,
    root_parameters,
)
from basewise.stats import plan_memory, plan_time, scaling
from basewise.stats.plan_memory import Layout
from basewise.stats.plan_time import Machine, Seen
from basewise.stats.regime import thresholds_passed

GPU = Machine(
    name="a GPU", device="cuda", memory_bytes=80e9, peak_flop=1e15, share=0.4, memory_rate=3e12, near_rate=4e11,
    far_rate=5e10, per_node=8, price_per_hour=2.0, watts=700.0,
)  # fmt: skip


def shape(**more: object) -> Shape:
    values = {"kind": "qwen3", "layers": 4, "width": 128, "heads": 4, "kv_heads": 2, "inner": 384, "vocabulary": 512, "context": 64}  # fmt: skip
    return Shape(**{**values, **more})  # type: ignore[arg-type]


def _meta(s: Shape) -> int:
    """Parameters of the stock class on the meta device."""
    import torch
    import transformers as t

    v = {"vocab_size": s.vocabulary, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    shared = {"hidden_size": s.width, "num_hidden_layers": s.layers, "num_attention_heads": s.heads, "intermediate_size": s.inner,
              "max_position_embeddings": s.context}  # fmt: skip
    with torch.device("meta"):
        if s.kind == "gpt2":
            config = t.GPT2Config(
                n_positions=s.context, n_embd=s.width, n_layer=s.layers, n_head=s.heads, n_inner=s.inner, **v
            )
            model = t.AutoModelForCausalLM.from_config(config)
        elif s.kind in ("bert", "modernbert"):
            kind = t.BertConfig if s.kind == "bert" else t.ModernBertConfig
            model = t.AutoModelForMaskedLM.from_config(kind(**shared, **v))
        else:
            kind = t.Qwen3Config if s.kind == "qwen3" else t.LlamaConfig
            more = {
                "num_key_value_heads": s.kv_heads,
                "head_dim": s.width // s.heads,
                "tie_word_embeddings": s.tied,
            }
            model = t.AutoModelForCausalLM.from_config(kind(**shared, **more, **v))
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", ["gpt2", "bert", "modernbert", "llama", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_transformers(kind: str, tied: bool) -> None:
    if kind in ("gpt2", "bert", "modernbert") and not tied:
        pytest.skip("its table is always the output matrix too")
    s = shape(kind=kind, tied=tied, kv_heads=2 if kind in ("llama", "qwen3") else 4)
    assert parameters(s) == _meta(s)
    assert parameters(s) == sum(parameters_by_part(s).values())
    assert s.layers * block_parameters(s) + root_parameters(s) == parameters(s)


def test_flop_and_the_thresholds_it_passes() -> None:
    s = shape()
    assert flop_per_token(s) == pytest.approx(
        6 * (parameters(s) - parameters_by_part(s)["norms"]) + 6 * 4 * 128 * 64
    )
    assert thresholds_passed(9e22) == []
    assert len(thresholds_passed(1e23)) == 1
    assert len(thresholds_passed(2e25)) == 2
    assert "third" in thresholds_passed(4e20, base_flop=1e21)[0]
    assert thresholds_passed(3e20, base_flop=1e21) == []


@given(st.integers(1, 500), st.integers(1, 500))
def test_divisors_are_all_and_rise(n: int, most: int) -> None:
    assert plan_time._divisors(n, most) == [k for k in range(1, most + 1) if n % k == 0]


def test_divisors_of_a_batch_beyond_all_counting() -> None:
    assert plan_time._divisors(10**12, 10)[-1] == 10


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([1, 2, 4, 6, 8, 16]), st.integers(1, 64), st.booleans())
def test_layouts_divide_without_remainder(ranks: int, rows: int, tied: bool) -> None:
    s = shape(heads=4, kv_heads=4, tied=tied)
    for one in plan_time.layouts(s, ranks, rows, GPU):
        assert one.ranks == ranks
        assert one.data * one.rows * one.micro_batches == rows
        assert s.heads % one.tensor == s.layers % one.pipeline == s.inner % one.tensor == 0
        assert one.micro_batches >= one.pipeline


def test_the_front_holds_only_layouts_that_fit_and_nothing_beats() -> None:
    s = shape(
        width=4096, heads=32, kv_heads=8, inner=14336, layers=32, vocabulary=128256, context=8192, tied=False
    )
    front = plan_time.search(s, 64, 128, GPU)
    assert front
    assert all(one.memory <= GPU.memory_bytes * (1 - plan_time.MARGIN) for one in front)
    times, memory = [c.step.total for c in front], [c.memory for c in front]
    assert times == sorted(times)
    assert memory == sorted(memory, reverse=True)


def test_more_ranks_need_less_memory_and_recomputing_less_still() -> None:
    s = shape(layers=16, width=1024, inner=3072)
    one, many = (plan_memory.resident(s, Layout(data=w, rows=8)) for w in (1, 64))
    assert many < one
    assert plan_memory.resident(s, Layout(data=64, rows=8, recompute=True)) < many
    assert sum(plan_memory.peak(s, Layout(data=1), "muon")[1].values()) < sum(
        plan_memory.peak(s, Layout(data=1))[1].values()
    )


TRACKED = [
    (Shape(kind="gpt2", layers=12, width=768, heads=12, kv_heads=12, inner=3072, vocabulary=50304, context=1024), 8, 8, False, 4937.3),
    (Shape(kind="qwen3", layers=28, width=1024, heads=16, kv_heads=8, head_width=128, inner=3072, vocabulary=151936, context=2048), 16, 4, False, 18910.7),
    (Shape(kind="llama", layers=32, width=4096, heads=32, kv_heads=8, inner=14336, vocabulary=128256, context=8192, tied=False), 64, 1, True, 11784.0),
]  # fmt: skip
"""Shapes, ranks, rows, recomputing, and the MB that torch 2.13's tracker saw (benchmarks/plan.py); larger ones take minutes there."""


@pytest.mark.parametrize(("s", "world", "rows", "recompute", "tracked"), TRACKED, ids=["124M", "0.6B", "8B"])
def test_memory_is_what_the_tracker_saw(
    s: Shape, world: int, rows: int, recompute: bool, tracked: float
) -> None:
    planned = sum(plan_memory.peak(s, Layout(data=world, rows=rows, recompute=recompute))[1].values())
    assert planned / 1e6 == pytest.approx(tracked, rel=0.01)


def test_a_step_takes_longer_with_a_bubble_or_more_work() -> None:
    s = shape(layers=16, width=1024, inner=3072)
    plain = plan_time.step_time(s, Layout(data=8, rows=8), GPU)
    assert plan_time.step_time(s, Layout(data=8, rows=8, recompute=True), GPU).compute == pytest.approx(
        plain.compute * 4 / 3
    )
    assert plan_time.step_time(s, Layout(data=2, pipeline=4, rows=2, micro_batches=4), GPU).bubble > 0
    between, cost = plan_time.checkpoint_interval(s, 8, GPU)
    assert between == pytest.approx((2 * cost * GPU.hours_between_failures * 3600 / 8) ** 0.5)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 0.6), st.floats(2e8, 2e10), st.floats(0.001, 0.1))
def test_calibration_finds_what_made_the_seconds(share: float, rate: float, overhead: float) -> None:
    draw = np.random.default_rng(0)
    runs = []
    for _ in range(8):
        flop, fetched, micro = 10 ** draw.uniform(11, 14), 10 ** draw.uniform(6, 10), int(draw.integers(1, 8))
        took = flop / (share * GPU.peak_flop) + fetched / rate + overhead * micro
        runs.append(
            Seen(
                ranks=2, flop=flop, fetched=fetched, micro_batches=micro, predicted=took * 1.1, measured=took
            )
        )
    found = plan_time.calibrated(GPU, runs)
    for run in runs:
        guess = (
            run.flop / (found.share * GPU.peak_flop)
            + run.fetched / found.near_rate
            + found.step_overhead * run.micro_batches
        )
        assert guess == pytest.approx(run.measured, rel=1e-3)
    median, worst, n = plan_time.past_error(runs) or (0, 0, 0)
    assert (n, median, worst) == (8, pytest.approx(0.1), pytest.approx(0.1))
    assert plan_time.past_error([]) is None


# ---------------------------------------------------------------- scaling laws

TRUE = scaling.Law(floor=1.7, size_scale=400.0, size_power=0.34, data_scale=400.0, data_power=0.28)


def ladder(law: scaling.Law, seed: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """20 runs: 4 sizes x 5 numbers of tokens."""
    n, d = (x.ravel() for x in np.meshgrid(10 ** np.linspace(5.5, 8.0, 4), 10 ** np.linspace(6.5, 9.5, 5)))
    loss = law.loss(n, d) + noise * np.random.default_rng(seed).standard_normal(20)
    return n, d, loss


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 1000), st.floats(0.3, 0.4), st.floats(0.25, 0.35))
def test_a_known_law_is_found_again(seed: int, a: float, b: float) -> None:
    law = scaling.Law(floor=1.7, size_scale=400.0, size_power=a, data_scale=400.0, data_power=b)
    found = scaling.fit(*ladder(law, seed, 0.002))
    assert abs(found.size_power - a) < 0.02
    assert abs(found.data_power - b) < 0.02


def test_the_best_size_is_where_no_other_is_lower() -> None:
    n, d = TRUE.best(1e20)
    assert 6 * n * d == pytest.approx(1e20)
    best = float(TRUE.loss(n, d))
    assert all(float(TRUE.loss(n * f, d / f)) >= best for f in (0.5, 0.9, 1.1, 2.0))


@pytest.mark.parametrize(("size", "data", "n"), [(0.0, 400.0, 1.0), (400.0, 0.0, 1e18), (1e-290, 400.0, 1.0)])
def test_a_law_that_hangs_on_one_alone_gives_it_everything(size: float, data: float, n: float) -> None:
    law = scaling.Law(floor=1.7, size_scale=size, size_power=0.01, data_scale=data, data_power=0.01)
    assert law.best(6e18) == pytest.approx((n, 1e18 / n))
    assert law.tells_size == (size > 0 and data > 0)


def test_bands_hold_the_truth_and_the_backtest_is_near() -> None:
    n, d, loss = ladder(TRUE, 1, 0.002)
    laws = scaling.bootstrap(n, d, loss, noise=0.002, draws=30)
    values = np.array([float(one.loss(*one.best(1e18))) for one in laws])
    at = scaling.band(float(scaling.fit(n, d, loss).loss(*TRUE.best(1e18))), values)
    truth = float(TRUE.loss(*TRUE.best(1e18)))
    assert at.low - 0.01 <= truth <= at.high + 0.01
    tested = scaling.backtest(n, d, loss)
    assert tested
    assert all(abs(one["error"]) < 0.01 for one in tested)


def test_what_no_law_can_be_fitted_to_is_refused() -> None:
    n, d, loss = ladder(TRUE, 0, 0.0)
    with pytest.raises(ValueError, match="at least 6"):
        scaling.fit(n[:5], d[:5], loss[:5])
    with pytest.raises(ValueError, match="sizes"):
        scaling.fit(np.full(20, 1e6), d, loss)
    with pytest.raises(ValueError, match="finite"):
        scaling.fit(n, d, np.where(np.arange(20) == 3, np.nan, loss))
    with pytest.raises(ValueError, match="30 x"):
        scaling.check_reach(1e30, 6 * n * d)
    assert scaling.check_reach(29 * 6 * float((n * d).max()), 6 * n * d) == pytest.approx(29)


def test_labels_saved_follow_the_loss_with_an_interval() -> None:
    loss = np.array([3.0, 2.5, 2.0, 1.8])
    found = scaling.labels_at(loss, 2.0 - 0.5 * loss, 1.5)
    assert found is not None
    assert found.estimate == pytest.approx(1.25)
    assert scaling.labels_at(np.ones(4), loss, 1.0) is None

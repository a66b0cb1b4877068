"""Linear layers laid out for the processor, in fp32, bf16 and int8, and the screen that finds the likeliest token in int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_decoders
from basewise.core.base import Base
from basewise.engine import fidelity, lean_decoder, rows, screen
from basewise.engine.causal import Causal
from basewise.engine.decoder import Decoder
from basewise.engine.generate import Sampling
from basewise.engine.linear import (
    HALF_ROWS,
    Half,
    Laid,
    Products,
    Whole,
    coded,
    lay_out,
    rounded,
    whole_numbers,
)
from basewise.engine.screen import Screen

PROMPTS = ["the film was", "question: red?", "x"]
needs_whole = pytest.mark.skipif(not whole_numbers(), reason="no exact int8 products on this processor")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_decoders.decoder(tmp_path_factory.mktemp("llama"), "llama")


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.bfloat16, 0.3)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_laid_layer_gives_the_same(dtype: torch.dtype, bound: float, bias: bool) -> None:
    draw = torch.Generator().manual_seed(1)
    weight, x = torch.randn(48, 32, generator=draw), torch.randn(2, 5, 32, generator=draw)
    offset = torch.randn(48, generator=draw).to(dtype) if bias else None
    with torch.inference_mode():
        found = Laid(weight.to(dtype), offset)(x)
    exact = x @ weight.t() + (offset.float() if offset is not None else 0)
    assert found.shape == (2, 5, 48) and found.dtype == dtype
    assert float((found.float() - exact).abs().max()) < bound


def test_half_of_the_bytes_hold_what_was_stored_in_bf16() -> None:
    """Sums as in fp32, a row's whatever is beside it; weights of more digits, or too large for fp16, keep their own product."""
    draw = torch.Generator().manual_seed(4)
    shapes = ((48, 32), (16, 32), (7, 32))
    layers = [torch.nn.Linear(k, n, bias=n > 7).requires_grad_(False) for n, k in shapes]
    for layer in layers:
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=draw).mul(0.05).bfloat16())
    x = torch.randn(9, 32, generator=draw)
    wanted = [layer.double()(x.double()) for layer in layers]
    for layer in layers:
        layer.float()
    lay_out(held := torch.nn.ModuleList(layers), Laid)
    products = Products(*held)
    assert isinstance(held[0], Laid) and products.half is not None
    found = products(x)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape and float((one - other).abs().max()) < 1e-6
    assert all(torch.equal(products(x[r : r + 1])[0][0], found[0][r]) for r in range(9))
    many = torch.randn(HALF_ROWS[torch.float32] + 1, 32, generator=draw)
    assert torch.equal(products(many)[1], held[1](many))
    for wrong in (layers[0].weight + 1e-4, layers[0].weight * 2.0**20):
        with pytest.raises(ValueError, match="digits"):
            Half([wrong], [None])
        layer = torch.nn.Linear(32, 48)
        layer.weight = torch.nn.Parameter(wrong, requires_grad=False)
        assert Products(layer).half is None
    assert Products(layers[0], halved=False).half is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_base_stored_in_bf16_steps_with_weights_in_fp16(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_decoders.decoder(tmp_path, "qwen2", dtype=torch.bfloat16)
    causal = Causal(base, precision)
    lean = rows.lean_of(causal.decoder)
    assert lean is not None and all(
        p.half for b in lean.blocks for p in (b.project, b.out, b.widen, b.narrow)
    )
    options = Sampling(most_tokens=12)
    found = causal.generate(PROMPTS, options)
    assert found == [causal.generate([prompt], options)[0] for prompt in PROMPTS]
    monkeypatch.setattr(lean_decoder, "HALF_BYTES", 0)
    rows._lean.pop(causal.decoder)
    assert causal.generate(PROMPTS, options) == found or precision == "bf16"
    assert not any(block.project.half for block in rows.lean_of(causal.decoder).blocks)  # type: ignore[union-attr]


@needs_whole
def test_an_int8_layer_loses_by_its_weight_alone() -> None:
    """The product is that of the rounded weight; a row does not depend on the rows beside it, however large they are."""
    draw = torch.Generator().manual_seed(2)
    weight, x = torch.randn(48, 64, generator=draw), torch.randn(7, 64, generator=draw)
    x[3] *= 100
    x[:, 5] *= 30
    offset = torch.randn(48, generator=draw)
    layer = Whole(weight, offset)
    whole, scale = rounded(weight)
    exact = x.double() @ (whole.double() * scale.double()[:, None]).t() + offset
    apart = (layer(x) - exact).abs().amax(1) / x.norm(dim=1)
    # of what the second part can lose, of the row's length
    least = 64**0.5 / (4 * 127**2)
    assert float(apart.max()) < least * float(weight.norm(dim=1).max()) + 1e-5
    for row in range(7):
        assert torch.equal(layer(x[row : row + 1])[0], layer(x)[row])
    codes, fine = coded(x)
    products = (codes.double() - 128) @ whole.double().t() * scale.double()
    np.testing.assert_allclose(layer.product(codes).numpy(), products.numpy(), rtol=1e-5, atol=1e-3)
    assert fine.shape == (7, 1)


def test_every_linear_layer_is_replaced_but_one() -> None:
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 4), torch.nn.Sequential(torch.nn.Linear(4, 2)), torch.nn.ReLU()
    )
    kept = model[0]
    assert lay_out(model, Laid, but=kept) == 1
    assert model[0] is kept and isinstance(model[1][0], Laid)


@needs_whole
@given(st.integers(0, 10_000), st.integers(1, 5), st.floats(0.01, 30))
@settings(max_examples=40, deadline=None)
def test_the_screen_loses_no_token(seed: int, count: int, spread: float) -> None:
    """States with outliers, tokens of unlike length, and pairs of tokens that hardly differ."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(300, 32, generator=draw) * torch.rand(300, 1, generator=draw) * spread
    weight[150:] = weight[:150] + 1e-3 * torch.randn(150, 32, generator=draw)
    hidden = torch.randn(count, 32, generator=draw)
    hidden[:, 3] *= 40
    exact = (hidden.double() @ weight.double().t()).numpy()
    found = Screen(weight).likeliest(hidden)
    assert found is not None
    best = exact.max(1)
    np.testing.assert_array_less(best - exact[np.arange(count), found], 1e-4 * np.abs(best) + 1e-6)


@needs_whole
def test_the_screen_says_when_it_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, hidden = torch.ones(64, 16), torch.ones(2, 16)
    assert Screen(weight).likeliest(hidden) == [0, 0]
    monkeypatch.setattr(screen, "MOST_LEFT", 8)
    assert Screen(weight).likeliest(hidden) is None


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3", "olmo2", "gpt2"])
def test_a_lean_step_is_that_of_the_network(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Rows of unlike lengths over a window's edge, one of them dropped half way."""
    decoder = Decoder(tiny_decoders.decoder(tmp_path_factory.mktemp(kind), kind), "fp32")
    assert (rows.lean_of(decoder) is not None) == (kind != "gpt2")
    draw = np.random.default_rng(0)
    prompts = [draw.integers(1, 120, n) for n in (3, 11, 1, 7)]
    steps = draw.integers(1, 120, (8, 4))
    found = []
    for lean in (True, False):
        states, _ = rows.fill(decoder, prompts, 10, 64)
        assert isinstance(states, rows.PackedRows)
        if not lean:
            states.lean = None
        logits = [states.step(tokens) for tokens in steps[:4]]
        states.drop(1)
        logits += [states.step(tokens[:3]) for tokens in steps[4:]]
        found.append(torch.cat(logits))
    assert float((found[0] - found[1]).abs().max()) < 1e-3


@needs_whole
def test_int8_is_taken_where_it_holds_and_says_so(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity, "LEAST_VERIFIED", 1)
    monkeypatch.setattr(fidelity, "CHANGED", 1.0)
    monkeypatch.setattr(fidelity, "MEAN_GAP", 10.0)
    monkeypatch.setattr(fidelity, "WORST_GAP", 100.0)
    causal = Causal(base, "int8", prompts=PROMPTS)
    assert causal.precision == "int8"
    assert causal.why.startswith("int8: ") and "likeliest tokens differ from fp32" in causal.why
    assert any(isinstance(module, Whole) for module in causal.decoder.model.modules())
    options = Sampling(most_tokens=12)
    together = causal.generate(PROMPTS, options)
    assert together == [causal.generate([prompt], options)[0] for prompt in PROMPTS]
    gap = causal.score([(p, " good") for p in PROMPTS]).log_probability
    exact = Causal(base, "fp32").score([(p, " good") for p in PROMPTS]).log_probability
    assert 0 < np.abs(gap - exact).max() < 3


@needs_whole
@pytest.mark.parametrize("fast", [1e11, 3e11])
def test_int8_that_does_not_hold_leaves_the_next_precision(
    base: Base, fast: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from basewise.core.method import Machine
    from basewise.engine import device

    machine = Machine(cores=2, memory_bytes=8 << 30, fp32_peak=1e11, bf16_peak=fast)
    monkeypatch.setattr(device, "machine", lambda: machine)
    monkeypatch.setattr(fidelity, "CHANGED", -1.0)
    causal = Causal(base, "int8", prompts=PROMPTS)
    assert causal.precision == Causal(base, "auto").precision
    assert causal.why.startswith(f"{causal.precision}: int8 was asked for, but ")


def test_a_processor_without_int8_leaves_the_next_precision(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fidelity, "whole_numbers", lambda: False)
    causal = Causal(base, "int8", prompts=PROMPTS)
    assert causal.precision in ("fp32", "bf16")
    assert "no fast exact int8 products" in causal.why


def test_what_follows_is_greedy(base: Base) -> None:
    causal = Causal(base, "fp32")
    prompts = [causal.encode(prompt) for prompt in PROMPTS]
    grown = fidelity.continued(causal.decoder, prompts, 6)
    for before, whole in zip(prompts, grown, strict=True):
        assert whole[: len(before)] == before and len(whole) == len(before) + 6
        assert bool(causal.score_tokens([(before, whole[len(before) :])]).greedy[0])

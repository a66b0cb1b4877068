"""Batches, tokens, layers, pooling and the two networks, against transformers itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from basewise.core.errors import OutOfMemory, UnknownName
from basewise.engine.batches import CPU_TOKENS, batches, room_for
from basewise.engine.direct import Weights
from basewise.engine.encoder import Encoder, HookedNetwork
from basewise.engine.layers import View, default_layers, views
from basewise.engine.lean_bert import LeanBert, fits
from basewise.engine.precision import candidate, compare, cosines, flip_rate, sample_rows
from basewise.engine.tokens import Tokens, pack

CPU = torch.device("cpu")
LENGTHS = hnp.arrays(np.int64, st.integers(0, 200), elements=st.integers(1, 300))


@given(LENGTHS, st.integers(1, 4000))
@settings(max_examples=80, deadline=None)
def test_every_row_is_in_one_batch_within_the_budget(lengths: np.ndarray, budget: int) -> None:
    groups = batches(lengths, budget)
    assert sorted(np.concatenate([*groups, []]).astype(int)) == list(range(len(lengths)))
    assert all(len(g) == 1 or len(g) * lengths[g].max() <= budget for g in groups)


def test_little_padding_on_realistic_lengths() -> None:
    lengths = np.random.default_rng(0).lognormal(3.4, 0.7, 2000).astype(int).clip(3, 256)
    padded = sum(len(g) * lengths[g].max() for g in batches(lengths, CPU_TOKENS))
    assert padded <= 1.1 * lengths.sum()


@given(st.integers(1, 70_000))
def test_a_batch_is_rounded_up_by_little(tokens: int) -> None:
    room = room_for(tokens)
    assert tokens <= room <= max(tokens + 15, tokens * 17 / 16)
    assert room_for(room) == room


def test_batches_share_few_sizes() -> None:
    assert len({room_for(tokens) for tokens in range(1, 4097)}) <= 80


def test_views() -> None:
    assert default_layers(6) == ("layer2", "layer3", "layer4", "layer5", "layer6", "all")
    assert default_layers(30) == ("layer10", "layer15", "layer20", "layer25", "layer30", "all")
    assert [v.name for v in views("default", ("mean",), 0)] == ["all"]
    assert views(("layer2:first", "all"), ("mean",), 3) == (View(2, "first"), View(0, "mean"))
    with pytest.raises(UnknownName, match="layer6"):
        views("layer7", ("mean",), 6)


def small_model(kind: str) -> torch.nn.Module:
    from transformers import (
        BertConfig,
        BertModel,
        LlamaConfig,
        LlamaModel,
        MPNetConfig,
        MPNetModel,
        RobertaConfig,
        RobertaModel,
    )

    torch.manual_seed(3)
    common = {
        "vocab_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    makers = {
        "bert": lambda: BertModel(BertConfig(**common, initializer_range=0.3), add_pooling_layer=False),
        "roberta": lambda: RobertaModel(
            RobertaConfig(**common, pad_token_id=1, initializer_range=0.3), add_pooling_layer=False
        ),
        "mpnet": lambda: MPNetModel(MPNetConfig(**common, initializer_range=0.3), add_pooling_layer=False),
        "llama": lambda: LlamaModel(LlamaConfig(**common, initializer_range=0.3)),
    }
    return makers[kind]().eval()


def rows_of(lengths: list[int]) -> Tokens:
    generator = np.random.default_rng(1)
    return pack([generator.integers(5, 50, n) for n in lengths], np.zeros(len(lengths), bool))


def lean(model: torch.nn.Module, precision: str = "fp32") -> LeanBert:
    return LeanBert(Weights.of(model), precision, CPU)


def reference(model: torch.nn.Module, tokens: Tokens, view: View) -> np.ndarray:
    """Row by row, unpadded, through transformers."""
    out = []
    for index in range(len(tokens)):
        ids = torch.from_numpy(tokens.row(index).astype(np.int64))[None]
        with torch.no_grad():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states
        state = torch.stack(states[1:]).mean(0) if view.layer == 0 else states[view.layer]
        one = {"mean": state[0].mean(0), "first": state[0, 0], "last": state[0, -1]}[view.pooling]
        out.append(one.numpy())
    return np.stack(out)


WANTED = views(("layer1", "layer3", "all", "layer2:first", "layer3:last"), ("mean",), 3)
RAGGED = [9, 1, 40, 9, 17, 40, 3, 2, 40, 40]


@pytest.mark.parametrize("kind", ["bert", "roberta", "mpnet", "llama"])
@pytest.mark.parametrize("way", ["hooked", "lean"])
def test_equal_to_transformers(kind: str, way: str) -> None:
    model = small_model(kind)
    if way == "lean" and not fits(model.config):
        assert kind == "llama"
        return
    network = lean(model) if way == "lean" else HookedNetwork(model, "fp32", CPU)
    for lengths, budget in ((RAGGED, 100), ([7] * 5, 100), ([40, 39], 20)):
        tokens = rows_of(lengths)
        got = Encoder(network, budget).encode(tokens, WANTED)
        for place, view in enumerate(WANTED):
            np.testing.assert_allclose(
                got[:, place], reference(model, tokens, view), atol=2e-5, err_msg=view.name
            )


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
# with added rows and without
@pytest.mark.parametrize("lengths", [RAGGED, [7] * 5, [16] * 4])
def test_bf16_is_near(kind: str, lengths: list[int]) -> None:
    model = small_model(kind)
    tokens = rows_of(lengths)
    exact = Encoder(lean(model)).encode(tokens, WANTED)
    near = Encoder(lean(model, "bf16")).encode(tokens, WANTED)
    found = compare("bf16", exact, near)
    assert found.worst_cosine > 0.99
    assert found.rows == len(tokens)


def test_bf16_attention_survives_scores_that_overflow() -> None:
    model = small_model("bert")
    with torch.no_grad():
        for layer in model.encoder.layer:
            layer.attention.self.query.weight.mul_(60)
    tokens = rows_of(RAGGED)
    got = Encoder(lean(model, "bf16")).encode(tokens, WANTED)
    assert np.isfinite(got).all()


def test_stops_after_the_deepest_layer() -> None:
    model = small_model("bert")
    calls: list[int] = []
    model.encoder.layer[2].register_forward_pre_hook(lambda *_: calls.append(2))
    tokens = rows_of([5, 6])
    got = Encoder(HookedNetwork(model, "fp32", CPU)).encode(tokens, views("layer2", ("mean",), 3))
    assert not calls
    assert got.shape == (2, 1, 32)
    assert not any(b._forward_hooks for b in model.encoder.layer)


class _Full:
    """A network whose memory holds so many tokens and no more."""

    layers, width, device = 1, 2, CPU

    def __init__(self, holds: int) -> None:
        self.holds, self.inner = holds, 0

    def forward(self, batch, deepest, seen) -> None:  # type: ignore[no-untyped-def]
        if len(batch.flat) > self.holds:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")
        seen(1, lambda how: torch.from_numpy(batch.lengths).float()[:, None].expand(-1, 2))


def test_out_of_memory_takes_smaller_batches() -> None:
    tokens = rows_of([3, 9, 1, 4, 4, 8, 2])
    encoder = Encoder(_Full(10), budget=64)
    got = encoder.encode(tokens, views("layer1", ("mean",), 1))
    np.testing.assert_array_equal(got[:, 0, 0], tokens.lengths)
    assert encoder.budget <= 16
    with pytest.raises(OutOfMemory, match="9 tokens"):
        Encoder(_Full(8), budget=64).encode(tokens, views("layer1", ("mean",), 1))


def test_precision_verdicts() -> None:
    generator = np.random.default_rng(0)
    exact = generator.normal(size=(40, 2, 16)).astype(np.float32)
    assert compare("bf16", exact, exact * 1.001).holds
    bad = exact.copy()
    bad[7, 1] = -bad[7, 1]
    assert not compare("bf16", exact, bad).holds
    assert not compare("int8", exact, np.roll(exact, 1, 0)).holds
    assert not compare("bf16", exact, exact * np.nan).holds
    assert cosines(np.zeros((1, 3)), np.zeros((1, 3)))[0] == 1.0
    assert flip_rate(np.eye(4), np.eye(4)[[0, 1, 3, 2]]) == 0.5
    assert {0, 99} <= set(sample_rows(np.arange(100)[::-1], 10))
    with pytest.raises(UnknownName):
        candidate("fp64", None)  # type: ignore[arg-type]

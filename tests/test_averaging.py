"""The layer that averages: what a stock classifier reads is the mean of all tokens, and stays one in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

import tiny
from basewise.core.method import Context
from basewise.core.registry import part
from basewise.core.task import Examples
from basewise.engine.averaging import add_average

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
IDS = torch.arange(5, 17).reshape(2, 6)
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])


def network(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "bert":
        return BertForSequenceClassification(BertConfig(num_labels=3, **SIZES)).eval()
    return RobertaForSequenceClassification(
        RobertaConfig(num_labels=3, max_position_embeddings=40, **SIZES)
    ).eval()


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_state_that_a_classifier_reads_is_the_mean(kind: str, tmp_path: Path) -> None:
    model = network(kind)
    with torch.inference_mode():
        before = model.base_model(input_ids=IDS, attention_mask=MASK).last_hidden_state
    assert add_average(model)
    with torch.inference_mode():
        after = model.base_model(input_ids=IDS, attention_mask=MASK).last_hidden_state[:, 0]
    means = (before * MASK[..., None]).sum(1) / MASK.sum(1, keepdim=True)
    assert torch.cosine_similarity(after, means - means.mean(1, keepdim=True)).min() > 0.98
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        assert torch.equal(again(IDS, MASK).logits, model(IDS, MASK).logits)


def test_another_shape_is_left_alone() -> None:
    model = DistilBertForSequenceClassification(DistilBertConfig(vocab_size=50, dim=32, n_layers=2, n_heads=2, hidden_dim=64))  # fmt: skip
    before = len(model.state_dict())
    assert not add_average(model) and len(model.state_dict()) == before


def test_training_leaves_it_a_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.quick(monkeypatch)
    source = part("sources", "folder")
    base = source.load(source.card_of(tiny.base_folder(tmp_path / "base")), None)
    rows, order = tiny.rows(12), np.arange(12)
    texts = tuple(row["text"] for row in rows)
    fitted = part("methods", "full").fit(
        Examples(texts, order % 3, order, order, tuple(tiny.TOPICS)), base, Context()
    )
    blocks = fitted.network.model.base_model.encoder.layer
    attends = blocks[-1].attention.self
    assert len(blocks) == base.card.layers + 1 == fitted.network.model.config.num_hidden_layers
    assert not attends.query.weight.any() and not attends.key.weight.any()
    assert torch.equal(attends.value.weight, torch.eye(base.card.width))
    learned = blocks[0].attention.self.value.weight
    before = AutoModel.from_pretrained(base.folder).encoder.layer[0].attention.self.value.weight
    assert not torch.equal(learned, before), "training goes through it to the layers below"


def test_with_many_rows_the_first_token_is_read_as_transformers_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.quick(monkeypatch)
    full = part("methods", "full")
    monkeypatch.setattr(full, "AVERAGED_ROWS", 11)
    source = part("sources", "folder")
    base = source.load(source.card_of(tiny.base_folder(tmp_path / "base")), None)
    order = np.arange(12)
    rows = Examples(tuple(row["text"] for row in tiny.rows(12)), order % 3, order, order, tuple(tiny.TOPICS))
    assert full.fit(rows, base, Context()).network.model.config.num_hidden_layers == base.card.layers
    fewer = rows.take(order < 11)
    assert full.fit(fewer, base, Context()).network.model.config.num_hidden_layers == base.card.layers + 1


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_in_place_of_the_last_layer_the_network_keeps_its_depth(kind: str) -> None:
    model = network(kind)
    with torch.inference_mode():
        before = model.base_model(IDS, MASK, output_hidden_states=True).hidden_states[-2]
    names = add_average(model, instead=True)
    assert names and all(not name.startswith("base_model") for name in names)
    assert len(model.base_model.encoder.layer) == model.config.num_hidden_layers == 2
    with torch.inference_mode():
        after = model.base_model(IDS, MASK).last_hidden_state[:, 0]
    means = (before * MASK[..., None]).sum(1) / MASK.sum(1, keepdim=True)
    assert torch.cosine_similarity(after, means - means.mean(1, keepdim=True)).min() > 0.98


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["bert", pytest.param("roberta", marks=pytest.mark.slow)])
def test_a_lora_of_few_rows_averages_and_opens_on_the_base_as_it_is(kind: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    folder = tiny.base_folder(tmp_path / "base")
    if kind == "roberta":
        size = len(tiny.vocabulary())
        config = RobertaConfig(**(SIZES | {"vocab_size": size}), max_position_embeddings=80, pad_token_id=0)
        RobertaForSequenceClassification(config).roberta.save_pretrained(folder)
    source = part("sources", "folder")
    base = source.load(source.card_of(folder), None)
    rows, order = tiny.rows(12), np.arange(12)
    texts = tuple(row["text"] for row in rows)
    fitted = part("methods", "lora").fit(
        Examples(texts, order % 3, order, order, tuple(tiny.TOPICS)), base, Context()
    )
    expected, tuned = fitted.probabilities(texts), fitted.network.model.get_base_model()
    assert tuned.config.num_hidden_layers == base.card.layers
    attends = tuned.base_model.encoder.layer[-1].modules_to_save["default"].attention
    assert not attends.self.query.weight.any(), "it is a mean"
    assert torch.equal(attends.self.value.weight, torch.eye(base.card.width)), "and training left it alone"
    fitted.save(tmp_path / "saved")
    plain = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    fitted.network.model = PeftModel.from_pretrained(plain, tmp_path / "saved").eval()
    np.testing.assert_allclose(fitted.probabilities(texts), expected, atol=1e-5)

"""Bases that come inside the package: real pretrained weights, no network, every role opens and does what its card says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from basewise.core.errors import UnsafeWeights
from basewise.core.hashing import sha256_file
from basewise.engine.store import Store
from basewise.parts.sources import package
from basewise.steps import bases

CARDS = package.cards()


def test_they_are_small_licensed_and_named() -> None:
    keys = [card.key for card in CARDS]
    assert "basewise-tiny" in keys and len(set(keys)) == len(keys)
    for card in CARDS:
        assert card.licence == "Apache-2.0" and card.weights_sha256 and bases.here(card)
    for weights in package.BASES.glob("*/model.safetensors"):
        assert weights.stat().st_size <= 8_000_000
        assert (weights.parent / "README.md").is_file()


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.key)
def test_each_role_is_a_base(card: package.Card, tmp_path: Path) -> None:
    base = package.load(card, Store(tmp_path))
    assert base.digest == card.weights_sha256 == sha256_file(base.folder / package.WEIGHTS)
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(base.folder, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    out = model(**tokenizer("The water in the river", return_tensors="pt"))
    assert out.last_hidden_state.shape[-1] == card.width
    if card.family == "decoder":
        from basewise.engine.causal import Causal

        scores = Causal(base, "fp32").score([("She went to the", " house"), ("She went to the", " Qx%")])
        assert scores.log_probability[0] > scores.log_probability[1], "it has learned some English"


def test_its_states_tell_topics_apart(tmp_path: Path) -> None:
    from basewise.engine.features import FeatureStore

    base = package.load(next(c for c in CARDS if c.key == "basewise-tiny"), Store(tmp_path))
    texts = ["the king and the queen of France", "the duke and the lady of Spain",
             "the function returns a list of values", "the method takes an array of numbers"]  # fmt: skip
    layer = f"layer{base.card.layers}"
    x = FeatureStore(None).features(base, texts, layers=layer).matrix(layer)
    x = x - x.mean(0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    near = x @ x.T
    assert near[0, 1] > max(near[0, 2], near[0, 3]) and near[2, 3] > max(near[2, 0], near[2, 1])


def test_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    copy = tmp_path / "bases"
    shutil.copytree(package.BASES, copy)
    weights = copy / "basewise-tiny" / package.WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    monkeypatch.setattr(package, "BASES", copy)
    with pytest.raises(UnsafeWeights, match="changed"):
        package.load(package.cards()[0], Store(tmp_path / "store"))

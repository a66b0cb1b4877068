"""The feature store on a tiny base and a static base: right, once, from disk, after damage, as a stream."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from basewise.core.base import Base, Card
from basewise.core.errors import UnknownName
from basewise.core.hashing import sha256_file
from basewise.core.method import Machine
from basewise.engine import device, features, shards
from basewise.engine.features import FeatureStore
from basewise.engine.store import Store
from basewise.parts.sources import folder as sources

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "ran",
    "sat",
    "on",
    "mat",
    "red",
    "blue",
    "big",
    "small",
    "house",
    "tree",
    "bird",
    "sang",
    "loud",
]
TEXTS = [
    "the cat sat on the mat",
    "a dog ran",
    "the cat sat on the mat",
    "",
    "bird sang loud " * 30,
    "red house",
]


def _tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    # published tokenizers come with such settings; they must not count
    tokenizer.enable_padding(length=128)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _base(folder: Path, family: str, layers: int, context: int) -> Base:
    card = Card(
        key=f"tiny-{family}", source="folder", family=family, licence="Apache-2.0", parameters=1, layers=layers,
        width=32, download_bytes=1, context=context,
    )  # fmt: skip
    return Base(card=card, folder=folder, digest=sha256_file(folder / "model.safetensors"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Base:
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64
    )
    BertModel(config).save_pretrained(folder)
    _tokenizer(folder)
    return _base(folder, "encoder", 3, 24)


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Base:
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("static")
    table = np.random.default_rng(0).normal(size=(40, 32)).astype(np.float16)
    save_file({"embedding.weight": table}, folder / "model.safetensors")
    _tokenizer(folder)
    return _base(folder, "static", 0, 512)


@pytest.fixture(autouse=True)
def loaders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights straight through transformers, and a machine on which bf16 is fast."""
    from transformers import AutoModel, AutoTokenizer

    module = ModuleType("weights")
    module.load_network = lambda base, dtype: AutoModel.from_pretrained(base.folder, dtype=dtype).eval()  # type: ignore[attr-defined]
    module.load_tokenizer = lambda base: AutoTokenizer.from_pretrained(base.folder)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "basewise.engine.weights", module)
    machine = Machine(cores=1, memory_bytes=1, fp32_peak=1.0, bf16_peak=2.0)
    monkeypatch.setattr(device, "machine", lambda: machine)
    return


def test_equal_to_transformers_mean_over_the_attention_mask(bert: Base) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    got = FeatureStore(None).features(bert, TEXTS, precision="fp32")
    assert got.names == ("layer1", "layer2", "layer3", "all")
    assert got.precision == "fp32"
    assert not got.verified
    tokenizer, model = (
        AutoTokenizer.from_pretrained(bert.folder),
        AutoModel.from_pretrained(bert.folder).eval(),
    )
    for row in (0, 1, 3, 5):
        ids = torch.tensor([tokenizer(TEXTS[row])["input_ids"]])
        ids = ids[:, ids[0] != 0] if (ids == 0).any() else ids
        with torch.no_grad():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states
        for name, state in (("layer2", states[2]), ("layer3", states[3]), ("all", sum(states[1:]) / 3)):
            np.testing.assert_allclose(got.matrix(name)[row], state[0].mean(0), atol=2e-3)


def test_identical_texts_once_cuts_counted_and_order_kept(bert: Base) -> None:
    store = FeatureStore(None)
    got = store.features(bert, TEXTS)
    assert got.forwarded == 5
    assert len(got) == 6
    assert got.precision == "bf16"
    assert got.verified["worst_cosine"] >= 0.999
    assert got.verified["holds"]
    assert got.cut.tolist() == [False] * 4 + [True, False]
    assert got.tokens.tolist() == [8, 5, 8, 2, 24, 4]
    again = store.features(bert, TEXTS[::-1], layers=("layer3",))
    assert again.forwarded == 0
    np.testing.assert_array_equal(again.matrix("layer3")[::-1], got.matrix("layer3"))
    np.testing.assert_array_equal(got.matrix("layer3", np.array([5, 0])), got.matrix("layer3")[[5, 0]])
    with pytest.raises(UnknownName, match="layer1"):
        again.matrix("layer1")
    assert len(store.features(bert, [])) == 0


def test_second_run_reads_the_disk(bert: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = FeatureStore(tmp_path).features(bert, TEXTS)
    monkeypatch.setattr(features, "open_encoder", lambda *_: pytest.fail("a network was loaded"))
    second = FeatureStore(tmp_path).features(bert, TEXTS)
    assert second.forwarded == 0
    assert second.precision == first.precision
    assert second.verified == first.verified
    for name in first.names:
        np.testing.assert_array_equal(first.matrix(name), second.matrix(name))
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("damage", ["flip", "short", "header", "empty"])
def test_a_damaged_shard_is_found_and_computed_again(bert: Base, tmp_path: Path, damage: str) -> None:
    first = FeatureStore(tmp_path).features(bert, TEXTS, precision="fp32")
    expected = first.matrix("all")
    (path,) = tmp_path.rglob("*.shard")
    raw = bytearray(path.read_bytes())
    raw[-200] ^= 255
    path.unlink()
    path.write_bytes({"flip": raw, "short": raw[:-9], "header": b"x" * 300, "empty": b""}[damage])
    second = FeatureStore(tmp_path).features(bert, TEXTS, precision="fp32")
    assert second.forwarded == 5
    np.testing.assert_allclose(second.matrix("all"), expected, atol=1e-6)
    assert len(list(tmp_path.rglob("*.shard"))) == 1


def test_two_stores_share_a_folder(bert: Base, tmp_path: Path) -> None:
    one, two = FeatureStore(tmp_path), FeatureStore(tmp_path)
    one.features(bert, TEXTS[:3], precision="fp32")
    assert two.features(bert, TEXTS, precision="fp32").forwarded == 3
    assert one.features(bert, TEXTS, precision="fp32").forwarded == 0


def test_chunks_and_streams_give_the_same(
    bert: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FeatureStore(None).features(bert, TEXTS, precision="fp32").matrix("layer3")
    monkeypatch.setattr(features, "CHUNK", 2)
    seen: list[tuple[int, int]] = []
    store = FeatureStore(None)
    parts = store.features(
        bert, TEXTS, precision="fp32", progress=lambda done, total, what: seen.append((done, total))
    )
    np.testing.assert_allclose(parts.matrix("layer3"), whole, atol=2e-3)
    assert seen[-1] == (5, 5)
    assert seen == sorted(seen)
    stream = FeatureStore(tmp_path)
    pieces = [f.matrix("layer3") for f in stream.iterate(bert, iter(TEXTS), precision="fp32", chunk=4)]
    assert [len(p) for p in pieces] == [4, 2]
    assert not list(tmp_path.rglob("*.shard"))
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=2e-3)


def test_a_store_that_does_not_keep_gives_the_same_and_holds_nothing(bert: Base) -> None:
    store, other = FeatureStore(None, keep=False), FeatureStore(None)
    for texts in (TEXTS, TEXTS[::-1]):
        got, kept = (s.features(bert, texts, precision="fp32") for s in (store, other))
        np.testing.assert_array_equal(got.matrix("layer3"), kept.matrix("layer3"))
        assert got.forwarded == 5
    assert not any(space.shards for space in store._spaces.values())


def test_bf16_that_does_not_hold_gives_way_to_fp32(bert: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basewise.engine.precision.COSINE", 1.1)
    store = FeatureStore(None)
    assert store.features(bert, TEXTS).precision == "fp32"
    assert store.features(bert, [*TEXTS, "blue tree"]).precision == "fp32"


def test_int8_is_taken_only_if_predictions_hold(bert: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basewise.engine.precision.FLIPS", 1.0)
    assert FeatureStore(None).features(bert, TEXTS, precision="int8").precision == "int8"
    monkeypatch.setattr("basewise.engine.precision.FLIPS", -1.0)
    assert FeatureStore(None).features(bert, TEXTS, precision="int8").precision == "bf16"


def test_static_base_is_the_mean_of_token_vectors(static: Base) -> None:
    from safetensors.numpy import load_file

    table = load_file(static.folder / "model.safetensors")["embedding.weight"].astype(np.float32)
    got = FeatureStore(None).features(static, TEXTS)
    assert got.names == ("all",)
    assert got.precision == "fp32"
    ids = [4 + WORDS.index(w) for w in TEXTS[0].split()]
    np.testing.assert_allclose(got.matrix("all")[0], table[ids].mean(0), atol=2e-3)
    assert got.tokens.tolist() == [6, 3, 6, 1, 90, 2]


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "camembert", "mpnet", "bert"])
def test_a_base_is_read_up_to_its_last_position_and_no_further(kind: str, tmp_path: Path) -> None:
    """RoBERTa and its kin count positions from behind the padding token: of 18 they use 16."""
    from transformers import AutoConfig, AutoModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    taken = 0 if kind == "bert" else 2
    more = {"max_position_embeddings": 16 + taken, "vocab_size": 30}
    network = AutoModel.from_config(AutoConfig.for_model(kind, **sizes, **more))
    network.save_pretrained(tmp_path)
    _tokenizer(tmp_path)
    base = sources.load(sources.card_of(tmp_path), Store(tmp_path / "store"))
    assert base.card.context == 16
    got = FeatureStore(None).features(base, TEXTS, precision="fp32")
    assert got.tokens.max() == 16 and got.cut.sum() == 1


def test_shards_keep_large_values_and_find_nothing_in_nothing(tmp_path: Path) -> None:
    assert shards.half_fits(np.array([5e4]))
    assert not shards.half_fits(np.array([7e4]))
    assert not shards.half_fits(np.array([np.nan]))
    empty = shards.Shard.of(
        ("a",), shards.keys_of([]), np.zeros(0), np.zeros(0, bool), np.zeros((0, 1, 2), np.float32)
    )
    assert empty.find(shards.keys_of(["x"])).tolist() == [-1]
    keys = shards.keys_of(["x", "y", "z"])
    values = np.arange(6, dtype=np.float32).reshape(3, 1, 2) * 1e5
    shard = shards.Shard.of(("a",), keys, np.arange(3), np.array([True, False, True]), values)
    back = shards.read(shards.write(tmp_path, shard))
    assert back is not None
    at = back.find(shards.keys_of(["z", "nowhere", "x"]))
    assert at[1] == -1
    np.testing.assert_array_equal(back.values[at[[0, 2]]], values[[2, 0]])
    assert back.tokens[at[0]] == 2
    assert back.cut[at[0]]


def test_a_peak_is_not_lowered_by_waiting_for_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = 0.02
    monkeypatch.setattr(torch.nn.functional, "linear", lambda left, right: time.sleep(wait))
    rows, inner, columns = device.SHAPE
    assert device.matmul_peak(torch.float32, 0.01) > 2.0 * rows * inner * columns / (wait / 2)


def test_machine_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("BASEWISE_HOME", str(tmp_path))
    monkeypatch.setattr(device, "SECONDS", 0.01)
    calls: list[str] = []
    real = device.matmul_peak
    monkeypatch.setattr(
        device, "matmul_peak", lambda dtype, device="cpu": calls.append(device) or real(dtype, 0.01, device)
    )
    device.machine.cache_clear()
    first = device.machine()
    device.machine.cache_clear()
    assert device.machine() == first
    assert len(calls) == 2
    assert first.fp32_peak > 1e6
    assert first.cores >= 1
    assert first.memory_bytes > 1 << 20
    (tmp_path / "machine.json").write_text("{damaged")
    device.machine.cache_clear()
    assert device.machine().cores == first.cores
    assert len(calls) == 4
    device.machine.cache_clear()

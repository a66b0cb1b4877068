"""Every method of the registry against one contract, on tiny data and tiny bases."""

from __future__ import annotations

import functools
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny as tiny_bases
import tiny_decoders
from basewise.core import registry
from basewise.core.base import EMBED, FILL, SCORE, TRAIN, Base, Card
from basewise.core.hashing import sha256_file
from basewise.core.method import Context, Machine, compatible
from basewise.core.task import COLUMNS, Examples

METHODS = (
    "majority",
    "words",
    "prototype",
    "probe",
    "pair",
    "contrast",
    "full",
    "scratch",
    "lora",
    "prompt",
    "fill",
)
MACHINE = Machine(cores=2, memory_bytes=8 << 30, fp32_peak=1.5e11, bf16_peak=3e11)
WORDS = {
    "card_arrival": "when does my new card come in the post",
    "lost_card": "i lost my wallet and the card is gone",
    "refund": "please give the money back for this order",
}


def rows(each: int, classes: tuple[str, ...] = tuple(WORDS), seed: int = 0) -> Examples:
    """`each` rows a class of shuffled words."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for index, name in enumerate(WORDS):
        if name not in classes:
            continue
        for _ in range(each):
            texts.append(" ".join(rng.permutation(WORDS[name].split())[:6]))
            labels.append(index)
    order = np.arange(len(texts))
    return Examples(tuple(texts), np.array(labels), order, order, tuple(WORDS))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A BERT of two narrow layers with random weights and a word tokeniser, in a plain folder."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    known = sorted({word for text in WORDS.values() for word in text.split()})
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *known])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **names).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **sizes)).save_pretrained(
        folder
    )
    card = Card(
        key="tiny",
        source="folder",
        family="encoder",
        licence="Apache-2.0",
        parameters=30_000,
        layers=2,
        width=32,
        download_bytes=120_000,
        context=64,
        provides=frozenset({EMBED, TRAIN}),
    )
    return Base(card=card, folder=folder, digest=sha256_file(folder / "model.safetensors"))


@functools.cache
def decoder(folder: Path) -> Base:
    """A random decoder beside the tiny base, for methods that ask."""
    return tiny_decoders.decoder(folder, "llama", max_position_embeddings=256)


@functools.cache
def masked(folder: Path) -> Base:
    """A random masked language model, opened as a user's folder."""
    from basewise.steps.bases import pull

    return pull(str(tiny_bases.base_folder(folder, masked=True)))


def base_for(method: str, tiny: Base) -> Base | None:
    requires = registry.part("methods", method).REQUIRES
    if SCORE in requires:
        return decoder(tiny.folder.parent / "decoder")
    if FILL in requires:
        return masked(tiny.folder.parent / "masked")
    return tiny if requires else None


def fit(method: str, examples: Examples, tiny: Base, seed: int = 0):
    part = registry.part("methods", method)
    if COLUMNS in part.REQUIRES:
        examples = replace(examples, inputs=("subject", "body"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return part.fit(examples, base_for(method, tiny), Context(seed=seed, precision="fp32"))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps: the contract is tested, not the quality."""
    from basewise.engine import device

    monkeypatch.setattr(device, "machine", lambda: MACHINE)
    contrast = registry.part("methods", "contrast")
    monkeypatch.setattr(contrast, "LEAST_STEPS", 4)
    for method in ("full", "scratch", "lora"):
        part = registry.part("methods", method)
        monkeypatch.setattr(part, "RECIPE", replace(part.RECIPE, least_steps=4, passes=0.1))


def test_all_methods_are_under_contract() -> None:
    assert set(METHODS) <= set(registry.keys("methods"))


@pytest.mark.parametrize("method", METHODS)
def test_fit_save_load(method: str, tiny: Base, tmp_path: Path) -> None:
    part, examples = registry.part("methods", method), rows(6)
    fitted = fit(method, examples, tiny)
    texts = [*rows(3, seed=1).texts, "", "zzz unseen", "card " * 300]
    first = fitted.probabilities(texts)
    assert first.shape == (len(texts), 3)
    assert first.dtype == np.float64
    np.testing.assert_allclose(first.sum(1), 1.0, atol=1e-6)
    assert (first >= 0).all()
    assert fitted.classes == examples.classes
    fitted.save(tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.suffix in {".pkl", ".pickle", ".bin", ".pt", ".joblib"}]
    again = part.load(tmp_path, base_for(method, tiny), Context(precision="fp32"))
    np.testing.assert_allclose(again.probabilities(texts), first, atol=1e-6)
    assert again.choices.keys() == fitted.choices.keys()
    backwards = fitted.probabilities(texts[::-1])[::-1]
    np.testing.assert_allclose(backwards, first, atol=1e-5)
    np.testing.assert_allclose(fitted.probabilities(texts[:1]), first[:1], atol=1e-5)
    assert fitted.probabilities([]).shape == (0, 3)


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_answer(method: str, tiny: Base) -> None:
    texts = rows(2, seed=3).texts
    one, two = (fit(method, rows(4), tiny, seed=5).probabilities(texts) for _ in range(2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("each", [1, 2])
def test_one_or_two_rows_a_class(method: str, each: int, tiny: Base) -> None:
    probabilities = fit(method, rows(each), tiny).probabilities(rows(2, seed=1).texts)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_class_without_rows(method: str, tiny: Base) -> None:
    probabilities = fit(method, rows(3, ("card_arrival", "refund")), tiny).probabilities(["lost card"])
    assert probabilities.shape == (1, 3)
    assert np.isfinite(probabilities).all()
    assert probabilities[0, 1] > 0


@pytest.mark.parametrize("method", METHODS)
def test_estimate_is_finite_and_grows(method: str, tiny: Base) -> None:
    part = registry.part("methods", method)
    base = base_for(method, tiny)
    card = base.card if base else None
    assert compatible(part.REQUIRES, card, frozenset({COLUMNS}))
    small, large = (part.estimate(rows(n), card, MACHINE) for n in (2, 2000))
    for cost in (small, large):
        for value in (cost.seconds, cost.memory_bytes, cost.predict_seconds_per_row):
            assert np.isfinite(value)
            assert value > 0
    assert large.seconds >= small.seconds


def test_prototype_works_without_labels(tiny: Base) -> None:
    examples = rows(2)
    bare = Examples(
        examples.texts, np.full(len(examples), -1), examples.row_ids, examples.groups, examples.classes
    )
    assert fit("prototype", bare, tiny).probabilities(["card arrival"]).argmax() == 0


def test_full_opens_in_plain_transformers(tiny: Base, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    fitted = fit("full", rows(4), tiny)
    fitted.save(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    inputs = AutoTokenizer.from_pretrained(tmp_path)(list(rows(1).texts), return_tensors="pt", padding=True)
    with torch.inference_mode():
        plain = torch.softmax(model(**inputs).logits.double(), 1).numpy()
    np.testing.assert_allclose(plain, fitted.probabilities(rows(1).texts), atol=1e-5)
    assert model.config.id2label[0] == "card_arrival"


# peft 0.21's own
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_lora_opens_in_plain_peft(tiny: Base, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    fitted = fit("lora", rows(4), tiny)
    fitted.save(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tiny.folder, num_labels=3)
    model = PeftModel.from_pretrained(plain, tmp_path).eval()
    inputs = AutoTokenizer.from_pretrained(tiny.folder)(
        list(rows(1).texts), return_tensors="pt", padding=True
    )
    with torch.inference_mode():
        found = torch.softmax(model(**inputs).logits.double(), 1).numpy()
    np.testing.assert_allclose(found, fitted.probabilities(rows(1).texts), atol=1e-5)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["without a pooler", "distilbert", "random"])
def test_lora_keeps_every_layer_that_the_base_did_not_bring(kind: str, tmp_path: Path) -> None:
    """A masked language model has no pooler, a distilled one has its own name for it, and a random base has nothing of its own."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, DistilBertConfig, DistilBertForMaskedLM

    from basewise.core.method import Context
    from basewise.core.registry import part

    folder = tiny_bases.base_folder(tmp_path / "base", masked=True)
    if kind == "distilbert":
        size = len(tiny_bases.vocabulary())
        DistilBertForMaskedLM(DistilBertConfig(vocab_size=size, dim=32, n_layers=2, n_heads=2, hidden_dim=64)).save_pretrained(folder)  # fmt: skip
    source = part("sources", "folder")
    base = source.load(source.card_of(folder), None)
    base = replace(base, random_seed=5) if kind == "random" else base
    method, seed = part("methods", "lora"), 12345
    fitted = method.fit(rows(4), base, Context(seed=seed))
    fitted.save(tmp_path / "saved")
    expected = fitted.probabilities(rows(2).texts)
    again = method.load(tmp_path / "saved", base, Context())
    np.testing.assert_allclose(again.probabilities(rows(2).texts), expected, atol=1e-6)
    if kind == "random":
        return
    torch.manual_seed(1)
    plain = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    model = PeftModel.from_pretrained(plain, tmp_path / "saved").eval()
    fitted.network.model = model
    np.testing.assert_allclose(fitted.probabilities(rows(2).texts), expected, atol=1e-5)


def test_a_probe_that_runs_out_of_time_takes_the_usual_layers_and_says_so() -> None:
    from basewise.engine.probe import fit_probe

    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    layers = {f"layer{k}": rng.normal(size=(120, 8)) + labels[:, None] * (k == 2) for k in (1, 2, 3)}
    names = [*layers, "all"]
    layers["all"] = sum(layers.values()) / 3
    whole = fit_probe(layers.__getitem__, names, labels, 3)
    short = fit_probe(layers.__getitem__, names, labels, 3, seconds=0.0)
    assert "shortened" not in whole.choices and short.choices["shortened"] is True
    # the last beside a middle one
    assert short.choices["layers"] == ["layer2", "layer3"]
    assert (short.probe.probabilities(layers.__getitem__).argmax(1) == labels).mean() > 0.6


def pairs(n: int, seed: int = 0) -> Examples:
    """Two columns of words of one topic each, "same" where it is one topic for both: no word says so by itself."""
    rng = np.random.default_rng(seed)
    known = sorted({word for text in WORDS.values() for word in text.split()})
    topics = [known[k : k + 3] for k in range(0, len(known) - 2, 3)]
    texts, labels = [], []
    for i in range(n):
        a = int(rng.integers(len(topics)))
        b = a if i % 2 else (a + int(rng.integers(1, len(topics)))) % len(topics)
        one, two = (" ".join(rng.permutation(topics[k])[:2]) for k in (a, b))
        texts.append(f"first: {one}\nsecond: {two}")
        labels.append(i % 2)
    order = np.arange(n)
    return Examples(tuple(texts), np.array(labels), order, order, ("other", "same"), ("first", "second"))


def test_pair_sees_how_columns_stand_to_each_other(tiny: Base, tmp_path: Path) -> None:
    train, new = pairs(160), pairs(80, seed=1)
    fitted = fit("pair", train, tiny)
    right = (fitted.probabilities(new.texts).argmax(1) == new.labels).mean()
    assert right > 0.85
    assert fitted.choices["views"][0].partition(":")[0] in ("relation", "text and relation")
    fitted.save(tmp_path)
    again = registry.part("methods", "pair").load(tmp_path, tiny, Context(precision="fp32"))
    np.testing.assert_allclose(again.probabilities(new.texts), fitted.probabilities(new.texts), atol=1e-6)


def test_pair_reads_four_columns_and_empty_ones(tiny: Base) -> None:
    names = ("a", "b", "c", "d")
    examples = rows(6)
    texts = tuple(f"a: {t}\nb: \nc: card\nd: {t[:9]}" for t in examples.texts)
    fitted = fit("pair", replace(examples, texts=texts), tiny)  # the names of its columns are others
    assert fitted.probabilities(texts).shape == (18, 3)
    fitted = registry.part("methods", "pair").fit(
        replace(examples, texts=texts, inputs=names), tiny, Context(precision="fp32")
    )
    assert (fitted.probabilities(texts).argmax(1) == examples.labels).mean() > 0.9


def test_one_column_is_refused_by_what_compares_columns(tmp_path: Path) -> None:
    import basewise as bw
    from basewise.core.errors import InputError

    table = {"text": [f"word{i % 2} number{i}" for i in range(40)], "label": ["a", "b"] * 20}
    with pytest.raises(InputError, match="pair compares input columns, and one came"):
        bw.choose(table, target="label", methods=("pair",), bases=(), to=tmp_path / "run")
    with pytest.raises(InputError, match="pair compares input columns, and one came"):
        bw.Classifier(base="minilm-l6", method="pair").fit(table["text"], table["label"])

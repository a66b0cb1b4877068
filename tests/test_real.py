"""Real weights, real rows, real clients: what is fetched is what it says, the fast forward pass equals the plain one, and
what was saved opens in plain transformers and peft. Weights come once from the package registry into the user's cache.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import basewise as bw
from basewise.core.base import Base
from basewise.core.files import silent
from basewise.core.method import Context
from basewise.core.registry import part
from basewise.core.task import Examples
from basewise.engine.features import FeatureStore
from basewise.steps.bases import check, find, pull

pytestmark = pytest.mark.real
TEXTS = (
    "How far is it from Denver to Aspen ?",
    "hi",
    "The parcel came, but half of what I ordered was missing and nobody answers the phone. " * 9,
    "Wo bleibt mein Paket? Ich warte seit drei Wochen.",
    "a",
    "Please cancel my contract at the end of the month and confirm it in writing.",
)


@pytest.fixture(scope="session")
def minilm() -> Base:
    return pull("minilm-l6", silent)


@pytest.fixture(scope="session")
def wordllama() -> Base:
    return pull("wordllama-256", silent)


def few(sets: Path, name: str, each: int, seed: int = 0) -> tuple[Examples, Examples]:
    """(`each` train rows a class, the test rows) of a public set."""
    import pyarrow.parquet as pq

    tables = {s: pq.read_table(sets / name / f"{s}.parquet").to_pydict() for s in ("train", "test")}
    classes = tuple(sorted({str(v) for v in tables["train"]["label"]}))

    def rows(table: dict[str, Any]) -> Examples:
        labels = np.array([classes.index(str(v)) for v in table["label"]])
        ids = np.arange(len(labels))
        return Examples(tuple(table["text"]), labels, ids, ids, classes)

    train, generator = rows(tables["train"]), np.random.default_rng(seed)
    picked = [generator.permutation(np.flatnonzero(train.labels == c))[:each] for c in range(len(classes))]
    return train.take(np.concatenate(picked)), rows(tables["test"])


def accuracy(fitted: Any, rows: Examples) -> float:
    return float((fitted.probabilities(rows.texts).argmax(1) == rows.labels).mean())


@pytest.mark.parametrize("key", ["wordllama-256", "minilm-l6"])
def test_a_pulled_base_is_whole_and_says_what_it_is(key: str) -> None:
    base = pull(key, silent)
    assert base.card.licence and base.card.parameters > 1e6
    assert find(key).key == key
    assert check(key)


def test_features_are_those_of_plain_transformers(minilm: Base) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(minilm.folder), AutoModel.from_pretrained(minilm.folder)
    model.eval().float()
    plain = []
    with torch.inference_mode():
        for text in TEXTS:
            inputs = tokenizer(text, truncation=True, max_length=minilm.card.context, return_tensors="pt")
            plain.append(model(**inputs).last_hidden_state[0].mean(0).numpy())
    last = f"layer{minilm.card.layers}"
    for precision, least in (("fp32", 0.99999), ("auto", 0.999)):
        ours = FeatureStore(None).features(minilm, list(TEXTS), layers=last, precision=precision).matrix(last)
        cosines = [
            float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(ours, plain, strict=True)
        ]
        assert min(cosines) >= least, (precision, cosines)


def test_a_static_base_knows_what_is_near(wordllama: Base) -> None:
    texts = ["the train to Paris is late", "our railway connection was delayed", "I like baked potatoes"]
    x = FeatureStore(None).features(wordllama, texts).matrix("all")
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    assert x[0] @ x[1] > x[0] @ x[2] + 0.1


def test_a_full_fine_tune_opens_in_plain_transformers(minilm: Base, sets: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    train, test = few(sets, "subj", 16)
    fitted = part("methods", "full").fit(train, minilm, Context(seed=1, features=FeatureStore(None)))
    fitted.save(tmp_path)
    texts = list(test.texts[:20])
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert set(model.config.id2label.values()) == set(train.classes)
    with torch.inference_mode():
        inputs = tokenizer(texts, truncation=True, max_length=256, padding=True, return_tensors="pt")
        plain = model(**inputs).logits.softmax(1).numpy()
    assert np.abs(plain - fitted.probabilities(texts)).max() < 1e-3
    assert accuracy(fitted, test.take(np.arange(300))) > 0.65


# peft's own
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_lora_opens_in_peft_with_its_head(minilm: Base, sets: Path, tmp_path: Path) -> None:
    import torch
    from peft import AutoPeftModelForSequenceClassification
    from transformers import AutoTokenizer

    train, test = few(sets, "subj", 16)
    fitted = part("methods", "lora").fit(train, minilm, Context(seed=1, features=FeatureStore(None)))
    fitted.save(tmp_path)
    folder = next(path.parent for path in sorted(tmp_path.rglob("adapter_config.json")))
    record = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    assert record["modules_to_save"], "the head is part of the adapter"
    texts = list(test.texts[:20])
    tokenizer = AutoTokenizer.from_pretrained(minilm.folder)
    model = AutoPeftModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(train.classes)
    ).eval()
    with torch.inference_mode():
        inputs = tokenizer(texts, truncation=True, max_length=256, padding=True, return_tensors="pt")
        plain = model(**inputs).logits.softmax(1).numpy()
    assert np.abs(plain - fitted.probabilities(texts)).max() < 1e-3


def test_few_labels_are_worth_more_with_a_base(minilm: Base, sets: Path) -> None:
    train, test = few(sets, "trec", 8)
    context = Context(seed=0, features=FeatureStore(None))
    words = accuracy(part("methods", "words").fit(train, None, context), test)
    probe = accuracy(part("methods", "probe").fit(train, minilm, context), test)
    assert probe > words + 0.05
    assert probe > 0.55


def test_choose_on_the_sample_with_real_bases(minilm: Base, wordllama: Base, tmp_path: Path) -> None:
    from basewise.sample import path

    decision = bw.choose(
        "sample",
        budget="90s",
        bases=("wordllama-256", "minilm-l6"),
        methods=("majority", "words", "prototype", "probe"),
        to=tmp_path / "run",
    )
    by_name = {line["name"]: line for line in decision.leaderboard}
    assert by_name["minilm-l6 + probe"]["score"]["estimate"] > by_name["majority"]["score"]["estimate"] + 0.5
    assert decision.test["looks"] - decision.test["looks_elsewhere"] == 1
    assert (tmp_path / "run" / "report.html").stat().st_size < 2_000_000
    again = bw.evaluate(tmp_path / "run", path())
    assert again is not None
    assert len(bw.load(tmp_path / "run").predict(["Where is my parcel?"])) == 1


def test_a_decoder_scores_as_plain_transformers_does() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from basewise.engine.causal import Causal

    base = pull("smollm2-135m", silent)
    causal = Causal(base, "fp32")
    assert causal.packed
    shown = "Question: Is water wet?\nAnswer: yes\n\nQuestion: Is fire cold?\nAnswer: no\n\n"
    asked = [
        (f"{shown}Question: {q}\nAnswer:", f" {a}")
        for q in ("Is ice warm?", "Is it so?")
        for a in ("yes", "no", "not at all")
    ]
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32).eval()
    plain = []
    for context, continuation in asked:
        before, whole = tokenizer.encode(context), tokenizer.encode(context + continuation)
        with torch.inference_mode():
            logs = torch.log_softmax(model(torch.tensor([whole[:-1]])).logits[0].double(), -1)
        plain.append(sum(float(logs[i - 1, whole[i]]) for i in range(len(before), len(whole))))
    found = causal.score(asked)
    assert np.abs(found.log_probability - plain).max() < 1e-4
    assert found.computed == found.unique < sum(len(tokenizer.encode(a + b)) for a, b in asked) / 3
    near = Causal(base, "bf16").score(asked)
    assert np.abs(near.log_probability - plain).max() < 0.5


def test_a_decoder_asked_with_few_rows_beats_the_majority(sets: Path) -> None:
    base = pull("smollm2-135m", silent)
    train, test = few(sets, "subj", 8)
    fitted = part("methods", "prompt").fit(train, base, Context(seed=0))
    assert accuracy(fitted, test.take(np.arange(60))) > 0.6

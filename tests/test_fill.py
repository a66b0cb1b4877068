"""Masked bases asked at their mask, and choosing without labels: three ways of zero-shot through one file of words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny
import tiny_decoders
from basewise.core.errors import InputError
from basewise.core.method import Wording
from basewise.engine.masked import Masked, batches, opened
from basewise.engine.prompting import build_prompt, default_template
from basewise.steps.bases import pull


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Masked:
    folder = tiny.base_folder(tmp_path_factory.mktemp("fill") / "masked", masked=True)
    base = pull(str(folder))
    assert base.provides == {"embed", "train", "fill"}
    return Masked(base)


def plain(masked: Masked, text: str, label: str, shown: str) -> float:
    """The same log-probability from transformers' own model, one text alone without padding."""
    import torch

    tokens = masked.encode(label)
    asked = [
        *masked.encode(f"{shown} text: {text} label:"),
        *[masked.mask] * len(tokens),
        *masked.encode("."),
    ]
    ids = torch.tensor([[*masked.opening, *asked, *masked.closing]])
    places = (ids[0] == masked.mask).nonzero()[:, 0]
    with torch.inference_mode():
        logs = torch.log_softmax(masked.model(input_ids=ids).logits[0], -1)
    return sum(float(logs[p, t]) for p, t in zip(places, tokens, strict=True))


def test_scores_are_those_of_the_mask_whatever_else_is_in_the_batch(masked: Masked) -> None:
    words = ("invoice", "late parcel", "screen")
    template = default_template(words)
    prompt = build_prompt(masked, template, words, [("my card", "invoice.")])
    shown = template.instruction + template.shown("my card", "invoice.")
    texts = ["hello my parcel", "please", "driver cable reboot error again " * 3]
    found = masked.label_scores(prompt, texts)
    for i, text in enumerate(texts):
        for c, word in enumerate(words):
            assert found[i, c] == pytest.approx(plain(masked, text, word, shown), abs=1e-4), (text, word)
    np.testing.assert_allclose(masked.label_scores(prompt, texts[:1]), found[:1], atol=1e-5)
    assert masked.label_scores(prompt, []).shape == (0, 3)


def test_the_random_twin_is_asked_with_random_weights(masked: Masked) -> None:
    prompt = build_prompt(masked, default_template(("invoice", "screen")), ("invoice", "screen"), [])
    texts = ["hello my parcel", "please"]
    twin = replace(masked.base, random_seed=0)
    found, again = opened(twin).label_scores(prompt, texts), Masked(twin).label_scores(prompt, texts)
    np.testing.assert_array_equal(found, again)
    assert np.abs(found - masked.label_scores(prompt, texts)).min() > 1e-3
    assert opened(masked.base) is not opened(twin), "the same folder, another network"


def test_batches_hold_each_row_once() -> None:
    lengths = [5, 900, 3, 2000, 4000, 7]
    found = batches(lengths)
    assert sorted(int(i) for b in found for i in b) == list(range(6))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= 2048 for b in found)


def test_labels_that_read_the_same_and_bases_without_a_mask_are_refused(
    masked: Masked, tmp_path: Path
) -> None:
    alike = build_prompt(masked, default_template(("a", "b")), ("Invoice", "invoice"), [])
    with pytest.raises(InputError, match="stand for two labels"):
        masked.label_scores(alike, ["x"])
    encoder = pull(str(tiny.base_folder(tmp_path / "encoder")))
    with pytest.raises(InputError, match="no masked language model"):
        Masked(encoder)
    config = tmp_path / "encoder" / "config.json"
    config.write_text(config.read_text().replace("BertModel", "BertForMaskedLM"))
    with pytest.raises(InputError, match="no weights for"):
        Masked(pull(str(tmp_path / "encoder")))


def test_words_and_descriptions() -> None:
    wording = Wording(words=(("billing", "money: invoices, charges and refunds"), ("tech", "technical")))
    assert (wording.said("billing"), wording.described("billing")) == (
        "money",
        "invoices, charges and refunds",
    )
    assert (wording.said("tech"), wording.described("tech"), wording.whole("x")) == ("technical", "", "")
    asked = default_template(("money", "technical"), (wording.described("billing"), ""))
    assert "money (invoices, charges and refunds), technical" in asked.instruction


LABELS = """[labels]
billing = "billing: invoice charge refund price payment card bank"
delivery = "delivery: parcel courier van street doorstep late"
technical = "technical: screen crash update driver cable reboot"
"""


@pytest.fixture
def three(tmp_path: Path) -> dict[str, Path]:
    """A sentence encoder, a masked base and a decoder, each as a user's folder."""
    tiny_decoders.decoder(tmp_path / "decoder", "llama", max_position_embeddings=256)
    return {
        "prototype": tiny.base_folder(tmp_path / "encoder"),
        "fill": tiny.base_folder(tmp_path / "masked", masked=True),
        "prompt": tmp_path / "decoder",
    }


@pytest.mark.parametrize("column", [True, False])
def test_choose_without_a_label_saves_a_predictor_and_says_that_nothing_is_proven(
    tmp_path: Path, three: dict[str, Path], column: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.quick(monkeypatch)
    rows = [{"text": r["text"], **({"queue": ""} if column else {})} for r in tiny.rows(40)]
    table = tiny.write_csv(tmp_path / "t.csv", rows)
    (tmp_path / "s.toml").write_text(LABELS)
    bases = [word for folder in three.values() for word in ("--base", folder)]
    said = tiny.command(
        "choose", table, "--target", "queue", *bases, "--budget", "5m", "--config", tmp_path / "s.toml",
        "--to", tmp_path / "run",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "Nothing is proven" in said.out and "give the same label to" in " ".join(said.out.split())
    decision = json.loads((tmp_path / "run" / "decision.json").read_text())
    assert decision["verdict"] == "unproven" and decision["chosen"] == "encoder + prototype"
    ran = {line["name"] for line in decision["leaderboard"] if line["status"] == "finished"}
    assert {"encoder + prototype", "masked + fill", "decoder + prompt"} <= ran
    assert not any(line["score"] for line in decision["leaderboard"]), "no score without a label"
    assert "Nothing is proven" in (tmp_path / "run" / "report.html").read_text()
    (tmp_path / "new.csv").write_text("text\nmy invoice and the refund\nthe courier and my parcel\n")
    answered = tiny.command("predict", tmp_path / "run", tmp_path / "new.csv")
    assert answered.code == 0, answered.err
    assert "billing" in answered.out.splitlines()[1] and "delivery" in answered.out.splitlines()[2]
    again = tiny.command("show", tmp_path / "run")
    assert again.code == 0 and "Nothing is proven" in again.out


@pytest.mark.parametrize("method", ["fill", "prompt"])
def test_adapt_without_a_label(
    tmp_path: Path, three: dict[str, Path], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.quick(monkeypatch)
    rows = [{"text": r["text"], "queue": r["queue"] if i < 1 else ""} for i, r in enumerate(tiny.rows(12))]
    table = tiny.write_csv(tmp_path / "t.csv", rows)
    (tmp_path / "s.toml").write_text(LABELS)
    said = tiny.command(
        "adapt", table, "--target", "queue", "--method", method, "--base", three[method],
        "--config", tmp_path / "s.toml", "--to", tmp_path / "run",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "1 labelled rows are too few" in " ".join(said.out.split())
    answered = tiny.command("predict", tmp_path / "run", table)
    assert len(answered.out.strip().splitlines()) == 13, answered.err


def test_what_cannot_be_done_without_labels_is_refused(tmp_path: Path, three: dict[str, Path]) -> None:
    table = tiny.write_csv(tmp_path / "t.csv", [{"text": r["text"], "queue": ""} for r in tiny.rows(12)])
    (tmp_path / "s.toml").write_text(LABELS)
    tiny.refused(tiny.command("choose", table, "--target", "queue", "--to", tmp_path / "run"), "labels")
    tiny.refused(
        tiny.command(
            "adapt",
            table,
            "--target",
            "queue",
            "--method",
            "probe",
            "--base",
            three["prototype"],
            "--config",
            tmp_path / "s.toml",
            "--to",
            tmp_path / "run",
        ),
        "prototype, prompt, fill",
    )
    odd = tiny.write_csv(
        tmp_path / "o.csv", [{"text": "hello again", "queue": "bill"}, {"text": "my card", "queue": ""}]
    )
    tiny.refused(
        tiny.command(
            "choose", odd, "--target", "queue", "--config", tmp_path / "s.toml", "--to", tmp_path / "run"
        ),
        "'bill'",
        "billing",
    )

"""The prompt method's pieces: templates, words for labels, demonstrations, calibration; and the method in `choose`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
import tiny_decoders
from basewise.core.errors import InputError, UnknownName
from basewise.core.method import Context, Wording
from basewise.core.task import Examples
from basewise.engine.causal import Causal
from basewise.engine.heads import log_loss, softmax
from basewise.engine.prompting import (
    Template,
    build_prompt,
    default_template,
    demonstrations,
    label_scores,
    verbalise,
    within,
)
from basewise.engine.recalibrate import KINDS, choose_calibration, fit_calibration


def test_templates() -> None:
    template = Template.of("Which team?\n\nMessage: {text}\nTeam: {label}")
    assert (template.instruction, template.head) == ("Which team?\n\n", "Message: ")
    assert (template.between, template.gap) == ("\nTeam:", " ")
    assert template.shown("hello", "sales") == "Message: hello\nTeam: sales\n\n"
    assert Template.of("{text} ->{label}").gap == ""
    named = default_template(("good", "bad"))
    assert "good, bad" in named.instruction
    assert "0" not in default_template([str(i) for i in range(40)]).instruction


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "{text}",
        "Text: {text} {text}\n{label}",
        "{label} {text}",
        "{text}{label}",
        "{text}\nLabel: {label} end",
    ],
)
def test_templates_that_are_none(wrong: str) -> None:
    with pytest.raises(InputError, match="template"):
        Template.of(wrong)


def test_words_for_labels() -> None:
    assert verbalise(("card_arrival", "LostCard"), Wording()) == ("card arrival", "lost card")
    assert verbalise(("0", "1", "2"), Wording()) == ("A", "B", "C")
    many = verbalise([str(i) for i in range(60)], Wording())
    assert len(set(many)) == 60 and many[25:28] == ("Z", "AA", "AB")
    assert verbalise(("a_bcd", "a bcd"), Wording()) == ("A", "B"), "names that sound alike"
    given_words = Wording(words=(("0", "negative"),))
    assert verbalise(("0", "1"), given_words) == ("negative", "1")
    with pytest.raises(UnknownName, match="unknown label 'x'"):
        verbalise(("0", "1"), Wording(words=(("x", "y"),)))
    with pytest.raises(InputError, match="both called"):
        verbalise(("0", "1"), Wording(words=(("0", "same"), ("1", " same"))))
    with pytest.raises(InputError, match="no words"):
        verbalise(("0", "1"), Wording(words=(("0", " "),)))


def some(each: int, classes: tuple[str, ...] = ("good", "bad")) -> Examples:
    """`each` rows a class."""
    texts = [f"the film was {name} {i}" for i in range(each) for name in classes]
    labels = np.array([c for _ in range(each) for c in range(len(classes))])
    order = np.arange(len(texts))
    return Examples(tuple(texts), labels, order, order, classes)


def test_demonstrations_are_balanced_and_nested() -> None:
    rows = some(10)
    rounds = demonstrations(rows, 8, np.random.default_rng(0))
    assert all(sorted(rows.labels[r]) == [0, 1] for r in rounds[:5])
    assert not any(len(r) for r in rounds[5:]), "half of the rows stay to judge by"
    shown = np.concatenate(rounds)
    assert len(set(shown.tolist())) == len(shown) == 10
    again = demonstrations(rows, 2, np.random.default_rng(0))
    np.testing.assert_array_equal(again[0], rounds[0])


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Causal:
    """A decoder that reads 256 tokens."""
    base = tiny_decoders.decoder(tmp_path_factory.mktemp("prompting"), "llama", max_position_embeddings=256)
    return Causal(base, "fp32")


def test_label_scores_are_those_of_the_texts_themselves(causal: Causal) -> None:
    words = ("good", "bad", "good red")
    template = default_template(words)
    prompt = build_prompt(causal, template, words, [("yes", "good"), ("no", "bad")])
    texts = ["the film", "", "red " * 300]
    found = label_scores(causal, prompt, texts)
    before = template.instruction + template.shown("yes", "good") + template.shown("no", "bad")
    whole = [(before + f"Text: {t}\nLabel:", f" {w}\n") for t in texts[:2] for w in words]
    np.testing.assert_allclose(found[:2].reshape(-1), causal.score(whole).log_probability, atol=1e-4)
    assert np.isfinite(found).all()
    assert prompt.labels[0][-1] == causal.encode("\n")[0], "one label begins another: a line ends them"
    with pytest.raises(InputError, match="leave"):
        build_prompt(causal, template, words, [("word " * 40, "good")] * 40)


@pytest.mark.parametrize("asked", ["Which?\n\nthe {text}\nno: {label}", "the {text}\nno: {label}"])
def test_pieces_are_the_tokens_of_the_whole_text(asked: str, tmp_path: Path) -> None:
    """A tokenizer that puts a space before whatever it is given, and a beginning token before a text."""
    causal = Causal(tiny_decoders.spm_decoder(tmp_path), "fp32")
    template = Template.of(asked)
    for shown in ([("yes", "good")], []):
        prompt = build_prompt(causal, template, ("good", "bad"), shown)
        said = template.instruction + "".join(template.shown(*row) for row in shown)
        found = prompt.requests(causal, ["yes", "no the"])
        spelt = [list(before) + list(label) for before, label in found]
        texts = [f"{said}the {t}\nno: {w}" for t in ("yes", "no the") for w in ("good", "bad")]
        assert spelt == [causal.encode(text) for text in texts]
        assert spelt[0][0] == 1 and all(len(label) == 1 for _, label in found)


def test_pieces_of_byte_level_tokenizers_are_their_own(causal: Causal) -> None:
    for piece in (" good", "good", "\nLabel:", "Text: the film", "\n", " ->"):
        assert within(causal, piece) == causal.encode(piece, special=False)


@given(st.integers(0, 1000), st.integers(2, 5), st.integers(0, 60))
@settings(max_examples=25, deadline=None)
def test_any_calibration_gives_probabilities(seed: int, classes: int, rows: int) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.normal(-10, 4, (rows, classes))
    labels = draw.integers(-1, classes, rows)
    lengths = draw.integers(1, 4, classes).astype(float)
    for kind in KINDS:
        fitted = fit_calibration(scores, labels, lengths, kind, "mean")
        np.testing.assert_allclose(fitted.probabilities(scores).sum(1), 1, atol=1e-9)
    chosen, _ = choose_calibration(scores, labels, lengths, draw)
    assert chosen.kind in KINDS and np.isfinite(chosen.logits(scores)).all()


def test_batch_calibration_takes_a_preference_off_and_the_affine_map_goes_further() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 300)
    clean = np.eye(3)[labels] * 2 + draw.normal(0, 1, (300, 3))
    biased = clean * np.array([1.0, 1.0, 3.0]) + np.array([0.0, 6.0, -3.0])
    ones, losses, right = np.ones(3), {}, {}
    for kind in KINDS:
        fitted = fit_calibration(biased[:150], labels[:150], ones, kind, "sum")
        p = fitted.probabilities(biased[150:])
        losses[kind], right[kind] = log_loss(p, labels[150:]), (p.argmax(1) == labels[150:]).mean()
    assert right["batch"] > right["none"] + 0.1
    assert losses["affine"] < losses["batch"] < losses["none"]
    oracle = log_loss(softmax(clean[150:] * 2), labels[150:])
    assert losses["affine"] < oracle + 0.1
    chosen, record = choose_calibration(biased[:150], labels[:150], ones, draw)
    assert chosen.kind == "affine"
    assert set(record["calibrations"]) == {"none sum", "batch sum", "affine sum"}


def fitted(rows: Examples, base: object, **more: object):  # type: ignore[no-untyped-def]
    from basewise.core.registry import part

    return part("methods", "prompt").fit(rows, base, Context(precision="fp32", **more))  # type: ignore[arg-type]


def test_the_method_without_labels_and_with_little_time(causal: Causal) -> None:
    rows = some(12)
    bare = Examples(rows.texts, np.full(len(rows), -1), rows.row_ids, rows.groups, rows.classes)
    asked = fitted(bare, causal.base)
    assert asked.choices["shots_a_class"] == 0 and asked.choices["calibration"] == "batch"
    hurried = fitted(rows, causal.base, seconds=1e-3)
    np.testing.assert_allclose(hurried.probabilities(["x"]).sum(), 1)
    assert hurried.choices["shots_a_class"] == 0
    few = fitted(some(3), causal.base)
    assert few.choices["shots_a_class"] == 1, "too few to compare by, so they are shown"
    one = fitted(some(1), causal.base)
    assert one.choices["shots_a_class"] == 1 and one.choices["judged_rows"] == 0
    usual = fitted(rows, causal.base)
    assert set(usual.choices["losses_by_shots"]) == {"0", "1"}, "more do not fit into half of the context"
    assert usual.choices["out_of_fold_log_loss"] == min(usual.choices["losses_by_shots"].values())


def test_numeric_labels_and_own_words(causal: Causal) -> None:
    rows = some(6, ("0", "1", "2"))
    assert fitted(rows, causal.base).probabilities(["the film"]).shape == (1, 3)
    wording = Wording(
        template="Film: {text}\nWas it: {label}", words=(("0", "good"), ("1", "bad"), ("2", "red"))
    )
    other = fitted(rows, causal.base, wording=wording)
    assert other.prompt.head == "Film: "
    assert causal.decode(other.prompt.labels[0]) == " good"


@pytest.mark.slow
def test_choose_races_it_on_a_decoder_and_never_on_an_encoder(
    causal: Causal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import basewise as bw

    tiny.quick(monkeypatch)
    table = tiny.write_csv(tmp_path / "t.csv", tiny.rows(60))
    settings_file = tmp_path / "s.toml"
    settings_file.write_text(
        'curves = false\ntemplate = "Mail: {text}\\nTeam: {label}"\nlabels = { billing = "money" }\n'
    )
    said = tiny.command(
        "choose", table, "--target", "queue", "--base", causal.base.folder, "--method", "prompt", "--method", "majority",
        "--budget", "10m", "--config", settings_file, "--to", tmp_path / "run",
    )  # fmt: skip
    assert said.code == 0, said.err
    decision = bw.choose(
        table,
        target="queue",
        bases=(str(causal.base.folder),),
        methods=("prompt", "majority"),
        budget="10m",
        to=tmp_path / "other",
    )
    line = next(x for x in decision.leaderboard if x["method"] == "prompt")
    assert line["status"] == "finished" and line["score"]["n"] > 0
    encoder = tiny.base_folder(tmp_path / "encoder")
    decision = bw.choose(
        table,
        target="queue",
        bases=(str(encoder),),
        methods=("prompt", "majority"),
        budget="5m",
        to=tmp_path / "none",
    )
    assert [x["method"] for x in decision.leaderboard] == ["majority"]
    tiny.refused(
        tiny.command("adapt", table, "--target", "queue", "--method", "prompt", "--base", encoder), "score"
    )


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('template = "Mail: {text}"', "{label}"),
        ('labels = { sales = "x" }', "unknown label 'sales'"),
        ("labels = 3", "a table of texts"),
    ],
)
def test_wording_that_cannot_be_used_is_refused_before_anything_runs(
    tmp_path: Path, line: str, word: str
) -> None:
    table = tiny.write_csv(tmp_path / "t.csv", tiny.rows(60))
    (tmp_path / "s.toml").write_text(line)
    tiny.refused(
        tiny.command(
            "choose",
            table,
            "--target",
            "queue",
            "--method",
            "majority",
            "--config",
            tmp_path / "s.toml",
            "--to",
            tmp_path / "run",
        ),
        word,
    )
    assert not (tmp_path / "run").exists()

"""Every metric with its interval, each class by itself, and choosing by another metric than accuracy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

import basewise as bw
from basewise.core.budget import Cost
from basewise.core.decision import Decision
from basewise.core.errors import InputError, UnknownName
from basewise.core.evidence import Trial
from basewise.core.files import read_json
from basewise.core.registry import keys, part
from basewise.steps.choose import ChooseOptions
from basewise.steps.measures import by_class, check_metric, difference, interval_of, measured, scores_of
from basewise.steps.verdict import leaderboard, stand
from basewise.web.report import strip

GOLDEN = {
    "accuracy": lambda p, y: sk.accuracy_score(y, p.argmax(1)),
    "balanced_accuracy": lambda p, y: sk.recall_score(y, p.argmax(1), labels=np.unique(y), average="macro"),
    "macro_f1": lambda p, y: sk.f1_score(y, p.argmax(1), labels=np.unique(y), average="macro"),
    "log_loss": lambda p, y: sk.log_loss(y, p, labels=np.arange(p.shape[1])),
    "brier": lambda p, y: ((p - np.eye(p.shape[1])[y]) ** 2).sum(1).mean(),
}


def answers(seed: int, rows: int, classes: int, skew: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, C) that are often right, and labels (n,) of classes that are not equally frequent."""
    rng = np.random.default_rng(seed)
    share = np.arange(1, classes + 1.0) ** skew
    labels = rng.choice(classes, rows, p=share / share.sum())
    raw = rng.dirichlet(np.ones(classes), rows) + rng.random((rows, 1)) * np.eye(classes)[labels]
    return raw / raw.sum(1, keepdims=True), labels


@pytest.mark.parametrize("metric", GOLDEN)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(2, 80), classes=st.integers(2, 6))
def test_the_mean_of_the_rows_is_the_metric(metric: str, seed: int, rows: int, classes: int) -> None:
    probabilities, labels = answers(seed, rows, classes, 2.0)
    found = scores_of(metric, probabilities, labels)
    assert found.shape == (rows,)
    assert found.mean() == pytest.approx(GOLDEN[metric](probabilities, labels), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("metric", GOLDEN)
def test_the_spread_of_the_rows_is_the_metric_s_sampling_error(metric: str) -> None:
    """Held against the bootstrap of the metric itself: within a tenth."""
    probabilities, labels = answers(3, 400, 4, 1.5)
    rng = np.random.default_rng(0)
    drawn = [GOLDEN[metric](probabilities[i], labels[i]) for i in rng.integers(0, 400, (800, 400))]
    values = scores_of(metric, probabilities, labels)
    assert values.std() / 20 == pytest.approx(np.std(drawn), rel=0.1)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
def test_its_interval_covers_the_truth(metric: str) -> None:
    """400 tables of 300 rows from one population of rows: about 95 % of the intervals hold the population's value."""
    probabilities, labels = answers(5, 200_000, 4, 1.5)
    truth, rng, hits = GOLDEN[metric](probabilities, labels), np.random.default_rng(1), 0
    for _ in range(400):
        i = rng.integers(0, len(labels), 300)
        found = interval_of(scores_of(metric, probabilities[i], labels[i]), None, labels[i])
        hits += found["low"] <= truth <= found["high"]
    assert 0.93 <= hits / 400 <= 0.98


def test_rows_in_groups_widen_every_interval() -> None:
    probabilities, labels = answers(0, 60, 3)
    groups = np.repeat(np.arange(60), 5)
    alone = measured(probabilities, labels)
    copied = measured(probabilities[groups], labels[groups], groups)
    blind = measured(probabilities[groups], labels[groups])
    assert set(alone) == set(keys("metrics")) >= set(GOLDEN)
    for key, value in copied.items():
        assert value["estimate"] == pytest.approx(alone[key]["estimate"])
        width = {name: v[key]["high"] - v[key]["low"] for name, v in (("copied", copied), ("alone", alone), ("blind", blind))}  # fmt: skip
        assert width["copied"] == pytest.approx(width["alone"], rel=0.1), key
        assert width["blind"] < 0.6 * width["alone"], key


def test_one_group_says_nothing_of_a_number_without_bounds() -> None:
    probabilities, labels = answers(0, 30, 3)
    found = measured(probabilities, labels, np.zeros(30, int))
    assert found["log_loss"]["low"] is None
    assert found["log_loss"]["high"] is None
    assert found["macro_f1"]["low"] <= found["macro_f1"]["estimate"] <= found["macro_f1"]["high"]


@pytest.mark.parametrize("metric", GOLDEN)
def test_perfect_answers_are_not_certainty(metric: str) -> None:
    labels = np.arange(40) % 4
    found = measured(np.eye(4)[labels], labels)[metric]
    if part("metrics", metric).HIGHER_IS_BETTER:
        assert found["estimate"] == 1.0
        assert found["low"] < 0.95


def test_intervals_stay_inside_what_a_metric_can_be() -> None:
    labels = np.arange(40) % 2
    p = np.where(labels[:, None] == np.arange(2), 0.9999, 0.0001)
    p[0] = (0.7, 0.3)
    found = measured(p, labels)
    for key in ("brier", "log_loss"):
        assert 0 <= found[key]["low"] < found[key]["estimate"] < found[key]["high"]
    worst = measured(np.where(p > 0.5, 1e-9, 1 - 1e-9), labels)
    assert worst["brier"]["high"] <= 2


def test_classes_worst_first_with_intervals() -> None:
    labels = np.array([0] * 50 + [1] * 30 + [2] * 20)
    guesses = labels.copy()
    # half of b is taken for a
    guesses[50:65] = 0
    lines = by_class(labels, guesses, ("a", "b", "c", "never"))
    assert [line["class"] for line in lines] == ["b", "a", "c"]
    precision, recall, f1, rows = sk.precision_recall_fscore_support(labels, guesses)
    for line in lines:
        c = "abc".index(line["class"])
        assert line["n"] == rows[c]
        assert line["given"] == (guesses == c).sum()
        for what, golden in (("precision", precision[c]), ("recall", recall[c]), ("f1", f1[c])):
            found = line[what]
            assert found["estimate"] == pytest.approx(golden)
            assert found["low"] <= found["estimate"] <= found["high"]
            assert found["high"] - found["low"] > 0.01, "no class is certain"


def test_a_class_never_given_has_no_precision() -> None:
    lines = by_class(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0]), ("a", "b"))
    assert lines[0]["class"] == "b"
    assert lines[0]["precision"] is None
    assert lines[0]["recall"]["estimate"] == lines[0]["f1"]["estimate"] == 0.0


def test_differences_of_another_metric_are_paired() -> None:
    probabilities, labels = answers(0, 500, 3)
    worse = probabilities.copy()
    worse[:40] = np.roll(worse[:40], 1, axis=1)
    ours, theirs = (scores_of("macro_f1", p, labels) for p in (probabilities, worse))
    found = difference(ours, theirs, None, labels)
    assert found["p"] < 0.01
    assert found["low"] > 0
    assert found["estimate"] == pytest.approx(ours.mean() - theirs.mean())
    alone = interval_of(ours, None, labels)
    assert found["high"] - found["low"] < 0.7 * (alone["high"] - alone["low"]), "what both share cancels"


@pytest.mark.parametrize(
    ("metric", "error", "text"),
    [
        ("f1", UnknownName, "unknown metric 'f1'.*macro_f1"),
        ("log_loss", InputError, "log_loss came .* take one of accuracy, balanced_accuracy, macro_f1"),
        ("brier", InputError, "brier came"),
    ],
)
def test_a_metric_that_cannot_be_chosen_by(metric: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        check_metric(metric)
    with pytest.raises(error, match=text):
        bw.choose("sample", budget="10s", options=ChooseOptions(metric=metric))


def trial(method: str, labels: np.ndarray, guesses: np.ndarray) -> Trial:
    n = len(labels)
    return Trial(
        method=method,
        base="b",
        row_ids=np.arange(n),
        labels=labels,
        probabilities=np.eye(2)[guesses] * 0.8 + 0.1,
        fold=np.arange(n) % 5,
        seed=np.zeros(n, np.int64),
        n_train=n,
        cost=Cost(seconds=1.0, predict_seconds_per_row=1e-3),
    )


def test_the_metric_decides_who_wins() -> None:
    """One arm never says the rare class, the other finds most of it and pays with false alarms."""
    labels = np.r_[np.ones(40, int), np.zeros(560, int)]
    blind = np.zeros(600, int)
    keen = np.r_[np.ones(34, int), np.zeros(6, int), np.ones(74, int), np.zeros(486, int)]
    trials = [trial("full", labels, blind), trial("probe", labels, keen)]
    for metric, winner in (("accuracy", "b + full"), ("macro_f1", "b + probe"), ("balanced_accuracy", "b + probe")):  # fmt: skip
        standing = stand(trials, metric=metric)
        assert standing.chosen.name == winner, metric
        assert standing.verdict == "winner"
        golden = GOLDEN[metric](standing.chosen.probabilities, labels)
        assert standing.winner["naive"] == pytest.approx(golden)
        assert standing.winner["low"] <= standing.winner["estimate"] <= standing.winner["high"]
        lines = leaderboard(trials, standing, {})
        assert lines[0]["score"]["estimate"] == pytest.approx(golden)
        assert lines[1]["difference"]["low"] > 0
        assert lines[1]["difference"]["p_holm"] < 0.05


@pytest.mark.parametrize(("knows", "chosen", "verdict"), [(True, "b + probe", "winner"), (False, "majority", "no base helps")])  # fmt: skip
def test_where_a_class_is_rare_an_arm_that_tells_rows_apart_is_taken(
    knows: bool, chosen: str, verdict: str
) -> None:
    """As often right as the majority; of the rare rows one gives them three times the chance, the other knows nothing."""
    from basewise.steps.conclude import standing_notes

    labels = (np.arange(600) % 30 == 0).astype(int)
    chance = np.where(labels == 1, 0.45, 0.02) if knows else np.full(600, 0.04)
    probe = replace(trial("probe", labels, labels), probabilities=np.stack([1 - chance, chance], 1))
    blind = replace(probe, method="majority", base=None, probabilities=np.tile([0.967, 0.033], (600, 1)))
    found = replace(probe, probabilities=probe.probabilities.copy())
    # a rare row said outright
    found.probabilities[0] = [0.4, 0.6]
    trials = [found if knows else probe, blind]
    standing = stand(trials)
    assert (standing.chosen.name, standing.verdict) == (chosen, verdict)
    assert standing.aside == (["majority"] if knows else [])
    told = [n for n in standing_notes(standing, {}, trials, True) if n.startswith("majority gave every row")]
    assert len(told) == knows


def test_rows_are_taken_in_their_order() -> None:
    labels = np.arange(60) % 2
    whole = trial("full", labels, np.where(np.arange(60) < 50, labels, 1 - labels))
    order = np.random.default_rng(0).permutation(60)
    mixed = Trial(**{**vars(whole), "method": "lora", **{name: getattr(whole, name)[order] for name in ("row_ids", "labels", "probabilities", "fold", "seed")}})  # fmt: skip
    standing = stand([whole, mixed])
    np.testing.assert_array_equal(standing.scores[0], standing.scores[1])


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Decision]:
    """A run chosen by macro F1 on rows of which one in ten is rare."""
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(60)]
    rows: dict[str, list[Any]] = {"text": [], "label": []}
    for i in range(400):
        label = "rare" if i % 10 == 0 else "common"
        said = [*rng.choice(words, 5), *rng.choice(["alarm", "smoke", "quiet"], 1, p=[0.4, 0.4, 0.2] if label == "rare" else [0.1, 0.1, 0.8])]  # fmt: skip
        rows["text"].append(" ".join(said) + f" {i}")
        rows["label"].append(label)
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("metric")
    pq.write_table(pa.table(rows), folder / "rows.parquet")
    options = ChooseOptions(metric="macro_f1")
    decision = bw.choose(
        folder / "rows.parquet", target="label", budget="60s", bases=(), methods=("majority", "words"),
        to=folder / "run", options=options,
    )  # fmt: skip
    return folder, decision


def test_a_run_by_macro_f1(chosen: tuple[Path, Decision]) -> None:
    folder, decision = chosen
    assert decision.metric == "macro_f1"
    assert decision.chosen == "words"
    assert "macro F1" in decision.sentence
    test = decision.test["scores"][0]
    assert test["estimate"] == pytest.approx(test["metrics"]["macro_f1"]["estimate"])
    assert decision.accuracy == (test["metrics"]["accuracy"], "locked test rows")
    assert any(note.startswith("Chosen by macro F1") for note in decision.notes)
    assert decision.by_class[0]["class"] == "rare"
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    for said in ("macro F1, % [95 %]", "Each class", "By every metric", "balanced accuracy, % [95 %]", "macro F1 on test rows"):  # fmt: skip
        assert said in page, said
    assert "% right" not in page
    assert Decision.load(folder / "run" / "decision.json").by_class == decision.by_class


def command(*words: Any) -> int:
    """The exit code of the command with these words."""
    from basewise.cli.main import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["basewise", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


def test_the_terminal_says_so_too(chosen: tuple[Path, Decision], capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = chosen
    assert command("show", folder / "run") == 0
    said = capsys.readouterr().out
    assert "macro F1, %" in said
    assert "Answered worst in validation: rare: recall" in said
    assert command("evaluate", folder / "run", folder / "rows.parquet", "--to", folder / "e.json") == 0
    said = capsys.readouterr().out
    assert "by every metric: balanced accuracy" in said
    assert "answered worst: rare: recall" in said
    assert read_json(folder / "e.json")["classes"][0]["class"] == "rare"


@pytest.mark.parametrize(
    ("value", "said"),
    [("f1", "unknown metric 'f1'"), ("brier", "take one of accuracy, balanced_accuracy, macro_f1")],
)
def test_a_settings_file_names_the_metric(
    value: str, said: str, chosen: tuple[Path, Decision], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = chosen
    (tmp_path / "s.toml").write_text(f'metric = "{value}"\n')
    to = tmp_path / "run"
    assert command("choose", folder / "rows.parquet", "--config", tmp_path / "s.toml", "--to", to) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not to.exists()


RARE = np.r_[np.zeros(195, int), np.ones(2, int)]


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
def test_a_class_of_two_rows_is_never_certain(metric: str) -> None:
    """Both rows right, or both wrong: the interval stays wide and the difference proves nothing, as with accuracy."""
    perfect, blind = np.eye(2)[RARE], np.eye(2)[np.zeros(197, int)]
    a, b = (scores_of(metric, p, RARE) for p in (perfect, blind))
    found = difference(a, b, None, RARE)
    assert found["p"] > 0.05
    assert found["low"] < 0 < found["high"]
    for scores in (a, b):
        alone = interval_of(scores, None, RARE)
        assert alone["high"] - alone["low"] > 0.3
        assert 0 <= alone["low"] <= alone["estimate"] <= alone["high"] <= 1
    standing = stand([trial("full", RARE, RARE), trial("probe", RARE, np.zeros(197, int))], metric=metric)
    assert standing.winner["low"] < 0.75
    assert 0.7 < standing.winner["probability_best"] < 0.999


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
@pytest.mark.parametrize(("share", "rows"), [(0.03, 100), (0.1, 100), (0.05, 400)])
def test_few_rows_of_a_class_are_taken_with_care(metric: str, share: float, rows: int) -> None:
    """Two equal arms: an interval holds the truth in 92 of 100 tables, and they are said to differ in six at most."""
    rng, covered, differ = np.random.default_rng(4), 0, 0

    def answer(labels: np.ndarray) -> np.ndarray:
        right = rng.random(len(labels)) < np.where(labels == 1, 0.6, 0.95)
        return np.eye(2)[np.where(right, labels, 1 - labels)]

    many = (rng.random(300_000) < share).astype(int)
    truth = scores_of(metric, answer(many), many).mean()
    for _ in range(300):
        labels = (rng.random(rows) < share).astype(int)
        if len(np.unique(labels)) < 2:
            covered += 1
            continue
        a, b = (scores_of(metric, answer(labels), labels) for _ in range(2))
        found = interval_of(a, None, labels)
        covered += found["low"] <= truth <= found["high"]
        differ += difference(a, b, None, labels)["p"] <= 0.05
    assert covered / 300 >= 0.92
    assert differ / 300 <= 0.06


def test_classes_without_a_row_do_not_stand_first() -> None:
    labels, guesses = np.array([0] * 50 + [1] * 50), np.array([0] * 49 + [2] + [1] * 45 + [0] * 5)
    assert [line["class"] for line in by_class(labels, guesses, ("a", "b", "c"))] == ["a", "b", "c"]


def test_the_smallest_gap_that_shows_is_never_nothing() -> None:
    from types import SimpleNamespace

    from basewise.steps.conclude import power

    labels, same = np.arange(200) % 2, np.ones(200)
    rows = SimpleNamespace(labels=labels, groups=np.arange(200))
    assert 0.001 < power({"a": same, "b": same}, rows, "macro_f1")["smallest_gap"] < 0.1
    together = SimpleNamespace(labels=labels, groups=np.zeros(200, int))
    assert power({"a": same, "b": same}, together, "macro_f1")["smallest_gap"] is None
    assert power({"a": same, "b": same}, together, "accuracy")["smallest_gap"] is None
    assert power({"a": same}, together, "accuracy")["smallest_gap"] is None
    assert 0.03 < power({"a": same, "b": same}, rows, "accuracy")["smallest_gap"] < 0.04, "five rows of 200"


def test_the_gate_goes_by_the_metric_where_there_are_no_test_rows(tmp_path: Path) -> None:
    """Words find a rare class that majority never says: no more right, and better by macro F1."""
    from types import SimpleNamespace

    from basewise.parts.checks.score import check

    labels = np.r_[np.ones(60, int), np.zeros(540, int)]
    keen = np.r_[np.ones(40, int), np.zeros(20, int), np.ones(38, int), np.zeros(502, int)]
    arms = [trial("words", labels, keen), trial("majority", labels, np.zeros(600, int))]
    arms = [Trial(**{**vars(arm), "base": None}) for arm in arms]
    limits = {"least": 0.0, "beat_controls": True, "margin": 0.02}
    verdicts = {}
    for metric in ("accuracy", "macro_f1"):
        standing = stand(arms, metric=metric)
        decision = Decision(verdict="winner", sentence="", chosen="words", metric=metric, winner=standing.winner, leaderboard=leaderboard(arms, standing, {}))  # fmt: skip
        subject: Any = SimpleNamespace(decision=decision, trial=arms[0], others=arms[1:], incumbent=None)
        found = check(subject, limits)
        verdicts[metric] = found.verdict, found.sentence
    assert "not shown to be better than majority (" in verdicts["accuracy"][1]
    assert "not shown to be better" not in verdicts["macro_f1"][1]


def test_the_share_right_is_that_of_the_chosen_arm_not_of_the_leader() -> None:
    leader = {"name": "b + full", "estimate": 0.99, "low": 0.97, "high": 1.0, "n": 80}
    plain = {"estimate": 0.9, "low": 0.8, "high": 0.95, "n": 80}
    line = {"name": "words", "score": plain, "metrics": {"accuracy": plain}}
    tie = Decision(verdict="tie", sentence="", chosen="words", winner=leader, leaderboard=[line])
    assert tie.accuracy == (plain, "cross-validation") and not tie.corrected
    assert "of b + full, the best, corrected" in strip(tie)
    alone = Decision(verdict="winner", sentence="", chosen="b + full", winner=leader, leaderboard=[line])
    assert alone.accuracy == (leader, "cross-validation") and alone.corrected
    assert "the best" not in strip(alone)
    bare = Decision(
        verdict="tie",
        sentence="",
        chosen="words",
        winner=leader,
        leaderboard=[{"name": "words", "score": plain}],
    )
    assert bare.accuracy[0] == plain
    assert Decision(verdict="unfinished", sentence="", chosen="").accuracy[0] == {}

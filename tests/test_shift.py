"""evaluate --shift: mapped labels, the same train rows for every arm, paired differences; what cannot be read is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
import tiny_decoders
from basewise.core.errors import InputError
from basewise.steps.shift import compared, read_mapping, shift


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the words alone, and rows of another origin with labels of their own."""
    import basewise as bw

    folder = tmp_path_factory.mktemp("shift")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BASEWISE_HOME", str(folder / "home"))
        rows = tiny.write_csv(folder / "rows.csv", tiny.rows(120))
        bw.choose(
            rows, target="queue", budget="60s", bases=(), methods=("majority", "words"), to=folder / "run"
        )
    names = {"billing": "money", "delivery": "parcels", "technical": "weather"}
    there = [
        {"text": r["text"], "kind": names[r["queue"]], "author": f"a{i // 15}"}
        for i, r in enumerate(tiny.rows(60, seed=5))
    ]
    tiny.write_csv(folder / "there.csv", there)
    return folder


def test_mapped_rows_are_answered_by_every_arm(run: Path, tmp_path: Path) -> None:
    base = tiny_decoders.decoder(tmp_path / "base", max_position_embeddings=2048)
    mapping = {"money": "billing", "parcels": "delivery"}
    found = shift(run / "run", run / "there.csv", mapping, target="kind", base=base, to=tmp_path / "s.json")
    assert found["n"] == 40 and found["left_out"] == 20
    assert [arm["name"] for arm in found["arms"]] == ["adapted", "words", "prompted"]
    scores = {arm["name"]: arm["score"]["estimate"] for arm in found["arms"]}
    assert scores["adapted"] == pytest.approx(scores["words"]), "the predictor is the words on the same rows"
    for gap in found["differences"]:
        assert gap["estimate"] == pytest.approx(scores["adapted"] - scores[gap["name"]])
        assert gap["p_holm"] >= gap["p"]
    drop = found["drop"]
    assert drop["estimate"] == pytest.approx(scores["adapted"] - drop["before"])
    assert drop["low"] <= drop["estimate"] <= drop["high"]
    assert json.loads((tmp_path / "s.json").read_text())["n"] == 40


def test_the_command_says_what_it_could_not_ask(run: Path) -> None:
    words = ["--target", "kind", "--shift", "money=billing,parcels=delivery,weather=technical"]
    said = tiny.command("evaluate", run / "run", run / "there.csv", *words)
    assert said.code == 0, said.err
    assert "adapted:" in said.out and "No base was prompted" in said.out


def test_rows_of_few_authors_say_less(run: Path) -> None:
    mapping = {"money": "billing", "parcels": "delivery", "weather": "technical"}

    def width(group: str | None) -> float:
        found = shift(run / "run", run / "there.csv", mapping, target="kind", group=group)
        drop, score = found["drop"], found["arms"][0]["score"]
        assert drop["low"] < drop["estimate"] < drop["high"] and score["n"] == 60
        return float(score["high"] - score["low"])

    assert width("author") > 1.5 * width(None)
    words = ["--target", "kind", "--shift", "money=billing", "--against", run / "run"]
    tiny.refused(tiny.command("evaluate", run / "run", run / "there.csv", *words), "--against", "--shift")


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        ("money", "cannot read 'money'"),
        ("money=bills", "did you mean 'billing'"),
        ("monie=billing,parcels=delivery", "did you mean 'money'"),
    ],
)
def test_bad_mappings_are_one_line(run: Path, mapping: str, told: str) -> None:
    said = tiny.command("evaluate", run / "run", run / "there.csv", "--target", "kind", "--shift", mapping)
    tiny.refused(said, told)


def test_labels_are_read_as_evaluate_reads_them_and_one_class_is_told(run: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [r["text"] for r in tiny.rows(12)]
    pq.write_table(pa.table({"text": texts, "kind": [1.0] * 6 + [2.0] * 6}), tmp_path / "n.parquet")
    found = shift(run / "run", tmp_path / "n.parquet", {"1": "billing"}, target="kind")
    assert found["n"] == found["left_out"] == 6 and "All rows are 'billing'" in found["notes"][0]


def test_a_mapping_is_pairs() -> None:
    assert read_mapping(" joy = positive ,anger=negative") == {"joy": "positive", "anger": "negative"}
    with pytest.raises(InputError):
        read_mapping("")
    with pytest.raises(InputError, match="two classes, 'x' and 'y'"):
        read_mapping("a=x,b=x,a=y")


def test_one_arm_alone_has_no_difference() -> None:
    assert compared({"adapted": np.array([True, False])})["differences"] == []


def test_the_drop_knows_groups_and_is_never_certain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """60 runs on 20 groups of 20 without a drop: as single rows half of their intervals left zero out."""
    from types import SimpleNamespace

    from basewise.steps import shift as module
    from basewise.steps.measures import interval_of

    told: dict[str, Any] = {}
    (tmp_path / "decision.json").touch()
    monkeypatch.setattr(module, "predictor_folder", lambda run: tmp_path / "predictor")
    monkeypatch.setattr(
        module.Decision, "load", lambda path: SimpleNamespace(test=told, accuracy=(told["score"], ""))
    )
    groups, beyond = np.repeat(np.arange(20), 20), 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        right = rng.random(400) < np.where(rng.random(20) < 0.3, 0.3, 0.95)[groups]
        told |= {"n": 400, "score": interval_of(right, groups)}
        found = module.drop("run", rng.random(2_000) < 0.755)
        beyond += not found["low"] <= 0 <= found["high"]
    assert beyond / 60 <= 0.12
    told |= {"n": 10, "score": interval_of(np.ones(10))}
    found = module.drop("run", np.ones(2, bool))
    assert found["estimate"] == 0 and found["low"] < -0.6 and found["high"] > 0.2

"""From a table to a predictor and back, as a user goes: choose, show, predict, evaluate, adapt on a tiny base, offline.

One run is made once and looked at by many tests; those that need a run of their own go without a base where they can.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import basewise as bw
import tiny
from basewise.core.budget import Budget
from basewise.core.decision import Decision
from basewise.core.errors import BudgetError, InputError, PredictorChanged, RunError, UnknownName
from basewise.core.registry import part
from basewise.core.rundir import count_look, looks_of
from basewise.core.taskfile import load_task
from basewise.stats.power import smallest_gap
from basewise.steps import choose as choosing
from basewise.steps import passes, race
from basewise.steps.choose import ChooseOptions

METHODS = ("majority", "words", "probe", "full")
WORDS = [word for method in METHODS for word in ("--method", method)]
PLAIN = ChooseOptions(curves=False)


@dataclass(frozen=True)
class World:
    """A table, a base, a finished run over both, what the command printed, and rows that no run has seen."""

    folder: Path
    table: Path
    base: Path
    run: Path
    said: tiny.Answered
    new: list[dict[str, str]]

    @property
    def decision(self) -> Decision:
        return Decision.load(self.run / "decision.json")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BASEWISE_HOME", str(folder / "home"))
        patch.setenv("COLUMNS", "120")
        tiny.quick(patch)
        base = tiny.base_folder(folder / "tiny-bert")
        table = tiny.write_csv(folder / "tickets.csv", tiny.rows())
        run = folder / "run"
        said = tiny.command("choose", table, "--target", "queue", "--base", base, *WORDS, "--to", run)
        assert said.code == 0, said.err
    return World(folder, table, base, run, said, tiny.rows(30, seed=1))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.quick(monkeypatch)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tiny.write_csv(tmp_path / "tickets.csv", tiny.rows(60))


def on(world: World, run: Path) -> list[object]:
    """The words that name the world's table, its base and a run folder."""
    return [world.table, "--target", "queue", "--base", world.base, "--to", run]


def plain_choose(table: Path, run: Path, **more: Any) -> Decision:
    """A run of two methods without a base: a second's work."""
    given = {
        "target": "queue",
        "budget": "5m",
        "bases": (),
        "methods": ("majority", "words"),
        "options": PLAIN,
    }
    return bw.choose(table, to=run, **(given | more))


# --- the run folder ----------------------------------------------------------------------------------------------------


def test_what_is_printed_is_short_and_shows_no_rows(world: World) -> None:
    from basewise.core.decision import Decision
    from basewise.core.taskfile import load_task
    from basewise.steps.predict import load

    decision = Decision.load(world.run / "decision.json")
    told = str(decision).splitlines()
    assert told[0] == decision.sentence
    assert [line[3:].split("  ")[0].strip() for line in told[3:]] == [e["name"] for e in decision.leaderboard]
    assert sum(line.startswith("*") for line in told) == 1
    task = load_task(world.run)
    for shown in (repr(decision), repr(task), repr(task.rows), repr(load(world.run))):
        assert len(shown) < 300
        assert not any(text in shown for text in task.rows.texts)
    assert all(finding.message in str(task) for finding in task.findings)


def test_the_run_folder_is_complete(world: World) -> None:
    names = {path.name for path in world.run.iterdir()}
    files = {
        "task.json",
        "rows.parquet",
        "evidence.parquet",
        "decision.json",
        "report.html",
        "looks.json",
        "race.json",
    }
    assert names == files | {"predictor", "journal", "job.json", ".lock"}
    assert not list(world.run.rglob("*.part"))
    decision = world.decision
    assert decision.verdict in ("winner", "tie", "no base helps")
    assert {line["name"] for line in decision.leaderboard} == {
        "majority", "words", "tiny-bert + probe", "tiny-bert + full",
    }  # fmt: skip
    assert decision.chosen.startswith("tiny-bert"), "the topics lie apart in the base and hardly in the words"
    assert decision.test["n"] == 24
    assert decision.provenance["command"].startswith("basewise choose ")
    assert set(decision.curves) >= {decision.chosen, "words"}
    page = (world.run / "report.html").read_text(encoding="utf-8")
    assert len(page) < 2_000_000 and decision.chosen in page


def test_the_evidence_holds_every_scored_row(world: World) -> None:
    evidence = pq.read_table(world.run / "evidence.parquet").to_pandas()
    for line in world.decision.leaderboard:
        mine = evidence[evidence["trial"] == line["name"]]
        assert len(mine) == line["score"]["n"] == mine["row_id"].nunique()
        assert float((mine["label"] == mine["predicted"]).mean()) == pytest.approx(line["score"]["estimate"])


def test_one_look_at_the_locked_rows_is_counted_and_printed(world: World) -> None:
    looks = json.loads((world.run / "looks.json").read_text())
    assert len(looks) == 1
    assert looks[0]["test_digest"] == world.decision.test["digest"]
    assert "1 look so far" in world.said.out


def test_the_gap_that_can_be_shown_is_that_of_these_rows(world: World) -> None:
    test = world.decision.test
    controls = {s["name"]: s["estimate"] for s in test["scores"][1:]}
    assert test["against"] in controls and controls[test["against"]] == max(controls.values())
    gap = next(g["estimate"] for g in test["differences"] if g["name"] == test["against"])
    assert abs(gap) <= test["discordance"] <= 1, "the gap is part of the rows on which the two disagree"
    assert test["smallest_gap"] == smallest_gap(test["worth"], test["discordance"])
    assert 1 <= test["groups"] <= test["n"] and 1 <= test["worth"] <= test["n"]
    assert f"a true gap to {test['against']} of {100 * test['smallest_gap']:.1f} points" in " ".join(
        world.said.out.split()
    )


def test_the_report_ranks_bases_by_the_rankers_only(world: World) -> None:
    page = (world.run / "report.html").read_text("utf-8")
    assert "logme" in page and "forward_seconds" not in page


def test_the_columns_read_and_predicted_are_said(world: World) -> None:
    line = "reads: text; predicts: queue; split: chance"
    assert line in world.said.err.splitlines(), "as soon as it is known"
    assert line in tiny.command("show", world.run).out.splitlines()
    assert line in (world.run / "report.html").read_text("utf-8")
    assert set(world.decision.provenance["roles"]) == set(tiny.COLUMNS)


def test_show_prints_the_decision_again(world: World) -> None:
    shown = tiny.command("show", world.run)
    assert shown.code == 0
    assert shown.out == world.said.out
    assert world.decision.sentence.split(":")[0] in " ".join(shown.out.split())
    known = json.loads(tiny.command("show", world.run, "--json").out)
    assert known == json.loads((world.run / "decision.json").read_text("utf-8"))


def test_show_names_a_moved_run_by_where_it_is(world: World, tmp_path: Path) -> None:
    shutil.copy(world.run / "decision.json", tmp_path)
    assert f"basewise predict {tmp_path} NEW_ROWS.csv" in tiny.command("show", tmp_path).out
    assert json.loads(tiny.command("show", tmp_path, "--json").out)["folder"] == str(tmp_path)


def test_the_same_command_again_costs_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p: p.read_bytes() for p in world.run.rglob("*") if p.is_file()}
    monkeypatch.setattr(choosing, "_run", lambda *_: pytest.fail("a finished run was run again"))
    again = tiny.command("choose", *on(world, world.run), *WORDS)
    assert (again.code, again.out) == (0, world.said.out)
    assert {p: p.read_bytes() for p in world.run.rglob("*") if p.is_file()} == before


def test_another_job_does_not_touch_the_folder(world: World) -> None:
    answered = tiny.command("choose", *on(world, world.run), "--method", "majority")
    tiny.refused(answered, "holds another run", "--to")


# --- the predictor -----------------------------------------------------------------------------------------------------


def answers_in(path: Path) -> list[dict[str, Any]]:
    """Answers as rows of numbers and names, whatever the format they were written in."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [
            {k: v for k, v in row.items() if k != "probabilities"}
            | {f"p_{name}": p for name, p in row["probabilities"].items()}
            for row in rows
        ]
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return pyarrow.csv.read_csv(path).to_pylist()


@pytest.fixture(scope="module")
def new_rows(world: World) -> dict[str, Path]:
    """The same new rows in every format."""
    csv_path = tiny.write_csv(world.folder / "new.csv", world.new)
    tsv_path = tiny.write_csv(world.folder / "new.tsv", world.new, "\t")
    lines = world.folder / "new.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in world.new), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(world.new), world.folder / "new.parquet")
    return {"csv": csv_path, "tsv": tsv_path, "jsonl": lines, "parquet": world.folder / "new.parquet"}


@pytest.mark.parametrize(
    ("source", "ending"), [("csv", "jsonl"), ("jsonl", "parquet"), ("parquet", "csv"), ("tsv", "csv")]
)
def test_predict_reads_and_writes_every_format(
    source: str, ending: str, world: World, new_rows: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / f"answers.{ending}"
    answered = tiny.command("predict", world.run, new_rows[source], "--to", out)
    assert (answered.code, answered.out) == (0, "")
    assert [p.name for p in tmp_path.iterdir()] == [out.name]
    rows, predictor = answers_in(out), bw.load(world.run)
    probabilities = predictor.predict_proba(world.new)
    assert [row["row"] for row in rows] == list(range(30))
    assert [row["label"] for row in rows] == predictor.predict(world.new)
    found = np.array([[row[f"p_{name}"] for name in predictor.classes] for row in rows])
    np.testing.assert_allclose(found, probabilities, atol=1e-6)
    np.testing.assert_allclose([row["probability"] for row in rows], probabilities.max(1), atol=1e-6)
    below = probabilities.max(1) < (predictor.threshold or 0)
    assert [str(row["abstained"]) for row in rows] == [str(bool(b)) for b in below]


def test_rows_of_a_database_are_answered_and_scored(world: World, tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "new.db"
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.execute("create table mail (body text, queue text)")
        made.executemany("insert into mail values (?, ?)", [(r["text"], r["queue"]) for r in world.new])
        made.commit()
    query = "select body as text, queue from mail"
    said = tiny.command("predict", world.run, path, "--query", query, "--to", tmp_path / "a.csv")
    assert said.code == 0, said.err
    assert [row["label"] for row in answers_in(tmp_path / "a.csv")] == bw.load(world.run).predict(world.new)
    assert bw.evaluate(world.run, path, query=query)["n"] == 30
    for verb in ("predict", "evaluate"):
        tiny.refused(tiny.command(verb, world.run, path), "add a query, such as select * from mail")


@pytest.mark.parametrize("name", ["answers.xlsx", "answers.json", "answers.csv.gz"])
def test_an_ending_of_another_format_is_refused(
    name: str, world: World, new_rows: dict[str, Path], tmp_path: Path
) -> None:
    words = ["predict", world.run, new_rows["csv"], "--to", tmp_path / name]
    tiny.refused(tiny.command(*words), name, "csv, jsonl, parquet", "--format")
    assert not list(tmp_path.iterdir())
    assert tiny.command(*words, "--format", "jsonl").code == 0
    assert json.loads((tmp_path / name).read_text("utf-8").splitlines()[0])["row"] == 0


def test_the_rows_are_not_replaced_by_their_answers(world: World, tmp_path: Path) -> None:
    rows = tiny.write_csv(tmp_path / "new.csv", world.new)
    before = rows.read_bytes()
    (tmp_path / "link.csv").symlink_to(rows)
    for verb in ("predict", "evaluate"):
        for to in (rows, tmp_path / "link.csv"):
            tiny.refused(
                tiny.command(verb, world.run, rows, "--to", to), "as the rows and as the file to write"
            )
    assert rows.read_bytes() == before


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_predict_from_a_pipe_to_a_pipe(
    form: str, world: World, new_rows: dict[str, Path], tmp_path: Path
) -> None:
    answered = tiny.command("predict", world.run, "-", "--format", form, stdin=new_rows["jsonl"].read_bytes())
    assert answered.code == 0, answered.err
    path = tmp_path / f"a.{form}"
    path.write_text(answered.out, encoding="utf-8", newline="")
    assert [row["label"] for row in answers_in(path)] == bw.load(world.run).predict(world.new)


def test_predict_streams_what_it_is_given(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more rows are taken than a batch; the answers come in order and are the same for texts, dicts and frames."""
    import pandas as pd
    import polars as pl

    from basewise.steps import predict as predicting

    monkeypatch.setattr(predicting, "BATCH_ROWS", 4)
    taken = []

    def source() -> Any:
        for row in world.new:
            taken.append(row)
            yield row

    stream = bw.predict(bw.load(world.run), source())
    first = next(stream)
    assert len(taken) == 4
    rest = [first, *stream]
    assert [a["row"] for a in rest] == list(range(30))
    frames = (pd.DataFrame(world.new), pl.DataFrame(world.new), pa.Table.from_pylist(world.new))
    for same in ([row["text"] for row in world.new], *frames):
        assert [a["label"] for a in bw.predict(world.run, same)] == [a["label"] for a in rest]


def test_a_row_without_one_of_the_columns_is_read_as_in_training(table: Path, tmp_path: Path) -> None:
    options = ChooseOptions(curves=False, inputs=("text", "channel"))
    plain_choose(table, tmp_path / "run", methods=("majority",), options=options)
    predictor = bw.load(tmp_path / "run")
    rows: list[dict[str, str]] = [{"text": "a late parcel", "channel": "web"}, {"text": "a late parcel"}]
    assert len(list(bw.predict(predictor, rows))) == len(predictor.predict(rows)) == 2
    with pytest.raises(UnknownName, match="'channel'"):
        predictor.predict(rows[1:])
    with pytest.raises(InputError, match="NoneType"):
        next(bw.predict(predictor, [rows[0], None]))
    assert len(predictor.predict([{"text": "cut \ud83d", "channel": ""}])) == 1
    for asked in (predictor.predict, lambda same: list(bw.predict(predictor, same))):
        with pytest.raises(
            InputError, match=r"the columns text, channel; give each row as a dict: \{'text': "
        ):
            asked(["a late parcel"])
    assert list(bw.predict(predictor, pa.table({"text": pa.array([], pa.string())}))) == []


def test_class_names_of_a_file_are_read_wherever_its_codes_stand(table: Path, tmp_path: Path) -> None:
    """A file of the datasets library holds codes and states their names: choose, evaluate and predict read the same."""
    rows, names = tiny.rows(60), {"queue": sorted(tiny.TOPICS), "channel": ["mail", "web"]}
    columns = {n: pa.array([known.index(row[n]) for row in rows]) for n, known in names.items()}
    features = {n: {"names": known, "_type": "ClassLabel"} for n, known in names.items()}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    data = pa.table({"text": [row["text"] for row in rows], **columns}).replace_schema_metadata(about)
    pq.write_table(data, tmp_path / "codes.parquet")
    options = ChooseOptions(curves=False, inputs=("text", "channel"))
    plain_choose(tmp_path / "codes.parquet", tmp_path / "run", options=options)
    in_words = bw.evaluate(tmp_path / "run", table)
    assert bw.evaluate(tmp_path / "run", tmp_path / "codes.parquet")["score"] == in_words["score"]
    answers = [
        [a["probability"] for a in bw.predict(tmp_path / "run", p)]
        for p in (table, tmp_path / "codes.parquet")
    ]
    assert answers[0] == answers[1]


def test_evaluate_gives_a_score_with_its_interval(
    world: World, new_rows: dict[str, Path], tmp_path: Path
) -> None:
    answered = tiny.command("evaluate", world.run, new_rows["csv"], "--to", tmp_path / "score.json")
    assert answered.code == 0, answered.err
    result = json.loads((tmp_path / "score.json").read_text())
    labels = [row["queue"] for row in world.new]
    right = np.mean([a == b for a, b in zip(bw.load(world.run).predict(world.new), labels, strict=True)])
    assert result["score"]["estimate"] == pytest.approx(right)
    assert result["score"]["low"] <= right <= result["score"]["high"]
    assert (result["n"], result["unknown_labels"], result["against"]) == (30, 0, None)
    assert f"right on {right:.3f}" in answered.out


def test_evaluate_against_another_run_is_paired(
    world: World, new_rows: dict[str, Path], tmp_path: Path
) -> None:
    plain_choose(world.table, tmp_path / "plain", methods=("majority",))
    result = bw.evaluate(world.run, new_rows["csv"], against=tmp_path / "plain")
    gap = result["against"]["difference"]
    assert gap["estimate"] == pytest.approx(
        result["score"]["estimate"] - result["against"]["score"]["estimate"]
    )
    assert 0 < gap["low"] < gap["high"] and gap["p"] < 0.01
    answered = tiny.command("evaluate", world.run, new_rows["csv"], "--against", tmp_path / "plain")
    assert "McNemar" in answered.out
    other = tiny.write_csv(tmp_path / "two.csv", [row for row in tiny.rows(90) if row["queue"] != "billing"])
    plain_choose(other, tmp_path / "two", methods=("majority",))
    tiny.refused(
        tiny.command("evaluate", world.run, new_rows["csv"], "--against", tmp_path / "two"), "other classes"
    )


def test_rows_of_one_customer_say_less_than_as_many_of_many(world: World, tmp_path: Path) -> None:
    rows = [row | {"customer": "" if i == 29 else f"c{i // 5}"} for i, row in enumerate(world.new)]
    path = tiny.write_csv(tmp_path / "new.csv", rows)
    answered = tiny.command(
        "evaluate", world.run, path, "--group", "customer", "--to", tmp_path / "score.json"
    )
    result, alone = json.loads((tmp_path / "score.json").read_text()), bw.evaluate(world.run, path)
    assert (result["n"], result["groups"], alone["groups"]) == (30, 7, 30)
    assert "30 rows in 7 groups" in answered.out
    assert result["score"]["estimate"] == alone["score"]["estimate"]
    assert result["score"]["high"] - result["score"]["low"] > alone["score"]["high"] - alone["score"]["low"]
    tiny.refused(tiny.command("evaluate", world.run, path, "--group", "custmer"), "custmer", "customer")


def test_labels_that_the_predictor_does_not_know_are_counted(world: World, tmp_path: Path) -> None:
    rows = [row | {"queue": "legal"} if i < 3 else row for i, row in enumerate(world.new)]
    answered = tiny.command("evaluate", world.run, tiny.write_csv(tmp_path / "new.csv", rows))
    assert answered.code == 0 and "does not know: 3 of the rows" in answered.out
    strange = tiny.write_csv(tmp_path / "strange.csv", [row | {"queue": "legal"} for row in world.new])
    tiny.refused(tiny.command("evaluate", world.run, strange), "none of the labels", "billing")


def test_rows_without_a_label_are_said_to_have_none(world: World, tmp_path: Path) -> None:
    rows = [
        row | {"queue": ("legal", "", "nan")[i] if i < 3 else row["queue"]} for i, row in enumerate(world.new)
    ]
    result = bw.evaluate(world.run, rows)
    assert (result["n"], result["unknown_labels"], result["unlabelled"]) == (27, 1, 2)
    answered = tiny.command("evaluate", world.run, tiny.write_csv(tmp_path / "new.csv", rows))
    assert "left out without a label: 2 of the rows" in answered.out
    assert "does not know: 1 of the rows" in answered.out
    none = tiny.write_csv(tmp_path / "none.csv", [row | {"queue": ""} for row in world.new])
    tiny.refused(tiny.command("evaluate", world.run, none), "has no value in any row")


def test_labels_are_matched_by_value_where_that_is_one_to_one() -> None:
    from basewise.steps.evaluate import places_of

    assert places_of(["true", "false"], ("False", "True")) == {"false": 0, "true": 1}
    assert places_of(["1", "2", "3"], ("1.0", "2.0", "10")) == {"1": 0, "2": 1}
    assert places_of(["7", "8"], ("007", "008")) == {"7": 0, "8": 1}
    assert places_of(["1", "1.0"], ("1.0", "2")) == {"1.0": 0}, "the name comes first, and is the only one"
    assert places_of(["true", "TRUE"], ("False", "True")) == {}, "two labels for one class"
    assert places_of(["1"], ("1.0", "1.00")) == {}, "two classes for one label"
    assert places_of(["Billing", "nan", ""], ("billing", "inf")) == {}
    assert places_of(["12345678901234567891"], ("12345678901234567890", "1")) == {}


def test_adapt_is_one_arm_beside_the_controls(world: World, tmp_path: Path) -> None:
    answered = tiny.command("adapt", *on(world, tmp_path / "run"), "--method", "prototype")
    assert answered.code == 0, answered.err
    decision = Decision.load(tmp_path / "run" / "decision.json")
    names = {line["name"] for line in decision.leaderboard}
    assert names == {"majority", "words", "tiny-bert + prototype"}
    predictor = bw.load(tmp_path / "run")
    assert predictor.predict([world.new[0]])[0] in tiny.TOPICS
    spaces = predictor.fitted.store._spaces.values()  # type: ignore[attr-defined]
    assert spaces and not any(space.shards for space in spaces), "answers leave no features behind"


@pytest.fixture
def for_words(tmp_path: Path) -> Path:
    """Rows whose class is one common word, which words see at once and the base hardly."""
    rows = [
        {"text": f"{('hello', 'please')[i % 2]} {row['text']}", "queue": "ab"[i % 2]}
        for i, row in enumerate(tiny.rows(90))
    ]
    return tiny.write_csv(tmp_path / "words.csv", rows)


@pytest.mark.parametrize("method", ["prototype", "scratch"])
def test_adapt_saves_what_was_asked_for(
    method: str, world: World, for_words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (for_words, "--target", "queue", "--base", world.base, "--method", method)
    answered = tiny.command("adapt", *words, "--to", tmp_path / "run")
    assert answered.code == 0, answered.err
    decision, record = Decision.load(tmp_path / "run" / "decision.json"), bw.load(tmp_path / "run").record
    assert (record["method"], decision.chosen) == (method, f"tiny-bert + {method}")
    assert decision.sentence.startswith(f"Saved as asked, tiny-bert + {method}: right on ")
    assert decision.test["scores"][0]["name"] == decision.chosen
    if method == "prototype":
        assert (
            decision.verdict == "no base helps" and "no base tried helps here, for words" in decision.sentence
        )
    interrupt_at(7, monkeypatch)
    stopped = tiny.command("adapt", *words, "--to", tmp_path / "stopped")
    assert stopped.code == 130 and "So far:" in stopped.out


def test_rows_are_cut_where_the_method_stops_reading(
    world: World, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tuned network reads less than its base could, and cut rows are counted there."""
    from basewise.engine import classifier

    monkeypatch.setattr(classifier, "MOST_TOKENS", 8)
    bw.adapt(table, base=str(world.base), method="full", target="queue", to=tmp_path / "run")
    decision = Decision.load(tmp_path / "run" / "decision.json")
    n = sum(line["n"] for line in decision.lengths)
    said = f"{n} of {n} rows were longer than tiny-bert + full reads in full (8 tokens) and were cut."
    assert said in decision.notes and sum(line["cut"] for line in decision.lengths) == n


def test_a_moved_predictor_replays_its_golden_rows(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.run / "predictor", tmp_path / "elsewhere")
    moved, at_home = bw.load(tmp_path / "elsewhere"), bw.load(world.run)
    np.testing.assert_array_equal(moved.predict_proba(world.new), at_home.predict_proba(world.new))
    record = json.loads((tmp_path / "elsewhere" / "predictor.json").read_text())
    record["golden"][0] = record["golden"][0][::-1]
    (tmp_path / "elsewhere" / "predictor.json").write_text(json.dumps(record))
    with pytest.raises(PredictorChanged, match="answers differently"):
        bw.load(tmp_path / "elsewhere")


def test_class_names_in_another_order_are_an_error(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.run / "predictor", tmp_path / "p")
    record = json.loads((tmp_path / "p" / "predictor.json").read_text())
    record["classes"].reverse()
    (tmp_path / "p" / "predictor.json").write_text(json.dumps(record))
    with pytest.raises(PredictorChanged, match="names other classes, or in another order"):
        bw.load(tmp_path / "p")


def test_one_changed_byte_in_any_file_is_an_error(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "predictor"
    shutil.copytree(world.run / "predictor", folder)
    names = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p.name != "predictor.json"]
    assert names
    for name in names:
        content = (folder / name).read_bytes()
        middle = len(content) // 2
        (folder / name).write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        tiny.refused(tiny.command("predict", folder, world.table), str(name), "changed since it was saved")
        (folder / name).unlink()
        tiny.refused(tiny.command("predict", folder, world.table), str(name), "missing")
        (folder / name).write_bytes(content)
    assert tiny.command("predict", folder, world.table).code == 0


def test_a_base_that_changed_under_a_predictor_is_an_error(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head fits one network only: other weights in the base's folder, or none, are told and nothing is guessed."""
    folder = tmp_path / "predictor"
    shutil.copytree(world.run / "predictor", folder)
    other = tiny.base_folder(tmp_path / "tiny-bert", seed=1)
    record = json.loads((folder / "predictor.json").read_text())
    record["base"]["locator"]["folder"] = str(other)
    (folder / "predictor.json").write_text(json.dumps(record))
    tiny.refused(tiny.command("predict", folder, world.table), "the base tiny-bert here has the digest")
    shutil.rmtree(other)
    tiny.refused(tiny.command("predict", folder, world.table), "is gone")


# --- stopped, gone on with, in use -------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
import pytest
import tiny
tiny.quick(pytest.MonkeyPatch())
import basewise as bw
from basewise.core.rundir import RunDir
from basewise.steps.choose import ChooseOptions
keep, kept = RunDir.keep, []
def counted(self, *job):
    keep(self, *job)
    kept.append(job)
    if len(kept) == 7:
        os.kill(os.getpid(), signal.SIGKILL)
RunDir.keep = counted
bw.choose(sys.argv[1], target="queue", budget="5m", bases=(), methods=("majority", "words"), to=sys.argv[2],
          options=ChooseOptions(curves=False))
"""


def count_jobs(patch: pytest.MonkeyPatch) -> list[str]:
    """The names of the jobs that the race runs from now on."""
    ran: list[str] = []
    run_job = race.run_job

    def counted(job: Any, *more: Any) -> Any:
        ran.append(job.name)
        return run_job(job, *more)

    patch.setattr(race, "run_job", counted)
    return ran


def scores(decision: Decision) -> list[Any]:
    """What must not depend on where or when a run went."""
    return [
        [[line["name"], line["score"], line["metrics"]] for line in decision.leaderboard],
        decision.chosen,
        decision.test["scores"],
        decision.confusion,
    ]


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_journal(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    words = [sys.executable, "-c", KILLED, str(table), str(run), str(Path(__file__).parent)]
    killed = subprocess.run(words, capture_output=True, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (run / "decision.json").exists()
    assert len(list((run / "journal").glob("*.npz"))) == 7
    ran = count_jobs(monkeypatch)
    resumed = plain_choose(table, run)
    assert len(ran) == 3, "ten jobs, of which seven were in the journal"
    assert scores(resumed) == scores(plain_choose(table, tmp_path / "whole"))
    assert not list(run.rglob("*.part"))


def interrupt_at(job: int, patch: pytest.MonkeyPatch) -> None:
    """A real Ctrl-C when the race starts its n-th job."""
    run_job, started = race.run_job, []
    # a shell starts what it puts behind it with it ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def counted(*given: Any) -> Any:
        started.append(given)
        if len(started) == job:
            signal.raise_signal(signal.SIGINT)
        return run_job(*given)

    patch.setattr(race, "run_job", counted)


def choose_words(table: Path, run: Path) -> tiny.Answered:
    """The command for two methods without a base."""
    config = run.parent / "plain.toml"
    config.write_text("curves = false\n")
    return tiny.command(
        "choose",
        table,
        "--target",
        "queue",
        "--config",
        config,
        "--method",
        "majority",
        "--method",
        "words",
        "--to",
        run,
    )


@pytest.fixture
def no_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here and nothing to be fetched."""
    monkeypatch.setattr(choosing, "get_bases", lambda *_: ([], []))


def test_ctrl_c_gives_the_best_so_far_and_goes_on(table: Path, tmp_path: Path, no_bases: None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(7, patch)
        stopped = choose_words(table, tmp_path / "run")
    assert stopped.code == 130, stopped
    assert "So far:" in stopped.out and "Traceback" not in stopped.err
    assert (tmp_path / "run" / "report.html").exists()
    half = Decision.load(tmp_path / "run" / "decision.json")
    assert (half.verdict, half.chosen) == ("unfinished", "words"), "one fold shows more than a guess"
    record = json.loads((tmp_path / "run" / "decision.json").read_text())
    record["budget"]["used_seconds"] = 300.0
    (tmp_path / "run" / "decision.json").write_text(json.dumps(record))
    (tmp_path / "run" / ".race.json.abc.part").touch()
    gone_on = choose_words(table, tmp_path / "run")
    assert gone_on.code == 0, gone_on.err
    assert not list((tmp_path / "run").glob(".*.part"))
    whole = Decision.load(tmp_path / "run" / "decision.json")
    assert whole.chosen == "words"
    assert 300.0 < whole.budget["used_seconds"] < 600.0, "both sessions, one budget"
    assert whole.test["looks"] == 2, "the half run had looked once already"


@pytest.mark.parametrize("job", [1, 3])
def test_ctrl_c_before_anything_is_scored_is_one_line(
    job: int, table: Path, tmp_path: Path, no_bases: None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(job, patch)
        stopped = choose_words(table, tmp_path / "run")
    assert stopped.code == 130
    assert stopped.err.splitlines() == [
        "reads: text; predicts: queue; split: chance",
        "stopped; the same command goes on from here",
    ]
    assert not (tmp_path / "run" / "decision.json").exists()


@pytest.mark.parametrize(
    ("step", "said"), [("look_at_test", "the locked test rows"), ("labels_saved", "the labels saved")]
)
def test_ctrl_c_after_the_race_gives_the_choice_without_the_rest(
    step: str, said: str, table: Path, tmp_path: Path
) -> None:
    from basewise.steps import conclude

    def stopped(*_: Any) -> Any:
        raise KeyboardInterrupt

    options = ChooseOptions()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conclude, step, stopped)
        half = plain_choose(table, tmp_path / "run", options=options)
    assert (half.verdict, half.chosen, half.curves) == ("unfinished", "words", {})
    assert half.sentence.startswith("So far: Take words")
    assert any(note.startswith(f"Stopped by hand before {said}") for note in half.notes)
    assert not any("There were no locked test rows" in note for note in half.notes)
    assert (tmp_path / "run" / "report.html").exists()
    assert bool(half.test) is (step == "labels_saved")
    assert plain_choose(table, tmp_path / "run", options=options).verdict == "winner", "it goes on"


def test_ctrl_c_while_workers_run_gives_the_best_of_what_they_finished(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seven(function: Any, jobs: Any, _workers: int) -> Any:
        yield from map(function, jobs[:7])
        raise KeyboardInterrupt

    monkeypatch.setattr(part("executors", "processes"), "run", seven)
    options = ChooseOptions(curves=False, executor="processes")
    half = plain_choose(table, tmp_path / "run", options=options)
    assert (half.verdict, half.chosen) == ("unfinished", "words"), "two of its five folds were scored"
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize("there", [None, (), ("mine.txt",)])
def test_a_run_that_does_nothing_leaves_its_folder_as_it_was(
    there: tuple[str, ...] | None, table: Path, tmp_path: Path
) -> None:
    """A budget that nothing fits into is refused, and the folder may then hold a run with another one."""
    run = tmp_path / "run"
    if there is not None:
        run.mkdir()
    for name in there or ():
        (run / name).write_text("kept")
    options = replace(PLAIN, budget=Budget(memory_bytes=1e6))
    with pytest.raises(BudgetError, match="above the budget"):
        plain_choose(table, run, options=options)
    assert (sorted(p.name for p in run.iterdir()) if run.exists() else None) == (
        None if there is None else [*there]
    )
    assert plain_choose(table, run, methods=("majority",)).chosen == "majority"


def test_no_workers_are_refused_before_a_folder_is_made(table: Path, tmp_path: Path) -> None:
    options = ChooseOptions(executor="processes", workers=0)
    with pytest.raises(InputError, match="0 workers came, at least 1 was expected"):
        plain_choose(table, tmp_path / "run", options=options)
    assert not (tmp_path / "run").exists()


def test_what_a_worker_did_not_do_is_done_without_it(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is ended from outside is an error of one line there, and a note in a run that goes on."""
    with pytest.raises(RunError, match="a worker process was ended from outside"):
        list(part("executors", "processes").run(os._exit, [1], 1))

    def broken(function: Any, jobs: Any, _workers: int) -> Any:
        yield from map(function, jobs[:6])
        raise RunError("a worker process was ended from outside", "give fewer workers")

    monkeypatch.setattr(part("executors", "processes"), "run", broken)
    decision = plain_choose(table, tmp_path / "run", options=replace(PLAIN, executor="processes"))
    assert (decision.verdict, decision.chosen) == ("winner", "words")
    told = "A worker process was ended from outside: what it had to do was done without it."
    assert told in decision.notes


HOLDER = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"


def test_a_run_folder_in_use_is_refused(table: Path, tmp_path: Path, no_bases: None) -> None:
    run = tmp_path / "run"
    run.mkdir()
    words = [sys.executable, "-c", HOLDER, str(run / ".lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        answered = choose_words(table, run)
        assert holder.stdin is not None
        holder.stdin.close()
    tiny.refused(answered, "in use by another process", "--to")
    assert [p.name for p in run.iterdir()] == [".lock"]


def test_a_seed_below_zero_is_refused_before_anything_runs(table: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seed must not be below zero"):
        plain_choose(table, tmp_path / "run", seed=-1)
    assert not (tmp_path / "run").exists()


def test_another_limit_or_another_grouping_is_another_run(table: Path) -> None:
    task = choosing.task_of(table, "queue", PLAIN)
    grouped = replace(task, rows=replace(task.rows, groups=task.rows.groups // 2))
    budgets = [
        Budget(), Budget(memory_bytes=1e9), Budget(latency_seconds=0.01), Budget(licences=("MIT",)), Budget(seconds=60),
    ]  # fmt: skip
    known = {choosing.identity_of(task, [], ("words",), 0, budget, PLAIN) for budget in budgets}
    known.add(choosing.identity_of(grouped, [], ("words",), 0, Budget(), PLAIN))
    assert len(known) == len(budgets) + 1


def test_looks_are_counted_by_the_rows(table: Path, tmp_path: Path) -> None:
    first = plain_choose(table, tmp_path / "run", methods=("majority",))
    again = plain_choose(
        table, tmp_path / "run", methods=("majority",), options=ChooseOptions(curves=False, again=True)
    )
    assert (first.test["looks"], again.test["looks"]) == (1, 2)
    assert scores(first) == scores(again)


def test_looks_of_other_runs_at_the_same_rows_are_counted_too(table: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"methods": ("majority",)}
    plain_choose(table, tmp_path / "one", **given)
    second = plain_choose(table, tmp_path / "two", **given)
    assert (second.test["looks"], second.test["looks_elsewhere"]) == (2, 1)
    assert "2 looks so far, 1 of them by another run;" in tiny.command("show", tmp_path / "two").out
    other = plain_choose(table, tmp_path / "other", seed=5, **given)
    assert other.test["looks"] == 1, "other rows are locked"
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    assert looks_of(tmp_path / "copy", second.test["digest"]) == (2, 1), "a copy brings no look of its own"


def test_evaluate_says_which_rows_are_the_runs_own(table: Path, tmp_path: Path) -> None:
    run = Path(plain_choose(table, tmp_path / "run", methods=("majority",)).folder)
    task = load_task(run)
    sides = {side: [i for i, s in enumerate(task.split) if s == side] for side in ("train", "test")}
    rows = [
        {"text": task.rows.texts[i], "queue": task.classes[task.rows.labels[i]]}
        for i in [*sides["train"][:4], *sides["test"][:3]]
    ]
    new = [{"text": f"something new {i}", "queue": task.classes[0]} for i in range(2)]
    mixed = tiny.write_csv(tmp_path / "mixed.csv", [*rows, *new])
    answered = tiny.command("evaluate", run, mixed, "--target", "queue")
    assert "4 of the rows are rows that this predictor has learned from" in answered.out
    assert (
        "3 of the rows are locked test rows of this run; 2 looks at these test rows so far\n" in answered.out
    )
    other = tmp_path / "other"
    shutil.copytree(run, other)
    shutil.rmtree(run / "journal")
    # nothing is known of its rows any more, but of the other's
    (run / "rows.parquet").unlink()
    compared = tiny.command("evaluate", run, mixed, "--target", "queue", "--against", other)
    assert f"{other}: 4 of the rows are rows that this predictor has learned from" in compared.out
    shutil.copy(other / "rows.parquet", run / "rows.parquet")
    fresh = tiny.write_csv(tmp_path / "fresh.csv", new)
    own = bw.evaluate(run, fresh, target="queue")["own"]
    assert own == {"train": 0, "test": 0, "looks": 0, "looks_elsewhere": 0}
    assert looks_of(run, task.test_digest()) == (3, 1)


def test_the_same_locked_rows_in_another_order_are_the_same_rows() -> None:
    rows = [
        {"text": f"{side} row number {i}", "queue": "ab"[i % 2], "split": side}
        for side in ("train", "test")
        for i in range(30)
    ]
    more = [{"text": f"a new class {i}", "queue": "0", "split": "train"} for i in range(2)]
    digests = {
        bw.audit(order, target="queue", inputs="text", split="split").test_digest()
        for order in (rows, rows[::-1], [*rows, *more])
    }
    assert len(digests) == 1


def test_a_look_that_told_nobody_is_not_counted_again(tmp_path: Path) -> None:
    assert count_look(tmp_path, "d", "choose: words", unseen=True) == (1, 0)
    assert count_look(tmp_path, "d", "choose: words", unseen=True) == (1, 0)
    assert count_look(tmp_path, "d", "choose: words") == (2, 0)


LOOKER = "import pathlib, sys; from basewise.core.rundir import count_look; [count_look(pathlib.Path(sys.argv[1]), 'd', 'x') for _ in range(20)]"


def test_two_processes_lose_no_look(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("a", "a", "b")]
    processes = [subprocess.Popen([sys.executable, "-c", LOOKER, str(run)]) for run in runs]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert looks_of(tmp_path / "a", "d") == (60, 20)


def test_without_a_home_that_can_be_written_the_folder_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BASEWISE_HOME", str(tmp_path / "file" / "home"))
    assert [count_look(tmp_path / "run", "d", "x") for _ in range(2)] == [(1, 0), (2, 0)]


@pytest.mark.slow
def test_worker_processes_give_the_same_bits(world: World, table: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"bases": (str(world.base),), "methods": ("majority", "prototype", "probe")}
    here = plain_choose(table, tmp_path / "here", **given)
    options = ChooseOptions(curves=False, executor="processes", workers=1)
    with pytest.MonkeyPatch.context() as patch:
        ran = count_jobs(patch)
        there = plain_choose(table, tmp_path / "there", **given, options=options)
        assert ran == [], "the workers had run every job"
    assert scores(here) == scores(there)
    one, two = (pq.read_table(tmp_path / name / "evidence.parquet") for name in ("here", "there"))
    assert one.equals(two)


# --- what the decision says --------------------------------------------------------------------------------------------


def test_bases_in_folders_of_one_name_are_kept_apart(table: Path, tmp_path: Path) -> None:
    """The right weights are saved of two with one folder name; the same weights named twice are one base."""
    from basewise.steps.fetch import get_bases

    first, second = (tiny.base_folder(tmp_path / name / "model", seed) for seed, name in enumerate("ab"))
    names = (str(first), str(second), str(first))
    found, notes = get_bases(names, Budget(), ChooseOptions(), None)  # type: ignore[arg-type]
    assert [base.key for base in found] == [f"model-{base.digest[:8]}" for base in found]
    assert [base.folder for base in found] == [first, second]
    assert notes == ["model was named again: it holds the same weights as model."]
    run = tmp_path / "run"
    decision = plain_choose(table, run, bases=names, methods=("prototype",))
    record = json.loads((run / "predictor" / "predictor.json").read_text())
    assert decision.chosen == f"{record['base']['key']} + prototype"
    assert record["base"]["key"].endswith(record["base"]["digest"][:8])
    assert len(decision.leaderboard) == 2


def test_bases_that_are_all_too_slow_leave_the_controls(
    world: World, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first base, too, is left out where its forward pass cannot fit; where there is no control it is tried all the same."""
    monkeypatch.setattr(passes, "forward_seconds", lambda *_: 400.0)
    monkeypatch.setenv("BASEWISE_HOME", str(tmp_path / "home"))  # no features are stored there
    given: dict[str, Any] = {"bases": (str(world.base),)}
    decision = plain_choose(table, tmp_path / "run", **given, methods=("majority", "words", "prototype"))
    assert {line["name"] for line in decision.leaderboard} == {"majority", "words"}
    assert decision.notes[0] == "No base was tried, so whether one would help is open."
    assert "tiny-bert was left out: its forward pass does not fit into the time left." in decision.notes
    alone = plain_choose(table, tmp_path / "alone", **given, methods=("prototype",))
    assert alone.chosen == "tiny-bert + prototype"


def test_stored_features_are_not_paid_again(world: World, table: Path, tmp_path: Path) -> None:
    """On a machine too slow for a forward pass over the train rows, a second run reads what the first one stored."""
    given: dict[str, Any] = {"bases": (str(world.base),), "methods": ("majority", "prototype")}
    first = plain_choose(table, tmp_path / "first", **given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "forward_seconds", lambda *_: 400.0)
        second = plain_choose(table, tmp_path / "second", **given)
    assert second.chosen == first.chosen == "tiny-bert + prototype"


def test_a_control_that_did_not_fit_is_not_fitted_for_the_look(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race.Race, "fits", lambda _race, entry, _folds: entry.arm.method != "words")
    decision = plain_choose(table, tmp_path / "run")
    assert {line["name"]: line["status"] for line in decision.leaderboard}["words"] == "skipped"
    assert [line["name"] for line in decision.test["scores"]] == ["majority"]


def test_nothing_is_said_of_bases_that_were_not_tried(table: Path, tmp_path: Path) -> None:
    decision = plain_choose(table, tmp_path / "run")
    assert decision.sentence.startswith("Take words: right on")
    assert decision.notes[0] == "No base was tried, so whether one would help is open."
    assert not any("every base tried" in note for note in decision.notes)


def test_rows_in_fewer_groups_than_folds_are_enough(tmp_path: Path) -> None:
    """Three customers in train: three folds, not an error about folds."""
    table = tiny.write_csv(
        tmp_path / "t.csv", [row | {"customer": f"c{i % 4}"} for i, row in enumerate(tiny.rows(60))]
    )
    options = ChooseOptions(curves=False, group="customer", inputs="text")
    decision = plain_choose(table, tmp_path / "run", options=options)
    line = next(line for line in decision.leaderboard if line["name"] == "words")
    assert line["seeds"] == 3


def test_rows_of_one_group_are_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    rows = [row | {"customer": f"c{i % 2}"} for i, row in enumerate(tiny.rows(60))]
    table = tiny.write_csv(tmp_path / "t.csv", rows)
    with pytest.raises(InputError, match="one group"):
        plain_choose(table, tmp_path / "run", options=ChooseOptions(group="customer", inputs="text"))
    assert not (tmp_path / "run").exists()


def test_an_arm_that_breaks_down_is_told_and_tried_again(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that is not the user's: the others go on, and the journal does not keep it."""
    from basewise.core.registry import part

    words = part("methods", "words")
    fit = words.fit

    def broken(*_: Any) -> Any:
        raise TypeError("an unexpected shape")

    monkeypatch.setattr(words, "fit", broken)
    first = plain_choose(table, tmp_path / "run")
    line = next(e for e in first.leaderboard if e["name"] == "words")
    assert (line["status"], line["why"]) == ("failed", "TypeError: an unexpected shape")
    monkeypatch.setattr(words, "fit", fit)
    options = ChooseOptions(curves=False, again=True)
    second = plain_choose(table, tmp_path / "run", options=options)
    assert next(e for e in second.leaderboard if e["name"] == "words")["status"] == "finished"

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(words, "fit", full)
    with pytest.raises(OSError, match="No space"):
        plain_choose(table, tmp_path / "other")


def test_labels_are_doubted_by_the_best_arm_that_knows_rows() -> None:
    from types import SimpleNamespace

    from basewise.core.evidence import Trial
    from basewise.steps.verdict import speaks_of_rows

    def trial(method: str, right: float) -> Trial:
        one, none = np.arange(10), np.zeros(10, int)
        p = np.eye(2)[(np.arange(10) >= 10 * right).astype(int)]
        return Trial(
            method=method,
            base=None,
            row_ids=one,
            labels=none,
            probabilities=p,
            fold=none,
            seed=none,
            n_train=10,
        )

    majority, words, nearest = trial("majority", 0.9), trial("words", 0.5), trial("nearest", 0.6)
    of = lambda chosen, *finalists: SimpleNamespace(chosen=chosen, finalists=list(finalists))  # noqa: E731
    assert speaks_of_rows(of(words, nearest, words), [nearest, words]) is words  # type: ignore[arg-type]
    assert speaks_of_rows(of(majority, majority, nearest), [words]) is nearest  # type: ignore[arg-type]
    assert speaks_of_rows(of(majority, majority), [majority, words, nearest]) is nearest  # type: ignore[arg-type]
    assert speaks_of_rows(of(majority, majority), [majority]) is None  # type: ignore[arg-type]

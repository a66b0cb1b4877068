"""Tables that are in memory already: frames, Arrow tables, columns and rows of any kind, through the whole of the Python interface."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import basewise as bw
import tiny
from basewise.core.errors import BudgetError, InputError, UnknownName
from basewise.core.method import Wording
from basewise.steps.choose import ChooseOptions

KINDS: dict[str, Callable[[list[dict[str, str]]], Any]] = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "arrow": pa.Table.from_pylist,
    "rows": list,
    "columns": lambda rows: {name: [row[name] for row in rows] for name in rows[0]},
}
ROWS = tiny.rows(60)
NEW = tiny.rows(12, seed=1)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.quick(monkeypatch)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two methods without a base."""
    folder = tmp_path_factory.mktemp("in-memory") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BASEWISE_HOME", str(folder.parent / "home"))
        tiny.quick(patch)
        bw.adapt(ROWS, method="words", base=None, target="queue", to=folder)
    return folder


@pytest.mark.parametrize("kind", list(KINDS))
def test_choose_and_adapt_read_it(kind: str, tmp_path: Path) -> None:
    table = KINDS[kind](ROWS)
    options = ChooseOptions(curves=False)
    chosen = bw.choose(
        table, target="queue", bases=(), methods=("majority",), to=tmp_path / "chosen", options=options
    )
    assert chosen.provenance["rows"] == 60
    adapted = bw.adapt(table, method="majority", base=None, target="queue", to=tmp_path / "adapted")
    assert adapted.provenance["rows_digest"] == chosen.provenance["rows_digest"]
    named = ChooseOptions(curves=False, wording=Wording(words=tuple((name, name) for name in tiny.TOPICS)))
    worded = bw.adapt(
        table, method="majority", base=None, target="queue", to=tmp_path / "worded", options=named
    )
    assert worded.provenance["rows"] == 60


@pytest.mark.parametrize("names", [("True", "False"), ("1.0", "2.0"), ("01", "02")])
def test_a_frame_of_the_same_file_has_the_same_labels(names: tuple[str, str], tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": names[i % 2]} for i, row in enumerate(ROWS)]
    file = tiny.write_csv(tmp_path / "rows.csv", rows)
    bw.adapt(file, method="majority", base=None, target="label", to=tmp_path / "run")
    scores = [
        bw.evaluate(tmp_path / "run", table)["score"]
        for table in (file, pd.read_csv(file), pl.read_csv(file))
    ]
    assert scores[0]["n"] == 60 and scores[0] == scores[1] == scores[2]


@pytest.mark.parametrize("kind", list(KINDS))
def test_evaluate_and_predict_read_it(kind: str, run: Path) -> None:
    table, predictor = KINDS[kind](NEW), bw.load(run)
    texts = [row["text"] for row in NEW]
    assert bw.evaluate(run, table)["n"] == len(NEW)
    labels = predictor.predict(texts)
    assert [a["label"] for a in bw.predict(run, table)] == predictor.predict(table) == labels
    np.testing.assert_array_equal(predictor.predict_proba(table), predictor.predict_proba(texts))


@pytest.mark.parametrize(
    "of",
    [iter, tuple, np.array, pd.Series, pl.Series, pa.array, lambda texts: (t for t in texts), lambda texts: {"text": np.array(texts)}],
    ids=["iterator", "tuple", "array", "pandas column", "polars column", "arrow column", "generator", "array in a column"],
)  # fmt: skip
def test_texts_of_any_kind_are_rows(of: Callable[[list[str]], Any], run: Path) -> None:
    texts, predictor = [row["text"] for row in NEW], bw.load(run)
    assert predictor.predict(of(texts)) == [a["label"] for a in bw.predict(run, of(texts))]
    assert len(predictor.predict(of(texts))) == len(NEW)


@pytest.mark.parametrize(
    "none", [[], (), pd.DataFrame({"text": []}), {"text": []}], ids=["list", "tuple", "frame", "columns"]
)
def test_no_rows_have_no_answers(none: Any, run: Path) -> None:
    predictor = bw.load(run)
    assert predictor.predict(none) == list(bw.predict(run, none)) == []
    assert predictor.predict_proba(none).shape == (0, 3)


def test_what_is_no_list_of_rows_is_refused(run: Path) -> None:
    predictor = bw.load(run)
    one = {"text": "where is my parcel"}
    for asked in (predictor.predict, predictor.predict_proba, lambda rows: list(bw.predict(run, rows))):
        with pytest.raises(InputError, match="put the dict into a list"):
            asked(one)
        with pytest.raises(InputError, match="int came, rows were expected"):
            asked(5)
        with pytest.raises(InputError, match="rows of int came"):
            asked([5])
        with pytest.raises(UnknownName, match="'text'"):
            asked(pd.DataFrame({"body": ["where is my parcel"]}))
    for one_text in ("where is my parcel", b"where", Path("rows.csv")):
        with pytest.raises(InputError, match="put it into a list"):
            predictor.predict(one_text)


def test_columns_may_be_numbered_and_splits_written_as_on_the_command_line() -> None:
    rows = [(row["text"], row["queue"], f"c{i % 25}") for i, row in enumerate(ROWS)]
    numbered = bw.audit(pd.DataFrame(rows), inputs=0, target=1, group=2)
    assert (numbered.inputs, numbered.target, numbered.split_said) == (("0",), "1", "group by 2")
    named = bw.audit(pd.DataFrame(rows, columns=["text", "queue", "who"]), target="queue", split="group:who")
    assert named.split.tolist() == numbered.split.tolist()
    with pytest.raises(InputError, match="'queue' is given two roles"):
        bw.audit(ROWS, target="queue", split="queue")
    with pytest.raises(InputError, match="a list came as the name of a column"):
        bw.audit(ROWS, target="queue", group=["channel"])  # type: ignore[arg-type]


def test_one_name_is_a_name_and_a_decision_a_run(tmp_path: Path) -> None:
    options = ChooseOptions(curves=False)
    decision = bw.choose(
        ROWS, target="queue", bases=(), methods="words", to=tmp_path / "run", options=options
    )
    assert bw.load(decision).predict(NEW) == [answer["label"] for answer in bw.predict(decision, NEW)]
    scored = bw.evaluate(decision, NEW, against=decision)
    assert scored["run"] == scored["against"]["run"] == str(tmp_path / "run")
    with pytest.raises(InputError, match="a Predictor came where a run was expected"):
        bw.evaluate(bw.load(decision), NEW)  # type: ignore[arg-type]
    with pytest.raises(BudgetError, match="above zero, 'nan' came"):
        bw.choose(ROWS, target="queue", budget=float("nan"))


def test_the_sample_has_its_name_everywhere() -> None:
    assert len(bw.audit("sample").rows) == 1000

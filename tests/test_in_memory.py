"""Tables that are in memory already: frames, Arrow tables, columns and rows of any kind, through the whole of the Python interface."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import basewise as bw
import tiny
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


@pytest.mark.parametrize("kind", list(KINDS))
def test_evaluate_and_predict_read_it(kind: str, run: Path) -> None:
    table = KINDS[kind](NEW)
    assert bw.evaluate(run, table)["n"] == len(NEW)
    assert [a["label"] for a in bw.predict(run, table)] == bw.load(run).predict([r["text"] for r in NEW])

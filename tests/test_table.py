"""Tables: every source gives the same rows, every bad file one clear line."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basewise.core.cells import cell, cells
from basewise.core.errors import InputError, TableError, UnknownName
from basewise.core.table import Table, iter_batches, read_table

ROWS = [
    {"id": "001", "text": 'He said "no"; then\nleft, angry', "label": "a"},
    {"id": "002", "text": "Grüße aus Köln – 5 €", "label": "b"},
    {"id": "003", "text": "", "label": "a"},
]


def rows_of(table: Table) -> list[dict[str, str | None]]:
    columns = {name: table.column(name) for name in table.columns}
    return [{name: columns[name][i] for name in columns} for i in range(len(table))]


def csv_text(rows: list[dict[str, str]] = ROWS, delimiter: str = ",") -> str:
    import csv

    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def files(folder: Path) -> dict[str, Path]:
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n"
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, folder / "t.parquet")
    import pyarrow.feather as feather

    feather.write_feather(table, str(folder / "t.feather"))
    written = {
        "csv": write(folder, "t.csv", csv_text()),
        "bom": write(folder, "bom.csv", csv_text().encode("utf-8-sig")),
        "utf-16": write(folder, "u16.csv", csv_text().encode("utf-16")),
        "utf-16 without a mark": write(folder, "u16le.csv", csv_text().encode("utf-16-le")),
        "cp1252": write(folder, "cp.csv", csv_text().encode("cp1252")),
        "tsv": write(folder, "t.tsv", csv_text(delimiter="\t")),
        "semicolon": write(folder, "semi.csv", csv_text(delimiter=";")),
        "gzip": write(folder, "t.csv.gz", gzip.compress(csv_text().encode())),
        "jsonl": write(folder, "t.jsonl", lines),
        "jsonl named json": write(folder, "l.json", lines),
        "json": write(folder, "t.json", json.dumps(ROWS, indent=1)),
        "json in an object": write(folder, "o.json", json.dumps({"data": ROWS})),
        "windows lines": write(
            folder, "crlf.csv", csv_text().replace('"no"', "no").replace("\nleft", " left")
        ),
    }
    return {**written, "parquet": folder / "t.parquet", "feather": folder / "t.feather"}


@pytest.mark.parametrize(
    "kind",
    ["csv", "bom", "utf-16", "utf-16 without a mark", "cp1252", "tsv", "semicolon", "gzip", "jsonl", "jsonl named json",
     "json", "json in an object", "parquet", "feather"],
)  # fmt: skip
def test_every_file_format_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    path = files(tmp_path)[kind]
    assert rows_of(read_table(path)) == ROWS
    streamed = [row for batch in iter_batches(path, rows=2) for row in batch.to_pylist()]
    assert streamed == ROWS


def test_a_lone_quote_in_a_tab_file_swallows_no_rows(tmp_path: Path) -> None:
    lines = [
        ("a cell", "yes"),
        ('"an open one', "no"),
        ("in between", "yes"),
        ('"and one more', "no"),
        ("end", "yes"),
    ]
    text = "text\tlabel\n" + "".join(f"{a}\t{b}\n" for a, b in lines)
    assert [tuple(row.values()) for row in rows_of(read_table(write(tmp_path, "t.tsv", text)))] == lines
    quoted = 'text\tlabel\n"two\nlines"\tyes\n"a ""word"" here"\tno\n'
    read = read_table(write(tmp_path, "q.tsv", quoted))
    assert read.column("text") == ["two\nlines", 'a "word" here']


def test_half_a_character_is_replaced_and_noted(tmp_path: Path) -> None:
    text = '{"text": "cut \\ud83d", "label": "a"}\n{"text": "whole \\ud83d\\ude00", "label": "b"}\n'
    for source in (write(tmp_path, "t.jsonl", text), [json.loads(line) for line in text.splitlines()]):
        table = read_table(source)
        assert table.column("text") == ["cut \ufffd", "whole \U0001f600"]
        assert len(table.notes) == 1 and "half a character in 1 cells" in table.notes[0]


def test_an_arrow_stream_in_a_file_is_read(tmp_path: Path) -> None:
    """What the datasets library keeps in its cache is a stream, not a file with a footer."""
    data = pa.table({"text": ["a", "b", "c"], "label": ["x", "y", "x"]})
    for name in ("t.arrow", "empty.arrow"):
        with pa.OSFile(str(tmp_path / name), "wb") as sink, pa.ipc.new_stream(sink, data.schema) as writer:
            if name == "t.arrow":
                writer.write_table(data, max_chunksize=2)
    assert read_table(tmp_path / "t.arrow").data.to_pylist() == data.to_pylist()
    with pytest.raises(TableError, match="no rows"):
        read_table(tmp_path / "empty.arrow")
    (tmp_path / "broken.arrow").write_bytes((tmp_path / "t.arrow").read_bytes()[:90])
    with pytest.raises(TableError, match="broken arrow file"):
        read_table(tmp_path / "broken.arrow")


def test_memory_sources_give_the_same_rows() -> None:
    import pandas as pd
    import polars as pl

    frame = pd.DataFrame(ROWS)
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    for source in (ROWS, frame, pl.DataFrame(ROWS), columns, pa.Table.from_pylist(ROWS), read_table(ROWS)):
        table = read_table(source)
        assert rows_of(table) == ROWS
        assert table.digest == read_table(ROWS).digest
    mixed = pd.DataFrame({"text": ["a", 3, None], "label": [1.0, float("nan"), 2.0]})
    assert rows_of(read_table(mixed)) == [
        {"text": "a", "label": "1"},
        {"text": "3", "label": None},
        {"text": None, "label": "2"},
    ]
    with pytest.raises(TableError, match="occurs twice"):
        read_table(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(InputError, match="int came"):
        read_table(3)


def test_a_datasets_object_is_known_by_what_it_can_do() -> None:
    class Label:
        names = ("no", "yes")

    class Dataset:
        features = {"text": None, "label": Label()}  # noqa: RUF012

        def with_format(self, kind: str) -> Dataset:
            assert kind == "arrow"
            return self

        def __getitem__(self, key: slice) -> pa.Table:
            return pa.table({"text": ["a", "b"], "label": [1, 0]})

    assert read_table(Dataset()).column("label") == ["yes", "no"]
    with pytest.raises(InputError, match="train, test"):
        read_table({"train": Dataset(), "test": Dataset()})


def test_class_names_in_a_parquet_schema_are_used(tmp_path: Path) -> None:
    info = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["no", "yes"]}}}}
    table = pa.table({"text": ["a", "b"], "label": [1, 0]}).replace_schema_metadata(
        {"huggingface": json.dumps(info)}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").column("label") == ["yes", "no"]


def test_standard_input_is_read_and_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (csv_text().encode(), gzip.compress(csv_text().encode())):

        class Pipe:
            buffer = io.BytesIO(content)

        monkeypatch.setattr(sys, "stdin", Pipe)
        assert rows_of(read_table("-")) == ROWS
        Pipe.buffer = io.BytesIO(content)
        assert [row for batch in iter_batches("-") for row in batch.to_pylist()] == ROWS


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("a.db", "vacuum into '{}'"),
        ("a.duckdb", "copy (select 1) to '{}'"),
        ("a.duckdb", "select * from read_text('{}/a.db')"),
    ],
)
def test_a_query_is_held_to_its_file(tmp_path: Path, name: str, query: str) -> None:
    """It writes no other file and, in DuckDB, reads none."""
    duckdb = pytest.importorskip("duckdb")
    for made in (sqlite3.connect(tmp_path / "a.db"), duckdb.connect(str(tmp_path / "a.duckdb"))):
        made.execute("create table t (x integer)")
        made.close()
    target = tmp_path if "read" in query else tmp_path / "new"
    with pytest.raises(TableError, match="the query failed"):
        read_table(tmp_path / name, query=query.format(target))
    assert not (tmp_path / "new").exists()


def test_sql_over_sqlite_and_duckdb(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    lite = sqlite3.connect(tmp_path / "a.db")
    duck = duckdb.connect(str(tmp_path / "a.duckdb"))
    for connection in (lite, duck):
        connection.execute("create table rows (text varchar, label integer)")
        connection.execute("insert into rows values ('x', 1), ('y', 2)")
        connection.commit()
        connection.close()
    for name in ("a.db", "a.duckdb"):
        # known by how it begins, whatever its ending
        shutil.copy(tmp_path / name, tmp_path / f"{name}.ddb")
        read_table(tmp_path / f"{name}.ddb", query="select text from rows")
        table = read_table(tmp_path / name, query="select text, label from rows order by label")
        assert rows_of(table) == [{"text": "x", "label": "1"}, {"text": "y", "label": "2"}]
        streamed = list(iter_batches(tmp_path / name, rows=1, query="select text from rows order by label"))
        assert [batch.to_pylist() for batch in streamed] == [[{"text": "x"}], [{"text": "y"}]]
        none = iter_batches(tmp_path / name, query="select * from rows where label > 2")
        assert next(none).num_rows == 0
        with pytest.raises(TableError, match="holds the tables rows"):
            read_table(tmp_path / name)
        with pytest.raises(TableError, match="query failed"):
            read_table(tmp_path / name, query="select nothing from rows")
        with pytest.raises(TableError):
            read_table(tmp_path / name, query="insert into rows values ('z', 3)")
    with pytest.raises(InputError, match="query needs"):
        read_table(write(tmp_path, "a.csv", "a,b\n1,2\n"), query="select 1")


def test_a_database_that_is_held_damaged_or_asked_nothing_is_one_clear_line(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    lite, duck = (sqlite3.connect(tmp_path / "a.db"), duckdb.connect(str(tmp_path / "a.duckdb")))
    for connection in (lite, duck):
        connection.execute('create table "two words" as select 1 as x')
    lite.close()
    with pytest.raises(TableError, match="cannot be read as a database"):
        read_table(tmp_path / "a.duckdb", query="select 1 as x")
    duck.close()
    for name in ("a.db", "a.duckdb"):
        with pytest.raises(TableError, match='select \\* from "two words"'):
            read_table(tmp_path / name)
        for query in ("", "-- nothing"):
            with pytest.raises(TableError, match="gives no rows"):
                read_table(tmp_path / name, query=query)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:40] + b"damaged" * 1000)
        with pytest.raises(TableError, match="cannot be read as a database"):
            read_table(tmp_path / name, query="select 1 as x")


ODD = {
    "a delimiter at each end": ("a.csv", b"text,label,\nx,1,\ny,2,\n"),
    "commas under another name": ("a.tsv", b"text,label\nx,1\ny,2\n"),
    "a delimiter that is stated": ("a.csv", b"sep=;\ntext;label\nx;1\ny;2\n"),
    "comments above": ("a.csv", b"# from a tool\n# of ours\ntext,label\nx,1\ny,2\n"),
    "utf-32": ("a.csv", "text,label\nx,1\ny,2\n".encode("utf-32")),
    "columns": ("a.json", b'{"text": ["x", "y"], "label": [1, 2]}'),
    "columns by row": ("a.json", b'{"text": {"0": "x", "1": "y"}, "label": {"0": 1, "1": 2}}'),
    "columns beside data": (
        "a.json",
        b'{"columns": ["text", "label"], "index": [0, 1], "data": [["x", 1], ["y", 2]]}',
    ),
    "rows by number": ("a.json", b'{"0": {"text": "x", "label": 1}, "1": {"text": "y", "label": 2}}'),
    "bzip2": ("a.csv.bz2", bz2.compress(b"text,label\nx,1\ny,2\n")),
    "xz": ("a.csv.xz", lzma.compress(b"text,label\nx,1\ny,2\n")),
    "zstd": ("a.csv.zst", pa.Codec("zstd").compress(b"text,label\nx,1\ny,2\n", asbytes=True)),
}


@pytest.mark.parametrize("case", list(ODD))
def test_an_odd_file_gives_the_same_rows(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, content = ODD[case]
    rows = [{"text": "x", "label": "1"}, {"text": "y", "label": "2"}]
    path = write(tmp_path, name, content)
    assert rows_of(read_table(path)) == rows
    assert [row for batch in iter_batches(path) for row in batch.to_pylist()] == rows
    if not name.endswith((".json", ".tsv")):
        monkeypatch.setattr(sys, "stdin", type("Pipe", (), {"buffer": io.BytesIO(content)}))
        assert rows_of(read_table("-")) == rows


QUOTED = {
    "marked by backslashes": ('"say \\"hi\\", you",x\n"two\n\\"lines\\", and\\\\\\n",y\n', ['say "hi", you', 'two\n"lines", and\\\\n']),
    "a backslash at an end": ('"C:\\new\\",x\n"b",y\n', ["C:\\new\\", "b"]),
    "behind blanks": (' "a, b", "x"\n "c",  "y"\n', ["a, b", "c"]),
    "behind a blank, in a cell": (' "a" or "b", x\n c, y\n', [' "a" or "b"', " c"]),
    "as they come": ('he said "hi" twice,x\n"b",y\n', ['he said "hi" twice', "b"]),
}  # fmt: skip


@pytest.mark.parametrize("case", list(QUOTED))
def test_quotes_are_read_where_that_is_safe(tmp_path: Path, case: str) -> None:
    content, texts = QUOTED[case]
    path = write(tmp_path, "a.csv", "text,label\n" + content)
    table = read_table(path)
    assert table.column("text") == texts
    assert [(label or "").strip() for label in table.column("label")] == ["x", "y"]
    assert [row["text"] for batch in iter_batches(path) for row in batch.to_pylist()] == texts
    assert bool(table.notes) == (case == "marked by backslashes")


@pytest.mark.parametrize(
    ("line", "cause"),
    [('"say \\"hi\\", you",x', "marked by a backslash"), ('a, "b, c",x', "a blank stands between"), ("a,b,x", "put quotes around"), ("a", "add what is missing"), ('"a,x\nb,y', "close the quote")],
)  # fmt: skip
def test_a_row_that_does_not_fit_is_told_with_its_cause(tmp_path: Path, line: str, cause: str) -> None:
    path = write(tmp_path, "a.csv", "text,label\n" + '"C:\\",y\n' * 10_000 + line + "\n")
    with pytest.raises(TableError, match=f"line 10002: . cells?.*{cause}"):
        read_table(path)


def test_a_number_sign_can_be_a_name(tmp_path: Path) -> None:
    assert read_table(write(tmp_path, "a.csv", "#,text\n1,x\n2,y\n")).columns == ("#", "text")


def test_a_few_broken_bytes_leave_a_text_utf_8(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"text,label\n" + "größer,a\n".encode() * 9 + b"na\xefve,b\n")
    table = read_table(path)
    assert table.column("text")[0] == "größer" and table.column("text")[9] == "na\ufffdve"
    assert any("1 bytes are not UTF-8" in note for note in table.notes)
    assert [r["text"] for b in iter_batches(path) for r in b.to_pylist()] == table.column("text")


def test_a_value_under_no_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="line 3: 3 cells where the header has 2"):
        read_table(write(tmp_path, "a.csv", "text,label,\nx,1,\ny,2,lost\n"))


def test_an_address_is_told_from_a_missing_file() -> None:
    with pytest.raises(TableError, match=r"https://example\.org/a\.csv is an address.*download"):
        read_table("https://example.org/a.csv")


def test_frames_with_ranges_periods_and_truths_are_read() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {"range": pd.cut([1, 9], [0, 5, 10]), "month": pd.period_range("2025-01", periods=2, freq="M")}
    )
    assert rows_of(read_table(frame)) == [
        {"range": "(0, 5]", "month": "2025-01"},
        {"range": "(5, 10]", "month": "2025-02"},
    ]
    half = pd.DataFrame({"text": pd.Series(["x\ud83d", "y"], dtype=object)})
    assert read_table(half).column("text") == ["x\ufffd", "y"]
    assert read_table({"label": np.array([True, False])}).column("label") == ["true", "false"]
    assert read_table(pd.DataFrame({"number": [2**70, 1]})).column("number") == [str(2**70), "1"]


def test_python_objects_in_a_polars_frame_are_read_as_themselves() -> None:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"text": pl.Series(["a", None, 3], dtype=pl.Object), "label": ["x", "y", "z"]})
    assert read_table(frame).column("text") == ["a", None, "3"]
    with pytest.raises(InputError, match="Series came"):
        read_table(frame["label"])
    with pytest.raises(InputError, match="LazyFrame came; collect it first"):
        read_table(frame.select("label").lazy())


def test_columns_in_memory_are_told_from_a_row() -> None:
    with pytest.raises(InputError, match=r"'text' is one value.*put the dict into a list"):
        read_table({"text": "a row", "label": "x"})
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(TableError, match="'text' occurs twice"):
        read_table(twice)


BAD: dict[str, tuple[str, bytes, str]] = {
    "empty": ("a.csv", b"", "is empty"),
    "only spaces": ("a.csv", b" \n\n", "is empty"),
    "header only": ("a.csv", b"text,label\n", "no rows"),
    "binary": ("a.csv", bytes(range(256)) * 20, "binary"),
    "late zero bytes": ("a.csv", b"text,label\n" + b"a,b\n" * 30000 + b"\0\0\0", "zero bytes"),
    "ragged": ("a.csv", b"text,label\na,b\nc,d,e\n", "line 3: 3 cells where the header has 2"),
    "short": ("a.csv", b'text,label\n"a\nb",c\nd\n', "line 4: 1 cell where the header has 2"),
    "twice": ("a.csv", b"text,label,text\na,b,c\n", "'text' occurs twice"),
    "nameless": ("a.csv", b"text,,label\na,b,c\n", "column 2 has no name"),
    "extension": ("a.xlsx", b"PK\x03\x04rest", r"\.xlsx are not read"),
    "broken line": ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', "line 3: broken JSON"),
    "no object": ("a.jsonl", b'{"text": "a"}\n[1]\n', "line 2: expected a JSON object, list came"),
    "broken array": ("a.json", b'[{"text": "a"},\n{"text" "b"}]', "line 2: broken JSON"),
    "array of numbers": ("a.json", b"[1, 2]", "array of objects"),
    "broken parquet": ("a.parquet", b"PAR1" + b"x" * 100, "broken parquet file"),
    "broken arrow": ("a.arrow", b"ARROW1\0\0" + b"x" * 100, "broken arrow file"),
    "no database": ("a.duckdb", b"hello", "not a SQLite or DuckDB file"),
    "broken gzip": ("a.csv.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\0xxxx", "cannot read"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_a_bad_file_is_one_clear_line(tmp_path: Path, case: str) -> None:
    name, content, message = BAD[case]
    with pytest.raises(TableError, match=message) as caught:
        read_table(write(tmp_path, name, content))
    assert "\n" not in str(caught.value)
    assert caught.value.fix


def test_missing_files_and_folders(tmp_path: Path) -> None:
    write(tmp_path, "tickets.csv", "a,b\n1,2\n")
    with pytest.raises(TableError, match=r"did you mean tickets\.csv"):
        read_table(tmp_path / "ticket.csv")
    (tmp_path / "docs").mkdir()
    with pytest.raises(TableError, match="check the path"):
        read_table(tmp_path / "dogs")
    with pytest.raises(TableError, match=r"folder, not a table.*tickets"):
        read_table(tmp_path)
    with pytest.raises(UnknownName, match="csv"):
        read_table(tmp_path / "tickets.csv", format="cvs")
    with pytest.raises(UnknownName, match="'a'"):
        read_table(tmp_path / "tickets.csv").column("aa")
    with pytest.raises(TableError, match="folder"):
        next(iter_batches(tmp_path))


def test_ten_megabytes_in_one_cell_are_read_and_noted(tmp_path: Path) -> None:
    path = write(tmp_path, "big.csv", f"text,label\n{'x ' * 5_000_000},a\nb,c\n")
    table = read_table(path)
    assert len(table.column("text")[0] or "") == 10_000_000
    assert any("10.0 million characters" in note for note in table.notes)


@pytest.mark.parametrize("name", ["deep.jsonl", "deep.json"])
def test_json_that_is_nested_too_deeply_is_one_clear_line(tmp_path: Path, name: str) -> None:
    deep = "[" * 100_000
    start = '{"text": "fine", "label": "a"}\n' if name.endswith("l") else '[{"text": '
    (tmp_path / name).write_text(f'{start}{{"text": {deep}', encoding="utf-8")
    with pytest.raises(TableError, match="nested too deeply"):
        read_table(tmp_path / name)


def test_a_json_line_without_end_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from basewise.core import rowfiles

    path = write(tmp_path, "big.jsonl", '{"text": "' + "x " * 5_000_000 + '", "label": "a"}\n{"text": "b"}\n')
    assert any("10.0 million characters" in note for note in read_table(path).notes)
    monkeypatch.setattr(rowfiles, "MOST_LINE", 1_000_000)
    with pytest.raises(TableError, match=r"big\.jsonl, line 1: it is longer than 1 million characters"):
        read_table(path)

    class Endless(io.RawIOBase):
        taken = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            if not self.taken:
                buffer[:20] = b'{"text": "a"}\n{"text'
                self.taken = 20
                return 20
            self.taken += len(buffer)
            assert self.taken < 20_000_000, "it reads on and on"
            buffer[:] = b"x" * len(buffer)
            return len(buffer)

    stream = Endless()
    rows = rowfiles.json_rows(rowfiles.ByteSource.of_stream(stream), "utf-8", 10)  # type: ignore[arg-type]
    with pytest.raises(TableError, match="line 2: it is longer"):
        list(rows)


def test_a_quote_that_is_not_closed_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, "q.csv", 'text,label\n"a,b\n' + "c,d\n" * 2000 + 'x",y\n')
    assert any("quote not closed" in note for note in read_table(path).notes)


def test_small_deviations_are_forgiven(tmp_path: Path) -> None:
    assert rows_of(read_table(write(tmp_path, "a.csv", "text,label\na,b,\n\nc,d\n"))) == [
        {"text": "a", "label": "b"},
        {"text": "c", "label": "d"},
    ]
    quotes = 'text\tlabel\nhe is 5"6\ta\n"hm, he said\tb\nno more\ta\n'
    assert read_table(write(tmp_path, "a.tsv", quotes)).column("text") == [
        'he is 5"6',
        '"hm, he said',
        "no more",
    ]
    assert read_table(write(tmp_path, "one.csv", "text\na b\nc d\n")).column("text") == ["a b", "c d"]
    assert read_table(write(tmp_path, "index.csv", ",text\n0,a\n")).columns == ("index", "text")
    assert read_table(write(tmp_path, "noend", "text,label\na,b")).column("label") == ["b"]
    latin = write(tmp_path, "latin.csv", b"text,label\n" + bytes([0x81, 0xE9]) + b",a\n")
    assert any("Latin-1" in note for note in read_table(latin).notes)


def test_json_rows_may_lack_keys(tmp_path: Path) -> None:
    path = write(
        tmp_path, "k.jsonl", '{"text": "a"}\n{"text": "b", "n": 2, "deep": {"x": [1]}}\n{"text": null}\n'
    )
    assert rows_of(read_table(path)) == [
        {"text": "a", "n": None, "deep": None},
        {"text": "b", "n": "2", "deep": '{"x": [1]}'},
        {"text": None, "n": None, "deep": None},
    ]


def test_cells_are_what_a_csv_file_would_hold() -> None:
    values: list[Any] = [None, float("nan"), True, 3.0, 3.5, "x", b"y", np.int64(4)]
    assert [cell(v) for v in values] == [None, None, "true", "3", "3.5", "x", "y", "4"]
    assert cells(pa.array(["a", None, "a"]).dictionary_encode()) == ["a", None, "a"]


texts = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff"), max_size=20
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(texts, st.sampled_from("abc")), min_size=1, max_size=8))
def test_any_text_survives_csv_and_json_lines(rows: list[tuple[str, str]]) -> None:
    import tempfile

    table = [{"text": text, "label": label} for text, label in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), "t.csv", csv_text(table))
        assert rows_of(read_table(path)) == table
        lines = write(Path(folder), "t.jsonl", "\n".join(json.dumps(row) for row in table))
        assert rows_of(read_table(lines)) == table

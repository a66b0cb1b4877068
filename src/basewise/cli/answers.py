"""Answers of `predict` as CSV, JSON lines or Parquet, written as they come: any number of rows in flat memory."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from basewise.core.errors import InputError, UnknownName
from basewise.core.files import Progress, atomic_path, check_apart, silent

FORMATS = ("csv", "jsonl", "parquet")
ENDINGS = {
    "csv": "csv",
    "txt": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "pq": "parquet",
}
BLOCK_ROWS = 4_096


def format_of(form: str | None, to: Path | None) -> str:
    """The format asked for, else the one of the file's ending; CSV for a terminal or a pipe, which takes no Parquet.

    Raises InputError for an ending of another format: CSV under the name of a workbook opens nowhere.
    """
    if form is not None and form not in FORMATS:
        raise UnknownName.of("format", form, FORMATS)
    ending = to.suffix.lower().lstrip(".") if to else ""
    if form is None and ending and ending not in ENDINGS:
        raise InputError(
            f"{to} ends in .{ending}, answers are written as {', '.join(FORMATS)}",
            "give such an ending, or name the format with --format",
        )
    form = form or ENDINGS.get(ending, "csv")
    if form == "parquet" and to is None:
        raise InputError("Parquet cannot be written to standard output", "name a file with --to")
    return form


def write_answers(
    predictor: Any,
    rows: str,
    to: Path | None,
    form: str,
    query: str | None = None,
    progress: Progress = silent,
) -> None:
    """Answer `rows` (a path or "-", of a database those of a query) into `to`, whole or not at all, or to standard output as they come."""
    from basewise.steps.predict import predict

    if to is not None:
        check_apart(rows, to)
    answers = predict(predictor, rows, progress, query)
    # The first answer before anything is written: rows that cannot be read leave no header behind and no blame on `to`.
    head = list(itertools.islice(answers, 1))
    answers = itertools.chain(head, answers)
    if to is None:
        _write_text(answers, predictor.classes, sys.stdout, form)
        return
    with atomic_path(to) as temporary:
        if form == "parquet":
            _write_parquet(answers, predictor.classes, temporary)
            return
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            _write_text(answers, predictor.classes, file, form)


def _write_text(answers: Iterator[dict[str, Any]], classes: tuple[str, ...], file: Any, form: str) -> None:
    writer = csv.writer(file)
    if form == "csv":
        writer.writerow(["row", "label", "probability", "abstained", *(f"p_{c}" for c in classes)])
    for answer in answers:
        values = [round(float(p), 6) for p in answer["probabilities"]]
        if form == "csv":
            writer.writerow(
                [answer["row"], answer["label"], f"{answer['probability']:.6f}", answer["abstained"], *values]
            )
        else:
            probabilities = dict(zip(classes, values, strict=True))
            file.write(json.dumps({**answer, "probabilities": probabilities}, ensure_ascii=False) + "\n")


def _write_parquet(answers: Iterator[dict[str, Any]], classes: tuple[str, ...], path: Path) -> None:
    """Columns as in CSV: row, label, probability, abstained, and p_<class> for every class."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f"p_{c}" for c in classes]
    fields = [
        ("row", pa.int64()),
        ("label", pa.string()),
        ("probability", pa.float64()),
        ("abstained", pa.bool_()),
    ]
    schema = pa.schema([*fields, *((name, pa.float64()) for name in names)])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while block := list(itertools.islice(answers, BLOCK_ROWS)):
            columns = [pa.array([answer[name] for answer in block], kind) for name, kind in fields]
            columns += [pa.array([float(a["probabilities"][i]) for a in block]) for i in range(len(names))]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))

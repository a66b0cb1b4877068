"""Streams of the `datasets` library: datasets:OWNER/NAME@SPLIT or datasets:parquet=FILES@SPLIT, never stored whole."""

from __future__ import annotations

from collections.abc import Iterator

from basewise.core.documents import STREAM, Columns, Document, text_of
from basewise.core.errors import MissingExtra, TableError


def takes(place: str) -> bool:
    """Places that begin with datasets: ."""
    return place.startswith(STREAM)


def read(place: str, columns: Columns) -> Iterator[Document]:
    """Documents of a stream. No code of a data set is run. MissingExtra where `datasets` is not installed."""
    try:
        import datasets
    except ImportError:
        raise MissingExtra.of("datasets", "corpus") from None
    name, _, split = place.removeprefix(STREAM).partition("@")
    builder, _, files = name.partition("=")
    given = {"data_files": files} if files else {}
    try:
        rows = datasets.load_dataset(builder, split=split or "train", streaming=True, **given)
        for number, row in enumerate(rows, 1):
            if columns.text not in row:
                raise TableError(
                    f"{place} has no column {columns.text!r}; found: {', '.join(row)}",
                    'name it in the recipe with text = "…"',
                )
            licence, origin = columns.resolve(list(row))
            if row[columns.text] is not None:
                text = text_of(row[columns.text], f"row {number} of {place}")
                yield Document(text, str(row.get(licence) or ""), str(row.get(origin) or ""))
    except (OSError, ValueError, RuntimeError) as error:
        raise TableError(
            f"cannot read {place}: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "check its name and the network, or give files",
        ) from error

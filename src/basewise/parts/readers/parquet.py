"""Parquet files, a few hundred rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

from basewise.core.documents import Columns, Document, ends_in, text_of
from basewise.core.errors import TableError

AT_ONCE = 256


def takes(place: str) -> bool:
    """Files that end in .parquet."""
    return ends_in(place, (".parquet", ".pq"), packed=False)


def read(place: str, columns: Columns) -> Iterator[Document]:
    """Documents of the text column; rows without a text are left out. TableError for a file that cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(place) as file:
            names = file.schema_arrow.names
            if columns.text not in names:
                raise TableError(
                    f"{place} has no column {columns.text!r}; found: {', '.join(names)}",
                    'name it in the recipe with text = "…"',
                )
            licence, origin = columns.resolve(names)
            wanted = [columns.text, *filter(None, (licence, origin))]
            before = 0
            for batch in file.iter_batches(AT_ONCE, columns=list(dict.fromkeys(wanted))):
                empty = [""] * batch.num_rows
                texts, licences, origins = (
                    batch[name].to_pylist() if name else empty for name in (columns.text, licence, origin)
                )
                rows = enumerate(zip(texts, licences, origins, strict=True), before + 1)
                for number, (text, terms, where) in rows:
                    if text is not None:
                        told = text_of(text, f"row {number} of {place}")
                        yield Document(told, str(terms or ""), str(where or ""))
                before += batch.num_rows
    except (OSError, pa.ArrowException, KeyError) as error:
        raise TableError(
            f"cannot read {place}: {str(error).splitlines()[0]}", "fetch the file again, or take it out"
        ) from error


def size(place: str, text: str) -> int:
    """Bytes of the text column before compression, by the file's own account; 0 when it gives none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        groups = pq.read_metadata(place)
        columns = [
            groups.row_group(g).column(c)
            for g in range(groups.num_row_groups)
            for c in range(groups.num_columns)
        ]
    except (OSError, pa.ArrowException):
        # reading it will say what is wrong
        return 0
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema == text)

"""Tables from everywhere: files, standard input, frames, datasets, lists of dicts and SQL, as one frozen value.

Text formats keep every cell as a string (a label "007" stays "007"); typed sources keep their types and `cells` turns a
column into strings. `iter_batches` reads the same sources as a stream, so memory stays flat at any length.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from basewise.core.bytesource import ENDINGS, ByteSource
from basewise.core.cells import cell, cells, strings, whole
from basewise.core.database import query_database
from basewise.core.errors import InputError, TableError, UnknownName
from basewise.core.hashing import sha256_file
from basewise.core.objects import in_memory
from basewise.core.rowfiles import (
    check_header,
    delimited_rows,
    encoding_of,
    json_array,
    json_rows,
)

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "arrow", "sqlite", "duckdb")
EXTENSIONS = {
    "csv": "csv", "txt": "csv", "tsv": "tsv", "tab": "tsv", "jsonl": "jsonl", "ndjson": "jsonl", "json": "json",
    "parquet": "parquet", "pq": "parquet", "arrow": "arrow", "feather": "arrow", "ipc": "arrow",
    "db": "sqlite", "sqlite": "sqlite", "sqlite3": "sqlite", "duckdb": "duckdb",
}  # fmt: skip
DATABASES = ("sqlite", "duckdb")
MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow", b"SQLite format 3": "sqlite"}
BLOCK_ROWS = 65536
HUGE_CELL_BYTES = 1_000_000


@dataclass(frozen=True)
class Table:
    """Rows as they came. `digest`: sha256 of the file's bytes, or of the content where there is no file."""

    data: pa.Table
    source: str
    digest: str
    notes: tuple[str, ...] = ()
    names_of_codes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Class names of integer columns, where the source states them (`datasets` ClassLabel)."""

    def __len__(self) -> int:
        return int(self.data.num_rows)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.data.column_names)

    def column(self, name: str) -> list[str | None]:
        """One column as strings, None for missing; an unknown name raises UnknownName with the nearest."""
        if name not in self.columns:
            raise UnknownName.of("column", name, self.columns)
        values = cells(self.data.column(name))
        if codes := self.names_of_codes.get(name):
            return [codes[int(v)] if v is not None and 0 <= int(v) < len(codes) else None for v in values]
        return values

    def records(self) -> list[dict[str, str | None]]:
        """Rows as `column` reads them, so class names instead of their codes; nested columns (embeddings, images) are left out."""
        import pyarrow as pa

        names = [f.name for f in self.data.schema if not pa.types.is_nested(f.type)]
        rows = zip(*(self.column(name) for name in names), strict=True)
        return [dict(zip(names, row, strict=True)) for row in rows]


def read_table(source: Any, *, query: str | None = None, format: str | None = None) -> Table:
    """The whole table from a path, "-" (standard input), frame, dataset, rows or columns; `query` for databases.

    Raises TableError (shape, encoding, broken file), InputError (a kind of source nobody reads), MissingExtra (duckdb).
    """
    import pyarrow as pa

    if isinstance(source, Table):
        return source
    if not isinstance(source, (str, Path)):
        return _checked(_from_object(source))
    notes: list[str] = []
    bytes_from, kind = _locate(source, format, query)
    if kind in DATABASES and bytes_from.path:
        data = pa.Table.from_batches(list(query_database(bytes_from.path, kind, query, BLOCK_ROWS)))
        digest = _content_digest(data)
    else:
        # a pipe: keep its bytes, since decoding may need two looks
        if bytes_from.once:
            bytes_from = ByteSource.of_bytes(bytes_from.name, bytes_from.open().read())
        batches = list(_batches(bytes_from, kind, BLOCK_ROWS, notes))
        data = (
            pa.Table.from_batches(batches) if kind in ("csv", "tsv", "parquet", "arrow") else _union(batches)
        )
        file = bytes_from.path
        digest = sha256_file(file) if file else hashlib.sha256(bytes_from.content).hexdigest()
    return _checked(Table(data, bytes_from.name, digest, tuple(notes), _stated_names(data)))


def iter_batches(
    source: Any, rows: int = 4096, *, query: str | None = None, format: str | None = None
) -> Iterator[pa.RecordBatch]:
    """Arrow record batches of at most `rows` rows; memory does not grow with the source's length.

    CSV, TSV, JSON lines, Parquet and Arrow files, gzip, "-" and queries stream; frames and rows in memory are cut into pieces.
    """
    if isinstance(source, (str, Path)):
        bytes_from, kind = _locate(source, format, query)
        if kind in DATABASES and bytes_from.path:
            yield from query_database(bytes_from.path, kind, query, rows)
            return
        yield from _batches(bytes_from, kind, rows, [])
    else:
        yield from read_table(source).data.to_batches(max_chunksize=rows)


def iter_records(
    source: Any, rows: int = 4096, query: str | None = None
) -> Iterator[list[dict[str, str | None]]]:
    """Lists of at most `rows` rows as `Table.records` has them, from the sources of `iter_batches` and in as flat a memory."""
    import pyarrow as pa

    if isinstance(source, (str, Path)):
        for batch in iter_batches(source, rows, query=query):
            data = pa.Table.from_batches([batch])
            yield Table(data, str(source), "", (), _stated_names(data)).records()
        return
    table = read_table(source)
    for start in range(0, len(table), rows):
        yield replace(table, data=table.data.slice(start, rows)).records()


def _locate(source: str | Path, format: str | None, query: str | None) -> tuple[ByteSource, str]:
    """The bytes and the format of a path or of standard input; each way of not being readable has its own line."""
    if format is not None and format not in FORMATS:
        raise UnknownName.of("table format", format, FORMATS)
    if str(source) == "-":
        bytes_from = ByteSource.of_stream(sys.stdin.buffer)
        return bytes_from, format or _by_content(bytes_from) or "csv"
    path = Path(source).expanduser()
    _check_file(path, str(source))
    bytes_from = ByteSource.of_path(path)
    kind = format or _format_of(path, bytes_from)
    if kind in DATABASES and _by_content(bytes_from) not in DATABASES:
        raise TableError(f"{path.name} is not a SQLite or DuckDB file", "check the file")
    if query is not None and kind not in DATABASES:
        raise InputError(
            f"a query needs a SQLite or DuckDB file, {path.name} is {kind}", "leave the query out"
        )
    return bytes_from, kind


def _check_file(path: Path, said: str) -> None:
    """TableError for what is no file with something in it: a folder, an address, a missing file, an empty one."""
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if _extension(p) in EXTENSIONS)[:4]
        hint = f"name a file in it, such as {', '.join(inside)}" if inside else "give a table file"
        raise TableError(f"{path} is a folder, not a table", hint)
    if not path.exists() and "://" in said:
        raise TableError(f"{said} is an address, not a file", "download it first, and name the file")
    if not path.exists():
        beside = sorted(p.name for p in path.parent.iterdir() if p.is_file()) if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, beside, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "check the path"
        raise TableError(f"there is no file {path}", hint)
    if path.stat().st_size == 0:
        raise TableError(f"{path.name} is empty", "give a table with a header line and rows")


def _format_of(path: Path, bytes_from: ByteSource) -> str:
    """The format by the first bytes where they leave no doubt, else by the file's ending; TableError for one that is not read."""
    by_content, extension = _by_content(bytes_from), _extension(path)
    if by_content in (*MAGIC.values(), "duckdb"):
        return by_content
    if not extension:
        return by_content or "csv"
    if extension not in EXTENSIONS:
        raise TableError(
            f"{path.name}: tables with the ending .{extension} are not read",
            f"save it as CSV, or name one of {', '.join(FORMATS)} as its format",
        )
    if extension == "json" and by_content == "jsonl" and b"\n" in bytes_from.head.strip():
        return "jsonl"
    return EXTENSIONS[extension]


def _extension(path: Path) -> str:
    name = path.name.lower()
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return name.rsplit(".", 1)[1] if "." in name else ""


def _by_content(source: ByteSource) -> str | None:
    for magic, kind in MAGIC.items():
        if source.head.startswith(magic):
            return kind
    if source.head[8:12] == b"DUCK":
        return "duckdb"
    start = source.head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] == b"[":
        return "json"
    if start[:1] == b"{":
        first = start.split(b"\n", 1)[0].strip()
        try:
            return "jsonl" if isinstance(json.loads(first), dict) else None
        except ValueError:
            return "json" if first == b"{" else "jsonl"
    return None


def _batches(source: ByteSource, kind: str, rows: int, notes: list[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    if kind in ("parquet", "arrow"):
        yield from _binary_batches(source, kind, rows)
        return
    if kind not in ("csv", "tsv", "jsonl", "json"):
        raise InputError(
            f"{kind} files are not read as a stream", "export the query's rows to CSV or Parquet first"
        )
    codec, note = encoding_of(source)
    notes += [note] if note else []
    if kind in ("csv", "tsv"):
        for header, block in delimited_rows(source, codec, "\t" if kind == "tsv" else None, notes, rows):
            columns = list(zip(*block, strict=True)) or [()] * len(header)
            _note_huge(header, columns, notes)
            yield pa.RecordBatch.from_arrays([pa.array(c, pa.string()) for c in columns], names=header)
        return
    for objects in (
        json_rows(source, codec, rows) if kind == "jsonl" else _sliced(json_array(source, codec), rows)
    ):
        names = list(dict.fromkeys(name for row in objects for name in row))
        columns = [tuple(cell(row.get(name)) for row in objects) for name in names]
        _note_huge(names, columns, notes)
        arrays = [strings(c, name, notes) for c, name in zip(columns, names, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, names=[whole(name) for name in names])


def _sliced(rows: list[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _note_huge(names: list[str], columns: Sequence[tuple[str | None, ...]], notes: list[str]) -> None:
    for name, column in zip(names, columns, strict=True):
        longest = max((len(v) for v in column if v), default=0)
        if longest > HUGE_CELL_BYTES:
            notes.append(
                f"a cell in column {name!r} holds {longest / 1e6:.1f} million characters: is a quote not closed?"
            )


def _union(batches: list[pa.RecordBatch]) -> pa.Table:
    """Blocks of JSON rows whose keys may differ."""
    import pyarrow as pa

    if not batches:
        return pa.table({})
    return pa.concat_tables([pa.Table.from_batches([b]) for b in batches], promote_options="default")


def _binary_batches(source: ByteSource, kind: str, rows: int) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.parquet

    with source.open() as stream:
        file: Any = stream if stream.seekable() else io.BytesIO(stream.read())
        try:
            if kind == "parquet":
                reader = pyarrow.parquet.ParquetFile(file)
                schema = reader.schema_arrow
                yield from (_with_schema(b, schema) for b in reader.iter_batches(batch_size=rows))
                if reader.metadata.num_rows == 0:
                    yield pa.RecordBatch.from_pylist([], schema=schema)
                return
            yield from _arrow_batches(file, rows)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0][:160]
            raise TableError(f"{source.name} is a broken {kind} file: {reason}", "write it again") from error


def _arrow_batches(file: Any, rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of an Arrow file, or of a stream in a file, as `datasets` keeps its tables; an empty one where there are no rows."""
    import pyarrow as pa
    import pyarrow.ipc

    magic = file.read(6)
    file.seek(0)
    opened = pyarrow.ipc.open_file(file) if magic == b"ARROW1" else pyarrow.ipc.open_stream(file)
    none = True
    for batch in map(opened.get_batch, range(opened.num_record_batches)) if magic == b"ARROW1" else opened:
        for start in range(0, batch.num_rows, rows):
            none = False
            yield batch.slice(start, rows)
    if none:
        yield pa.RecordBatch.from_pylist([], schema=opened.schema)


def _with_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return batch.replace_schema_metadata(schema.metadata) if schema.metadata else batch


def _stated_names(data: pa.Table) -> dict[str, tuple[str, ...]]:
    """Class names from the `huggingface` entry that the datasets library writes into a file's schema."""
    try:
        features = json.loads((data.schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {k: tuple(v["names"]) for k, v in features.items() if v.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, ValueError, AttributeError):
        # no such entry, or one that is not about classes
        return {}


def _from_object(source: Any) -> Table:
    data, where, notes, names = in_memory(source)
    check_header(data.column_names, where)
    return Table(data, where, _content_digest(data), tuple(notes), names or _stated_names(data))


def _content_digest(data: pa.Table) -> str:
    """sha256 over column names and cells, chunked anyhow."""
    digest = hashlib.sha256()
    for name in data.column_names:
        digest.update(f"\0{name}\0".encode())
        for value in cells(data.column(name)):
            digest.update(b"\1" if value is None else value.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def _checked(table: Table) -> Table:
    if not table.columns:
        raise TableError(f"{table.source} has no columns", "give a table with a text and a label column")
    check_header(list(table.columns), table.source)
    if not len(table):
        raise TableError(
            f"{table.source} has a header ({', '.join(table.columns[:6])}) and no rows",
            "give a table with rows",
        )
    return table

"""Rows of one read-only SQL query over a SQLite or DuckDB file; DuckDB is optional.

The query may come from a page of the web app, so it is held to the one file: it writes nothing anywhere (a file that is opened
read-only can still be copied elsewhere) and DuckDB opens no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from basewise.core.cells import cell
from basewise.core.errors import MissingExtra, TableError
from basewise.core.rowfiles import check_header

if TYPE_CHECKING:
    import pyarrow as pa


def query_database(path: Path, kind: str, query: str | None, rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of at most `rows` rows of one read-only query, one without rows where it gives none; without a query the error lists the
    tables."""
    import pyarrow as pa

    connection, listing, problems = _open(path, kind)
    tables: list[str] | None = None
    try:
        tables = [row[0] for row in connection.execute(listing).fetchall()]
        if query is None and not tables:
            raise TableError(f"{path.name} holds no table", "give another file")
        if query is None:
            first = tables[0] if tables[0].isidentifier() else f'"{tables[0]}"'
            raise TableError(
                f"{path.name} holds the tables {', '.join(tables)}",
                f"add a query, such as select * from {first}, or give its rows as CSV",
            )
        cursor = connection.execute(query)
        # DuckDB gives no cursor for a query that says nothing
        if cursor is None or cursor.description is None:
            raise TableError("the query gives no rows", "write a select")
        names = check_header([column[0] for column in cursor.description], "the query")
        block = cursor.fetchmany(rows)
        while True:
            columns = zip(*block, strict=True) if block else [()] * len(names)
            cells = [pa.array([cell(v) for v in column], pa.string()) for column in columns]
            yield pa.RecordBatch.from_arrays(cells, names=names)
            if not (block := cursor.fetchmany(rows)):
                break
    except problems as error:
        if tables is None:
            raise _unreadable(path, error) from error
        raise TableError(
            f"the query failed: {error}", f"the tables are {', '.join(tables) or 'none'}"
        ) from error
    finally:
        connection.close()


def _open(path: Path, kind: str) -> tuple[Any, str, type[Exception]]:
    """A read-only connection, the query that lists the tables, and the class of its errors."""
    if kind == "sqlite":
        import sqlite3

        connection = sqlite3.connect(f"file:{quote(path.resolve().as_posix())}?mode=ro", uri=True)
        # else `vacuum into` writes a new file
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        listing = "select name from sqlite_master where type in ('table', 'view') order by name"
        return connection, listing, sqlite3.Error
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtra.of("duckdb", "sql") from error
    # else `copy` writes files and read_csv reads any
    held = {"enable_external_access": "false"}
    try:
        opened = duckdb.connect(str(path), read_only=True, config=held)
    except duckdb.Error as error:
        raise _unreadable(path, error) from error
    return opened, "select table_name from information_schema.tables order by table_name", duckdb.Error


def _unreadable(path: Path, error: Exception) -> TableError:
    """A file that another process holds or that is damaged."""
    return TableError(
        f"{path.name} cannot be read as a database: {str(error).splitlines()[0]}",
        "close what else works in it, or copy a whole file",
    )

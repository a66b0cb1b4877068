"""Text files of rows (CSV and kin, JSON lines) as a stream: encoding, dialect, then lists of string cells.

One parser serves both whole tables and streams of any length, so `audit` and `predict` can never read the same file
differently. Cells stay strings: a label "007" must not become 7. Encodings are decided on all bytes of a file, or on
the first 64 KiB of a stream that cannot be read twice.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from basewise.core.bytesource import HEAD_BYTES, UNREADABLE, ByteSource
from basewise.core.dialect import DELIMITERS, Dialect, misfit, reader, sniff
from basewise.core.errors import TableError

LONG_ROW_LINES = 1000
BROKEN, BEYOND_ASCII = re.compile("[\udc80-\udcff]"), re.compile(r"[^\x00-\x7f]")
WHOLE_CHARACTERS = 5
"""Characters of UTF-8 for each byte that is none, above which a text is UTF-8 and damaged: an 8-bit text has next to none."""
MOST_LINE = 64_000_000
"""Characters of one JSON line: a file without line ends must not come into memory whole before it is found out."""


def encoding_of(source: ByteSource) -> tuple[str, str]:
    """(codec, note) of a text file: UTF-8, UTF-16 with or without a mark, else Windows-1252 or Latin-1 (noted).

    Raises TableError for empty and binary files. UTF-16 without a mark shows as zero bytes on one side of each pair.
    """
    head = source.head
    if not head.strip():
        raise TableError(f"{source.name} is empty", "give a table with a header line and rows")
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32", "read as UTF-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", "read as UTF-16"
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig", ""
    even, odd = head[0::2].count(0) / max(1, len(head[0::2])), head[1::2].count(0) / max(1, len(head[1::2]))
    if max(even, odd) > 0.3 and min(even, odd) < 0.05:
        codec = "utf-16-le" if odd > even else "utf-16-be"
        if head.decode(codec, "replace").isprintable() or "\n" in head.decode(codec, "replace"):
            return codec, "read as UTF-16 (guessed, the file has no byte order mark)"
    control = sum(head.count(b) for b in range(32) if b not in (9, 10, 11, 12, 13, 27))
    if b"\0" in head or control > max(8, 0.02 * len(head)):
        raise TableError(
            f"{source.name} is a binary file, not text", "give a CSV, JSON lines, Parquet or Arrow file"
        )
    return _eight_bit_encoding(source)


def _eight_bit_encoding(source: ByteSource) -> tuple[str, str]:
    """UTF-8 where every byte agrees, or nearly all beyond ASCII; else the 8-bit code that has a character for every byte that came."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    strange: set[int] = set()
    whole = broken = 0
    pieces = iter([source.head]) if source.once else _pieces(source)
    for piece in pieces:
        if b"\0" in piece:
            raise TableError(
                f"{source.name} holds zero bytes: it is binary or damaged", "save it again as UTF-8 text"
            )
        strange |= {b for b in (0x81, 0x8D, 0x8F, 0x90, 0x9D) if b in piece}
        if not (text := decoder.decode(piece)).isascii():
            bad = len(BROKEN.findall(text))
            broken, whole = broken + bad, whole + len(BEYOND_ASCII.findall(text)) - bad
    if not broken:
        return "utf-8", ""
    if whole > WHOLE_CHARACTERS * broken:
        source.errors = "replace"
        return "utf-8", f"{broken:,} bytes are not UTF-8, in which the rest is written: read as \ufffd"
    if strange:
        return "latin-1", "not UTF-8: read as Latin-1 (check accented letters)"
    return "cp1252", "not UTF-8: read as Windows-1252 (check accented letters)"


def _pieces(source: ByteSource) -> Iterator[bytes]:
    with source.open() as file:
        while piece := file.read(1 << 20):
            yield piece


def delimited_rows(
    source: ByteSource, codec: str, delimiter: str | None, notes: list[str], size: int
) -> Iterator[tuple[list[str], list[list[str]]]]:
    """(header, rows) blocks of at most `size` rows of a CSV-like file; ragged rows raise with their line number."""
    head = source.head.decode(codec, "ignore")
    # the ending of its name is wrong
    if delimiter and delimiter not in head.lstrip().partition("\n")[0]:
        delimiter = None
    above = _lines_above(head)
    head = "".join(head.splitlines(keepends=True)[above:])
    dialect = sniff(head, len(source.head) < HEAD_BYTES, delimiter)
    if dialect.delimiter not in (",", delimiter):
        notes.append(f"cells are separated by {DELIMITERS.get(dialect.delimiter, repr(dialect.delimiter))}")
    if dialect.escaped:
        notes.append('quotes inside of cells are marked by a backslash: \\" is read as "')
    with io.TextIOWrapper(source.open(), encoding=codec, errors=source.errors, newline="") as text:
        rows = reader(text, dialect)
        for _ in range(above):
            next(rows)
        yield from _blocks(rows, dialect, source.name, notes, size)


def _lines_above(head: str) -> int:
    """How many lines stand above the header: what Excel reads the delimiter from (sep=;), and comments of fewer cells than the header."""
    lines = head.splitlines()
    above = next((i for i, line in enumerate(lines) if not line.startswith(("#", "sep="))), 0)
    cells = [max(line.count(sign) for sign in DELIMITERS) for line in lines[: above + 1]]
    if any(n >= cells[-1] and not lines[i].startswith("sep=") for i, n in enumerate(cells[:-1])):
        return 0
    return above


def _blocks(
    rows: Any, dialect: Dialect, name: str, notes: list[str], size: int
) -> Iterator[tuple[list[str], list[list[str]]]]:
    block: list[list[str]] = []
    header: list[str] = []
    before = rows.line_num
    try:
        for row in rows:
            spanned, before = rows.line_num - before, rows.line_num
            if not row:
                continue
            if not header:
                header = check_header(_names(row), name)
                continue
            if len(row) != len(header):
                row = _fit(row, header, rows.line_num - spanned + 1, spanned, name, dialect)
            if spanned > LONG_ROW_LINES:
                notes.append(
                    f"the row at line {rows.line_num - spanned + 1} spans {spanned:,} lines: is a quote not closed?"
                )
            block.append(row)
            if len(block) == size:
                yield header, block
                block = []
    except UnicodeDecodeError as error:
        line = rows.line_num + 1
        raise TableError(f"{name}: bytes after line {line} cannot be decoded", "save it as UTF-8") from error
    except (csv.Error, *UNREADABLE) as error:
        raise TableError(f"{name}, line {rows.line_num}: {error}", "mend that line or the file") from error
    if block or header:
        yield header, block


def _names(row: list[str]) -> list[str]:
    """The header's names, without the empty ones that delimiters at its end leave: rows that hold a value there do not fit."""
    names = [cell.strip() for cell in row]
    while len(names) > 1 and not names[-1]:
        names.pop()
    return names


def _fit(
    row: list[str], header: list[str], line: int, spanned: int, name: str, dialect: Dialect
) -> list[str]:
    """Drop empty cells past the header's last (a trailing delimiter); any other misfit is an error."""
    if len(row) > len(header) and not any(row[len(header) :]):
        return row[: len(header)]
    cell = "cell" if len(row) == 1 else "cells"
    short = len(row) < len(header)
    hint = "; a quote may not be closed" if spanned > 20 or (short and spanned > 1) else ""
    raise TableError(
        f"{name}, line {line}: {len(row)} {cell} where the header has {len(header)}{hint}",
        "close the quote, or mend the line" if hint else misfit(row, short, dialect),
    )


def check_header(names: list[str], source: str) -> list[str]:
    """The names if they are usable: none twice, none nameless; a nameless first column (a pandas index) is "index"."""
    if names and not names[0]:
        names = ["index", *names[1:]]
    seen: set[str] = set()
    for position, name in enumerate(names, 1):
        if not name:
            raise TableError(
                f"{source}: column {position} has no name", "name every column in the header line"
            )
        if name in seen:
            raise TableError(f"{source}: the column name {name!r} occurs twice", "rename one of the two")
        seen.add(name)
    return names


def json_rows(source: ByteSource, codec: str, size: int) -> Iterator[list[dict[str, Any]]]:
    """Blocks of at most `size` objects from JSON lines; a broken line raises with its number."""
    with io.TextIOWrapper(source.open(), encoding=codec, errors=source.errors) as lines:
        yield from _objects(lines, source.name, size)


def too_long(line: str) -> TableError:
    """The error of a JSON line that is longer than any row."""
    return TableError(
        f"{line}: it is longer than {MOST_LINE / 1e6:,.0f} million characters", "write one JSON object a line"
    )


def _objects(lines: TextIO, name: str, size: int) -> Iterator[list[dict[str, Any]]]:
    block: list[dict[str, Any]] = []
    number = 0
    try:
        while line := lines.readline(MOST_LINE + 1):
            number += 1
            if len(line) > MOST_LINE:
                raise too_long(f"{name}, line {number}")
            if not line.strip():
                continue
            value = json.loads(line)
            if not isinstance(value, dict):
                raise TableError(
                    f"{name}, line {number}: expected a JSON object, {type(value).__name__} came",
                    'write one object a line, like {"text": "...", "label": "..."}',
                )
            block.append(value)
            if len(block) == size:
                yield block
                block = []
    except json.JSONDecodeError as error:
        raise TableError(
            f"{name}, line {number}: broken JSON, {error.msg} at column {error.colno}",
            "mend or delete that line",
        ) from error
    except RecursionError as error:
        raise TableError(
            f"{name}, line {number}: lists and objects are nested too deeply", "mend or delete that line"
        ) from error
    except (UnicodeDecodeError, *UNREADABLE) as error:
        raise TableError(f"{name}, after line {number}: {error}", "save it again as UTF-8") from error
    if block:
        yield block


def json_array(source: ByteSource, codec: str) -> list[dict[str, Any]]:
    """The rows of a JSON array of objects; an object around one such array is opened."""
    try:
        with io.TextIOWrapper(source.open(), encoding=codec, errors=source.errors) as text:
            value = json.loads(text.read())
    except json.JSONDecodeError as error:
        raise TableError(
            f"{source.name}, line {error.lineno}: broken JSON, {error.msg} at column {error.colno}",
            "mend the file",
        ) from error
    except RecursionError as error:
        raise TableError(
            f"{source.name}: lists and objects are nested too deeply", "mend the file"
        ) from error
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list)]
        value = lists[0] if len(lists) == 1 else _rows_of_columns(value)
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise TableError(
            f"{source.name}: expected a JSON array of objects",
            'write [{"text": "...", "label": "..."}, ...] or JSON lines',
        )
    return value


def _rows_of_columns(value: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of an object of columns, each a list or, as pandas writes it, an object by row; of rows by their number, and of "columns"
    beside "data", as pandas writes them, too. Any other object is one row.
    """
    names, data = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(data, list) and all(_fits(row, names) for row in data):
        return [dict(zip(map(str, names), row, strict=True)) for row in data]
    rows = [v for v in value.values() if isinstance(v, dict)]
    numbered = len(rows) == len(value) and all(map(str.isdecimal, value))
    if numbered and not any(name.isdecimal() for row in rows for name in row):
        return rows
    columns = {name: list(v.values()) if isinstance(v, dict) else v for name, v in value.items()}
    if not all(isinstance(v, list) for v in columns.values()) or len({len(v) for v in columns.values()}) != 1:
        return [value]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _fits(row: Any, names: list[Any]) -> bool:
    return isinstance(row, list) and len(row) == len(names)

"""JSON lines, plain or packed with gzip, zstd or bzip2: one object a line, its text under `text`."""

from __future__ import annotations

import json
from collections.abc import Iterator

from basewise.core import rowfiles
from basewise.core.documents import Columns, Document, ends_in, packing, plain_size, text_of
from basewise.core.errors import TableError

ENDINGS = (".jsonl", ".ndjson", ".json")


def takes(place: str) -> bool:
    """Files that end in .jsonl, .ndjson or .json, also with .gz, .zst or .bz2 after it."""
    return ends_in(place, ENDINGS)


def read(place: str, columns: Columns) -> Iterator[Document]:
    """Documents of the objects that have the text column. TableError names the line that is no JSON object."""
    import pyarrow as pa

    number = 0
    try:
        with pa.input_stream(place, compression=packing(place)) as stream:
            for number, line in enumerate(_lines(stream, place), 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("an object was expected")
                if columns.text not in row:
                    raise TableError(
                        f"{place} has no {columns.text!r} in line {number}; found: {', '.join(list(row)[:8])}",
                        'name it in the recipe with text = "…"',
                    )
                licence, origin = columns.resolve(list(row))
                if row[columns.text] is not None:
                    text = text_of(row[columns.text], f"line {number} of {place}")
                    yield Document(text, str(row.get(licence) or ""), str(row.get(origin) or ""))
    except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
        where = f"line {number + isinstance(error, OSError)} of {place}"
        raise TableError(f"cannot read {where}: {error}", "one JSON object a line was expected") from error


def _lines(stream: object, place: str) -> Iterator[bytes]:
    """Lines of a byte stream, read a MiB at a time; TableError for one that is longer than any row."""
    rest, number = bytearray(), 0
    while piece := stream.read(1 << 20):  # type: ignore[attr-defined]
        *lines, last = piece.split(b"\n")
        for line in lines:
            yield bytes(rest + line) if rest else line
            number += 1
            rest.clear()
        rest += last
        if len(rest) > rowfiles.MOST_LINE:
            raise rowfiles.too_long(f"{place}, line {number + 1}")
    if rest:
        yield bytes(rest)


def size(place: str, text: str) -> int:
    """Bytes of the file; 0 when it is packed."""
    return plain_size(place)

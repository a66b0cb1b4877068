"""How the rows of a CSV-like file are cut into cells: delimiter, whether quotes are quotes, and how those inside of a cell are marked.

RFC 4180 doubles a quote inside of a quoted cell and lets nothing stand before the first one. Other writers mark it with a
backslash, or leave a blank behind each delimiter; both are read where the file holds them and the rule of the RFC does not fit it.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
MARKED = re.compile(r"""\\(["\\])""")


@dataclass(frozen=True)
class Dialect:
    """How rows are cut into cells. `blanks`: those behind a delimiter do not count; `escaped`: \\" is a quote inside of a cell."""

    delimiter: str
    quoted: bool
    blanks: bool = False
    escaped: bool = False


def sniff(head: str, whole: bool, delimiter: str | None = None) -> Dialect:
    """The delimiter whose cell counts agree best with the header, and whether quotes are quotes.

    `whole`: the head is the full text; otherwise its last, broken line is left out. Tab files often hold plain
    quotation marks, so there quoting is dropped when rows fit only without it, or fit as well and are more: then a lone quote
    at the beginning of a cell had run on into later rows.
    """
    sample = head if whole else head[: head.rfind("\n") + 1] or head
    best: tuple[float, int, int, Dialect] | None = None
    for candidate in [delimiter] if delimiter else list(DELIMITERS):
        for quoted in (True, False) if candidate == "\t" else (True,):
            counts = [len(row) for row in _sample_rows(sample, Dialect(candidate, quoted))]
            if not counts:
                continue
            agree = sum(c == counts[0] for c in counts) / len(counts) if counts[0] > 1 else 0.0
            merged = best is not None and not quoted and agree == best[0] == 1.0 and len(counts) > best[2]
            if best is None or merged or (agree, min(counts[0], 2)) > best[:2]:
                best = (agree, min(counts[0], 2), len(counts), Dialect(candidate, quoted))
    return _with_odd_quotes(sample, best[3], best[0]) if best else Dialect(delimiter or ",", True)


def _with_odd_quotes(sample: str, found: Dialect, agree: float) -> Dialect:
    """The dialect with blanks or backslashes where the sample holds them beside quotes and fits without a fault only so.

    A blank may well begin a cell and a backslash end one, so both are asked for by a strict reading of every row.
    """
    if not found.quoted:
        return found
    blank = re.search(rf"{re.escape(found.delimiter)} +\"", sample) is not None
    options = [replace(found, blanks=blank)] if blank else []
    if '\\"' in sample and _strict_agreement(sample, found) < agree:
        options += [replace(found, escaped=True), replace(found, escaped=True, blanks=blank)]
    return next((one for one in options if _strict_agreement(sample, one) >= agree), found)


def _strict_agreement(sample: str, dialect: Dialect) -> float:
    """Share of the rows with as many cells as the header; below zero where a quote stands neither around a cell nor marked in it."""
    counts: list[int] = []
    try:
        counts += (len(row) for row in reader(io.StringIO(sample, newline=""), dialect, strict=True) if row)
    except csv.Error as error:
        # the sample may end in the middle of a cell
        if "unexpected end" not in str(error):
            return -1.0
    return sum(n == counts[0] for n in counts) / len(counts) if counts else -1.0


def _sample_rows(sample: str, dialect: Dialect) -> list[list[str]]:
    rows = reader(io.StringIO(sample, newline=""), dialect)
    return [row for row in rows if row]


def reader(lines: Iterable[str], dialect: Dialect, strict: bool = False) -> Any:
    """A csv.reader of the lines; `strict`: an odd quote is an error."""
    csv.field_size_limit(
        min(sys.maxsize, 2**31 - 1)
    )  # a global of the csv module; its default refuses cells of 128 KiB
    if not dialect.quoted:
        return csv.reader(lines, delimiter=dialect.delimiter, quoting=csv.QUOTE_NONE)
    lines = _doubled(lines) if dialect.escaped else lines
    return csv.reader(lines, delimiter=dialect.delimiter, skipinitialspace=dialect.blanks, strict=strict)


def _doubled(lines: Iterable[str]) -> Iterator[str]:
    """Lines with quotes doubled that a backslash marks, and one backslash of two; any other, as in \\n, stays."""
    for line in lines:
        yield MARKED.sub(lambda found: '""' if found[1] == '"' else "\\", line) if "\\" in line else line


def misfit(row: list[str], short: bool, dialect: Dialect) -> str:
    """What to do about a row with more cells than the header, or fewer: `short`."""
    delimiter = DELIMITERS.get(dialect.delimiter, repr(dialect.delimiter))
    if any("\\" in cell and '"' in cell for cell in row):
        return 'a quote in it is marked by a backslash: write it twice ("")'
    if any(re.match(' +"', cell) for cell in row):
        return "a blank stands between a delimiter and a quote: take it away"
    if short:
        return "add what is missing, or mend the line"
    return f"put quotes around cells that hold a {delimiter}, or mend the line"

"""Documents of a corpus: what a reader gives, and how a raw text is made plain before anything looks at it.

Plain means: Unicode in composed form (NFC), line ends as \\n, no control characters, byte order marks, lone surrogates or private
marks. Words, spaces and layout stay as they are: what is learned from must be what will be read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from basewise.core.errors import TableError

LONGEST = 100_000
"""Characters of one document; a longer text is cut at a blank line or a line end, each part a document of its own."""
LINE_ENDS = re.compile("\r\n?|[\u2028\u2029\x0b\x0c\x85]")
REMOVED = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\ufeff\ufff9-\uffff\ud800-\udfff\u202a-\u202e\u2066-\u2069]"
)
"""Controls, marks of byte order and of writing direction (they reorder what is shown), specials, lone surrogates."""


class Document(NamedTuple):
    """One text with its licence and where it comes from; empty where the source does not say."""

    text: str
    licence: str = ""
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a table hold what; licence and origin are found by their usual names when left out."""

    text: str = "text"
    licence: str = ""
    origin: str = ""

    def resolve(self, names: list[str]) -> tuple[str, str]:
        """(licence, origin) column among `names`, "" where there is none."""
        usual = (("licence", "license"), ("source", "origin", "url"))
        given = (self.licence, self.origin)
        found = [
            g or next((n for n in names if n.lower() in u), "") for g, u in zip(given, usual, strict=True)
        ]
        return found[0], found[1]


STREAM = "datasets:"
"""What the place of a stream begins with."""
PACKINGS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}


def packing(place: str) -> str | None:
    """How a file is packed, by its ending in small or capital letters; None: not at all."""
    return PACKINGS.get(Path(place.lower()).suffix)


def ends_in(place: str, endings: tuple[str, ...], packed: bool = True) -> bool:
    """Whether a place is a file with one of these endings, in small or capital letters; `packed`: also with a packing's after it."""
    name = place.lower()
    if packed and packing(name):
        name = name.removesuffix(Path(name).suffix)
    return name.endswith(endings) and not name.startswith(STREAM)


def plain_size(place: str) -> int:
    """Bytes of a file; 0 when it is packed, as then they do not tell those of its text."""
    return 0 if packing(place) else Path(place).stat().st_size


def text_of(value: Any, where: str) -> str:
    """A cell of a text column as a text: one as it is, bytes as UTF-8. TableError for all else; `where` names file and row."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise TableError(
                f"the text in {where} is not UTF-8: {error.reason}", "write it as UTF-8 text"
            ) from None
    kinds = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    raise TableError(
        f"the text in {where} is {kinds.get(type(value), type(value).__name__)}, a text was expected",
        'name the column of texts in the recipe with text = "…", or take the row out',
    )


def plain(text: str) -> str:
    """The text in composed form, with \\n as its only line end and without control characters."""
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    if LINE_ENDS.search(text):
        text = LINE_ENDS.sub("\n", text)
    if REMOVED.search(text):
        text = REMOVED.sub("", text)
    return text.strip("\n")


def cut(text: str, longest: int = LONGEST) -> Iterator[str]:
    """The text in parts of at most `longest` characters, cut after a blank line, else a line, else a space, else anywhere."""
    begin = 0
    while len(text) - begin > longest:
        end = begin + longest
        for mark in ("\n\n", "\n", " "):
            if (place := text.rfind(mark, begin + longest // 2, end)) >= 0:
                end = place + len(mark)
                break
        yield text[begin:end]
        begin = end
    yield text[begin:]

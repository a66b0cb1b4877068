"""Text and Markdown files in UTF-8: one document each; a long one is cut at blank lines."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from basewise.core.documents import LONGEST, Columns, Document, cut, ends_in, packing, plain_size
from basewise.core.errors import TableError


def takes(place: str) -> bool:
    """Files that end in .txt, .text or .md, also with .gz, .zst or .bz2 after it."""
    return ends_in(place, (".txt", ".text", ".md", ".rst"))


def read(place: str, columns: Columns) -> Iterator[Document]:
    """The file as a document, or as several when it is longer than a document may be; never the whole file in memory."""
    import pyarrow as pa

    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    rest = ""
    try:
        with pa.input_stream(place, compression=packing(place)) as stream:
            while piece := stream.read(1 << 20):
                rest += decoder.decode(piece)
                if len(rest) > 20 * LONGEST:
                    *parts, rest = cut(rest)
                    yield from (Document(part, origin=place) for part in parts)
        rest += decoder.decode(b"", final=True)
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"cannot read {place}: {error}", "check that the file is whole") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{place} is not UTF-8: {error.reason}", "save it as UTF-8 text") from error
    if rest:
        yield Document(rest, origin=place)


def size(place: str, text: str) -> int:
    """Bytes of the file; 0 when it is packed."""
    return plain_size(place)

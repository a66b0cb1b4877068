"""Bytes of a table from a path, from memory or from a stream that is read once; what is compressed is unpacked on the way."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from basewise.core.errors import TableError

HEAD_BYTES = 1 << 16
UNREADABLE = (OSError, EOFError, lzma.LZMAError)
"""What a broken file of any compression raises."""


def _zstd(file: Any) -> Any:
    """The bytes of a Zstandard file, a path or a stream; Arrow has the decoder."""
    import pyarrow as pa

    return io.BufferedReader(
        _Rejoined(b"", pa.CompressedInputStream(str(file) if isinstance(file, Path) else file, "zstd"))
    )


COMPRESSIONS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open, b"\x28\xb5\x2f\xfd": _zstd,
}  # fmt: skip
"""First bytes of a compressed file, and what opens a path or a stream of such bytes."""
ENDINGS = (".gz", ".bz2", ".xz", ".zst")


def _unpacker(head: bytes) -> Callable[[Any], Any] | None:
    return next((opened for magic, opened in COMPRESSIONS.items() if head.startswith(magic)), None)


@dataclass
class ByteSource:
    """Where bytes come from: a path (may be compressed) or standard input. `open()` starts again at the first byte."""

    name: str
    path: Path | None
    stream: BinaryIO | None = None
    content: bytes = b""
    head: bytes = field(default=b"")
    once: bool = False
    errors: str = "strict"
    """What decoding does with bytes that are no characters; "replace" for a text that holds a few."""

    @classmethod
    def of_path(cls, path: Path) -> ByteSource:
        source = cls(name=path.name, path=path)
        source.head = source._read_head()
        return source

    @classmethod
    def of_bytes(cls, name: str, content: bytes) -> ByteSource:
        if unpack := _unpacker(content):
            content = _unpacked(unpack, content, name)
        return cls(name=name, path=None, content=content, head=content[:HEAD_BYTES])

    @classmethod
    def of_stream(cls, stream: BinaryIO, name: str = "standard input") -> ByteSource:
        """A stream that is read once, such as a pipe."""
        head = _read_exactly(stream, HEAD_BYTES)
        if unpack := _unpacker(head):
            stream = unpack(io.BufferedReader(_Rejoined(head, stream)))
            try:
                head = _read_exactly(stream, HEAD_BYTES)
            except UNREADABLE as error:
                raise _does_not_unpack(name, error) from error
        return cls(
            name=name, path=None, stream=io.BufferedReader(_Rejoined(head, stream)), head=head, once=True
        )

    def open(self) -> BinaryIO:
        if self.path is not None:
            with open(self.path, "rb") as file:
                unpack = _unpacker(file.read(8))
            return unpack(self.path) if unpack else open(self.path, "rb")
        return self.stream if self.stream is not None else io.BytesIO(self.content)

    def _read_head(self) -> bytes:
        try:
            with self.open() as file:
                return _read_exactly(file, HEAD_BYTES)
        except UNREADABLE as error:
            raise TableError(
                f"cannot read {self.name}: {error}", "check that the file is whole and may be read"
            ) from error


class _Rejoined(io.RawIOBase):
    """Bytes already taken from a stream, followed by the rest of it."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            piece, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        else:
            piece = self._rest.read(len(buffer)) or b""
        buffer[: len(piece)] = piece
        return len(piece)


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    pieces, left = [], size
    while left and (piece := stream.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _unpacked(unpack: Callable[[Any], Any], content: bytes, name: str) -> bytes:
    try:
        unpacked: bytes = unpack(io.BytesIO(content)).read()
    except UNREADABLE as error:
        raise _does_not_unpack(name, error) from error
    return unpacked


def _does_not_unpack(name: str, error: Exception) -> TableError:
    return TableError(f"{name} is compressed but does not unpack: {error}", "pack it again")

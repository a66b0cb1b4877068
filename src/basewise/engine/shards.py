"""Feature rows on disk: append-only, memory-mapped shards found by the content of the text.

A shard is one file: magic, header (JSON), 16-byte text keys in order, values, token counts, cut flags. It is written
whole under a name of its own and never changed, so any number of processes can add and read at once. Its checksum
is verified when it is first opened; a damaged shard is removed and its rows are computed again.
"""

from __future__ import annotations

import itertools
import json
import os
import struct
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.files import atomic_path
from basewise.core.hashing import text_key

MAGIC = b"BWFEAT1\n"
HALF_LIMIT = 6e4
"""Above this a value does not fit into float16 (65504)."""


def keys_of(texts: Sequence[str]) -> np.ndarray:
    """(n, 2) uint64: 128 bits of each text's digest."""
    joined = b"".join(text_key(t) for t in texts)
    return np.frombuffer(joined, dtype=np.uint64).reshape(len(texts), 2)


def half_fits(values: np.ndarray) -> bool:
    """Whether float16 holds these values: none too large, none not finite. Relative rounding is then 5e-4 a value."""
    return bool(values.size == 0 or (np.isfinite(values).all() and np.abs(values).max() < HALF_LIMIT))


@dataclass(frozen=True)
class Shard:
    """Rows in the order of their keys. `values` (n, views, width) float16 or float32, mapped from disk or in memory."""

    names: tuple[str, ...]
    keys: np.ndarray
    tokens: np.ndarray
    cut: np.ndarray
    values: np.ndarray

    @classmethod
    def of(
        cls, names: Sequence[str], keys: np.ndarray, tokens: np.ndarray, cut: np.ndarray, values: np.ndarray
    ) -> Shard:
        """Sort rows by key."""
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        return cls(tuple(names), keys[order], tokens[order].astype(np.int32), cut[order], values[order])

    def find(self, keys: np.ndarray) -> np.ndarray:
        """(n,) row of each key, -1 where it is not here."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        first = self.keys[:, 0]
        place = np.minimum(np.searchsorted(first, keys[:, 0]), len(first) - 1)
        return np.where((self.keys[place] == keys).all(1), place, -1)


def write(folder: Path, shard: Shard) -> Path:
    """Add a shard to a folder: whole or not at all."""
    arrays = (shard.keys, shard.values, shard.tokens, shard.cut.astype(np.uint8))
    blobs = [np.ascontiguousarray(a).data.cast("B") if a.size else b"" for a in arrays]
    checksum = 0
    for blob in blobs:
        checksum = zlib.crc32(blob, checksum)
    header = {
        "names": shard.names,
        "rows": len(shard.keys),
        "shape": shard.values.shape,
        "dtype": str(shard.values.dtype),
        "crc32": checksum,
    }
    text = json.dumps(header).encode()
    text += b" " * (-(len(MAGIC) + 4 + len(text)) % 64)
    path = folder / f"{uuid.uuid4().hex}.shard"
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(MAGIC + struct.pack("<I", len(text)) + text)
        for blob in blobs:
            file.write(blob)
        file.flush()
        os.fsync(file.fileno())
    return path


def read(path: Path) -> Shard | None:
    """Map a shard; None if it is damaged in any way (size, header or checksum)."""
    try:
        raw = np.memmap(path, dtype=np.uint8, mode="r")
        start = len(MAGIC) + 4
        if bytes(raw[: len(MAGIC)]) != MAGIC:
            return None
        length = struct.unpack("<I", bytes(raw[len(MAGIC) : start]))[0]
        header: dict[str, Any] = json.loads(bytes(raw[start : start + length]))
        rows, shape, dtype = int(header["rows"]), tuple(header["shape"]), np.dtype(header["dtype"])
        body = raw[start + length :]
        sizes = [16 * rows, int(np.prod(shape)) * dtype.itemsize, 4 * rows, rows]
        if len(body) != sum(sizes) or zlib.crc32(body.data) != header["crc32"]:
            return None
        edges = np.cumsum([0, *sizes])
        part = [body[a:b] for a, b in itertools.pairwise(edges)]
        return Shard(
            tuple(header["names"]),
            part[0].view(np.uint64).reshape(rows, 2),
            part[2].view(np.int32),
            part[3].view(bool),
            part[1].view(dtype).reshape(shape),
        )
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None


class Space:
    """The shards of one base at one precision; `folder` None keeps them in memory."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.shards: list[Shard] = []
        self._known: set[str] = set()

    def refresh(self) -> None:
        """Take in what other processes have added; remove what is damaged."""
        if self.folder is None or not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob("*.shard")):
            if path.name in self._known:
                continue
            shard = read(path)
            if shard is None:
                path.unlink(missing_ok=True)
                continue
            self._known.add(path.name)
            self.shards.append(shard)

    def add(self, shard: Shard) -> Shard:
        """Keep a shard; returns it as it now is (mapped from disk if there is a folder)."""
        if self.folder is not None:
            path = write(self.folder, shard)
            shard = read(path) or shard
            self._known.add(path.name)
        self.shards.append(shard)
        return shard

    def find(self, keys: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(n,) shard and (n,) row of each key that is here with all `names`; -1 where not."""
        at, row = np.full(len(keys), -1), np.full(len(keys), -1)
        missing = np.arange(len(keys))
        for index, shard in enumerate(self.shards):
            if not len(missing):
                break
            if not set(names) <= set(shard.names):
                continue
            found = shard.find(keys[missing])
            hit = found >= 0
            at[missing[hit]], row[missing[hit]] = index, found[hit]
            missing = missing[~hit]
        return at, row

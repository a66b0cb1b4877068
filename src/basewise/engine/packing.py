"""Packing: documents into rows of one length with nothing added and nothing left out but the last few tokens.

Best fit decreasing, with document starts first: a document longer than a row fills whole rows from its own start, and what is left of it
and the short documents are put together. A row opens with the longest document that is left, its gap takes the longest piece that fits,
and where none fits the shortest longer piece is cut, its rest going back into the pool as a continuation. So every row is full (no
padding), every token is in exactly one place, and fewer than `length` tokens a shard fill no row (they are counted, not hidden).

After nanochat's best-fit packing at document starts (its log of January 2026), which crops what does not fit: on documents of thousands
of tokens and rows of hundreds that would throw most of a corpus away, so here a document goes on in another row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Packing:
    """Rows of `length` tokens as pieces of a flat token array. R rows, P pieces.

    `first` (R + 1,): piece where each row begins; `begin` (P,) int64: where a piece begins in the shard; `size` (P,) int32.
    `left_over`: tokens of the shard that fill no row.
    """

    length: int
    first: np.ndarray
    begin: np.ndarray
    size: np.ndarray
    left_over: int

    def __len__(self) -> int:
        return len(self.first) - 1

    def positions(self, rows: np.ndarray) -> np.ndarray:
        """(b, length) int64: where in the shard each token of these rows stands."""
        counts = self.first[rows + 1] - self.first[rows]
        pieces = np.repeat(self.first[rows] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        sizes = self.size[pieces].astype(np.int64)
        ends = np.cumsum(sizes)
        flat = np.repeat(self.begin[pieces] - ends + sizes, sizes) + np.arange(ends[-1] if len(ends) else 0)
        return flat.reshape(len(rows), self.length)


class _Pool:
    """Pieces by size; the longest that fits and the shortest that is longer are found by one mask of sizes."""

    def __init__(self, length: int) -> None:
        self.mask = 0
        self.pieces: list[list[int]] = [[] for _ in range(length)]

    def add(self, begin: int, size: int) -> None:
        self.pieces[size].append(begin)
        self.mask |= 1 << size

    def take(self, size: int) -> int:
        begin = self.pieces[size].pop()
        if not self.pieces[size]:
            self.mask &= ~(1 << size)
        return begin

    def fitting(self, gap: int) -> int:
        """The greatest size there is, at most `gap`; 0 when there is none."""
        return max(0, (self.mask & ((1 << (gap + 1)) - 1)).bit_length() - 1)

    def longer(self, gap: int) -> int:
        """The least size there is above `gap`; 0 when there is none."""
        above = self.mask >> (gap + 1)
        return (above & -above).bit_length() + gap if above else 0


def pack(offsets: np.ndarray, length: int) -> Packing:
    """Pack documents, token i of document d at offsets[d] + i, into rows of `length` tokens. offsets (n + 1,) int64, from 0."""
    if length < 1:
        raise ValueError(f"rows of {length} tokens")
    offsets = np.asarray(offsets, np.int64)
    sizes = np.diff(offsets)
    whole, rest = sizes // length, sizes % length
    order = np.arange(whole.sum()) - np.repeat(np.cumsum(whole) - whole, whole)
    begins = np.repeat(offsets[:-1], whole) + order * length
    there = rest > 0
    rows, left = _fill((offsets[:-1] + whole * length)[there], rest[there], whole[there] == 0, length)
    counts = np.array([len(row) for row in rows], np.int64)
    flat = np.array([piece for row in rows for piece in row], np.int64).reshape(-1, 2)
    return Packing(
        length=length,
        first=np.concatenate([np.arange(len(begins) + 1), len(begins) + np.cumsum(counts)]),
        begin=np.concatenate([begins, flat[:, 0]]),
        size=np.concatenate([np.full(len(begins), length), flat[:, 1]]).astype(np.int32),
        left_over=left,
    )


def _fill(
    begins: np.ndarray, sizes: np.ndarray, starts: np.ndarray, length: int
) -> tuple[list[list[tuple[int, int]]], int]:
    """Full rows of (begin, size) pieces, and the tokens that fill none. `starts` (n,) bool: the piece begins a document."""
    documents, tails = _Pool(length), _Pool(length)
    for begin, size, start in zip(begins.tolist(), sizes.tolist(), starts.tolist(), strict=True):
        (documents if start else tails).add(begin, size)
    total, rows = int(sizes.sum()), []
    for _ in range(total // length):
        row: list[tuple[int, int]] = []
        gap = length
        while gap:
            pool, size = _choose(documents, tails, gap, opening=not row)
            begin = pool.take(size)
            used = min(size, gap)
            if used < size:
                tails.add(begin + used, size - used)
            row.append((begin, used))
            gap -= used
        rows.append(row)
    return rows, total % length


def _choose(documents: _Pool, tails: _Pool, gap: int, opening: bool) -> tuple[_Pool, int]:
    """The pool and the size of the next piece of a row with this gap."""
    fit, other = documents.fitting(gap), tails.fitting(gap)
    if opening and fit:
        return documents, fit
    if fit or other:
        return (documents, fit) if fit >= other else (tails, other)
    longer, others = documents.longer(gap), tails.longer(gap)
    if longer and (not others or longer <= others):
        return documents, longer
    return tails, others

"""Words of many texts at once: folded, cut and hashed by NumPy, so that no step of cleaning loops over words in Python.

Texts become one array of code points. A table folds each one (compatibility form, then case) and marks what is no word character by 0;
words are the runs between. A word's 64-bit number is its polynomial over the folded code points, taken from one cumulative sum modulo
2^64 (the multiplier is odd, hence has an inverse, so a word has the same number wherever it stands), then mixed.

Words are those of `stats.duplicates.normalise` but for characters whose compatibility form has several characters.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

BASE = 0x9E3779B97F4A7C15
MOST_CHARACTERS = 1 << 20
"""Characters of one block; a longer single text makes a longer block."""


@functools.cache
def fold_table() -> np.ndarray:
    """(0x110000,) uint32: the folded code point of a word character, 0 for every other one."""
    table = np.zeros(0x110000, np.uint32)
    for code in range(0x110000):
        character = chr(code)
        if character.isalnum() or character == "_":
            folded = character if code < 128 else unicodedata.normalize("NFKC", character)
            folded = folded.casefold()
            table[code] = ord(folded) if len(folded) == 1 else code
    return table


@functools.cache
def _powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    """(size,) uint64 powers of BASE and of its inverse modulo 2^64."""
    ups, downs = np.full(size, BASE, np.uint64), np.full(size, pow(BASE, -1, 1 << 64), np.uint64)
    ups[0] = downs[0] = 1
    return np.cumprod(ups), np.cumprod(downs)


def mix(values: np.ndarray) -> np.ndarray:
    """uint64 numbers whose bits all depend on all bits of `values` (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@dataclass(frozen=True)
class Block:
    """n texts as arrays. `codes` (c,) uint32 code points, a line end after each text; `begin` (n + 1,) where texts begin."""

    texts: tuple[str, ...]
    codes: np.ndarray
    begin: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str]) -> Block:
        """The texts side by side; lone surrogates are kept."""
        joined = "\n".join([*texts, ""])
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        lengths = np.fromiter((len(text) + 1 for text in texts), np.int64, len(texts))
        return cls(tuple(texts), codes, np.concatenate([[0], np.cumsum(lengths)]))

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def characters(self) -> np.ndarray:
        """(n,) characters of each text."""
        return np.diff(self.begin) - 1

    @cached_property
    def folded(self) -> np.ndarray:
        """(c,) uint32 folded code points, 0 between words."""
        return fold_table()[self.codes]

    @cached_property
    def spans(self) -> tuple[np.ndarray, np.ndarray]:
        """((w,) first, (w,) end) places in `codes` of each word."""
        inside = np.concatenate([[False], self.folded != 0])
        edges = np.flatnonzero(inside[1:] != inside[:-1])
        return edges[::2], edges[1::2]

    @cached_property
    def words(self) -> np.ndarray:
        """(w,) uint64 number of each word."""
        first, end = self.spans
        size = max(MOST_CHARACTERS, 1 << len(self.codes).bit_length())
        up, down = _powers(size)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(self.folded * up[: len(self.codes)])])
        return mix((sums[end] - sums[first]) * down[first])

    @cached_property
    def word_begin(self) -> np.ndarray:
        """(n + 1,) first word of each text."""
        return np.searchsorted(self.spans[0], self.begin)

    @cached_property
    def owner(self) -> np.ndarray:
        """(w,) int64 text of each word."""
        return np.repeat(np.arange(len(self)), np.diff(self.word_begin))

    def ngrams(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """((g,) uint64 number of each run of n words inside one text, (g,) its first word)."""
        count = len(self.words) - n + 1
        if count <= 0:
            return np.empty(0, np.uint64), np.empty(0, np.int64)
        mixed = np.zeros(count, np.uint64)
        for k in range(n):
            mixed = (mixed ^ self.words[k : k + count]) * np.uint64(BASE)
            mixed ^= mixed >> np.uint64(29)
        inside = np.flatnonzero(self.owner[:count] == self.owner[n - 1 :])
        return mixed[inside], inside

    def per_text(self, values: np.ndarray) -> np.ndarray:
        """(n,) sum over each text of one value a word."""
        sums = np.cumsum(values)
        sums = np.concatenate([np.zeros(1, sums.dtype), sums])
        return sums[self.word_begin[1:]] - sums[self.word_begin[:-1]]

    @cached_property
    def lines(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """((l,) first, (l,) end, (l,) text) of each line that holds a character; ends are the places of the line ends."""
        end = np.flatnonzero(self.codes == 10)
        first = np.concatenate([[0], end[:-1] + 1])
        filled = end > first
        first, end = first[filled], end[filled]
        return first, end, np.searchsorted(self.begin, first, side="right") - 1

    @cached_property
    def keys(self) -> np.ndarray:
        """(n,) uint64: equal for texts of the same words in the same order, however they are wrapped, cased or punctuated."""
        counts = np.diff(self.word_begin)
        places = np.arange(len(self.words)) - np.repeat(self.word_begin[:-1], counts)
        sums = self.per_text(mix(self.words + mix(places.astype(np.uint64) * np.uint64(BASE))))
        return mix(sums ^ (counts.astype(np.uint64) * np.uint64(BASE)))


def blocks(texts: Sequence[str]) -> list[Block]:
    """The texts in blocks of about a million characters, in their order."""
    out, begin, size = [], 0, 0
    for place, text in enumerate(texts):
        if size and size + len(text) > MOST_CHARACTERS:
            out.append(Block.of(texts[begin:place]))
            begin, size = place, 0
        size += len(text)
    if begin < len(texts):
        out.append(Block.of(texts[begin:]))
    return out

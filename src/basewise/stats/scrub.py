"""Personal data and evaluation items found in blocks of text: where they stand, and the text without them.

`core.personal` decides what personal data is; it is asked only about the surroundings of an @ sign, of five digits close together, or of
two colons as near to one another as an IPv6 address has them, since all of its kinds have one of them. Evaluation items are known by
their word 8-grams (`stats.contamination` says why 8 and why once is enough); the lines that hold a match go, and a document that
would lose half of itself goes whole.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from basewise.core.personal import find_personal
from basewise.stats.contamination import WORDS, longest_run
from basewise.stats.words import Block, blocks

AROUND, NEAR, DIGITS, GROUP = 80, 20, 5, 4
GIVEN_OUT = ipaddress.ip_network("2000::/3")
Span = tuple[int, int]


def _anchors(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((a,) first, (a,) end) places that personal data may stand around."""
    digits = np.flatnonzero((codes >= ord("0")) & (codes <= ord("9")))
    close = np.flatnonzero(digits[DIGITS - 1 :] - digits[: max(0, len(digits) - DIGITS + 1)] <= NEAR)
    signs = np.flatnonzero(codes == ord("@"))
    first = np.concatenate([digits[close], signs])
    end = np.concatenate([digits[close + DIGITS - 1], signs]) + 1
    colons = np.flatnonzero(codes == ord(":"))
    pairs = np.flatnonzero(colons[1:] - colons[:-1] <= GROUP + 1)
    first = np.concatenate([first, colons[pairs]])
    end = np.concatenate([end, colons[pairs + 1] + 1])
    order = np.argsort(first, kind="stable")
    return first[order], end[order]


def _owned(address: str) -> bool:
    """Whether someone may own an IP address. All of IPv6 that is given out begins with 2 or 3: bytes of a hash do not."""
    found = ipaddress.ip_address(address)
    return found.is_global and (found.version == 4 or found in GIVEN_OUT)


def personal_spans(block: Block) -> dict[int, list[tuple[str, int, int]]]:
    """{text: [(kind, start, end)]} of the personal data in each text that has some; addresses that no one owns are left."""
    found: dict[int, list[tuple[str, int, int]]] = {}
    first, end = _anchors(block.codes)
    if not len(first):
        return found
    owner = np.searchsorted(block.begin, first, side="right") - 1
    low = np.maximum(first - AROUND, block.begin[owner])
    high = np.minimum(end + AROUND, block.begin[owner + 1] - 1)
    apart = (low[1:] > np.maximum.accumulate(high)[:-1]) | (owner[1:] != owner[:-1])
    begins = np.concatenate([[0], np.flatnonzero(apart) + 1])
    lows, highs = low[begins], np.maximum.reduceat(high, begins)
    for text, start, stop in zip(owner[begins].tolist(), lows.tolist(), highs.tolist(), strict=True):
        start, stop = start - int(block.begin[text]), stop - int(block.begin[text])
        window = block.texts[text][start:stop]
        for kind, a, b in find_personal(window):
            if kind != "ip" or _owned(window[a:b]):
                found.setdefault(text, []).append((kind, start + a, start + b))
    return {text: sorted(spans, key=lambda span: span[1:]) for text, spans in found.items()}


@dataclass(frozen=True)
class Evaluation:
    """One evaluation set: `items` texts, and `grams` (g,) uint64, all their 8-grams in order."""

    name: str
    items: tuple[str, ...]
    grams: np.ndarray

    @classmethod
    def of(cls, name: str, items: Sequence[str]) -> Evaluation:
        found = [block.ngrams(WORDS)[0] for block in blocks(items)]
        return cls(name, tuple(items), np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64))

    def matched(self, seen: np.ndarray) -> dict[str, int]:
        """How many items there are, how many have 8 words that were seen, and the longest match in words. seen: sorted grams."""
        runs = []
        for block in blocks(self.items):
            grams, first = block.ngrams(WORDS)
            hit = np.isin(grams, seen)
            edges = np.searchsorted(first, block.word_begin)
            runs += [longest_run(hit[a:b]) for a, b in itertools.pairwise(edges)]
        return {
            "items": len(self.items),
            "long_enough": int(sum(len(t.split()) >= WORDS for t in self.items)),
            "matched": int(np.count_nonzero(runs)),
            "longest_match_words": int(max(runs, default=0)),
        }


class Known:
    """The 8-grams of all evaluation sets, with a bit map before the search: most words of a corpus are in none."""

    BITS = 22

    def __init__(self, grams: np.ndarray) -> None:
        self.grams = np.unique(grams)
        self._map = np.zeros(1 << self.BITS, bool)
        self._map[self._slot(self.grams)] = True

    def _slot(self, grams: np.ndarray) -> np.ndarray:
        return (grams >> np.uint64(64 - self.BITS)).astype(np.int64)

    def hits(self, grams: np.ndarray) -> np.ndarray:
        """(h,) places of the known ones among `grams`."""
        if not len(self.grams):
            return np.empty(0, np.int64)
        maybe = np.flatnonzero(self._map[self._slot(grams)])
        place = np.minimum(np.searchsorted(self.grams, grams[maybe]), len(self.grams) - 1)
        return maybe[self.grams[place] == grams[maybe]]

    def spans(self, block: Block) -> tuple[dict[int, list[Span]], np.ndarray]:
        """({text: [(start, end)] of the lines with a match}, (m,) the grams that matched)."""
        grams, first = block.ngrams(WORDS)
        hits = self.hits(grams)
        found: dict[int, list[Span]] = {}
        begin, end = block.spans
        for word in first[hits].tolist():
            text = int(block.owner[word])
            origin, whole = int(block.begin[text]), block.texts[text]
            start = whole.rfind("\n", 0, int(begin[word]) - origin) + 1
            stop = whole.find("\n", int(end[word + WORDS - 1]) - origin)
            found.setdefault(text, []).append((start, len(whole) if stop < 0 else stop + 1))
        return found, np.unique(grams[hits])


def without(text: str, spans: Sequence[Span]) -> str:
    """The text without these spans, which may overlap."""
    pieces, at = [], 0
    for start, end in sorted(spans):
        if start > at:
            pieces.append(text[at:start])
        at = max(at, end)
    return "".join([*pieces, text[at:]])

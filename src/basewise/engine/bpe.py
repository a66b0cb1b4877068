"""Byte-level BPE: trained by `tokenizers`, its size chosen by bits per byte, and applied at the speed that a corpus needs.

Words are cut as GPT-4's tokenizer cuts them, but every digit is a token of its own. A tokenizer of any size is a prefix of a larger
one (merges are learned in order), so all sizes come from one training.

`Encoder` gives what `Tokenizer.encode` gives. BPE never looks beyond a piece of the pre-tokenizer, so each distinct piece is encoded
once, by `tokenizers`, and texts are put together from pieces: several times faster on running text. Python's `re` cuts the pieces;
each character that comes is first checked to belong to the same class in both, and texts with one that does not go the slow way.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from basewise.core.errors import InputError

SPECIAL = {"start": "<|start|>", "separator": "<|separator|>", "mask": "<|mask|>", "pad": "<|pad|>"}
"""Start of a document (and end of the one before, and the place that stands for a text in an encoder), and the others."""
LEAST = 256 + len(SPECIAL)
PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
MOST_PIECES = 1_000_000


def train(texts: Iterable[str], vocabulary: int) -> Any:
    """A `tokenizers.Tokenizer` of at most `vocabulary` tokens, special ones first; fewer where no pair occurs twice."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[AddedToken(name, special=True) for name in SPECIAL.values()],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return with_start(tokenizer)


def with_start(tokenizer: Any) -> Any:
    """The tokenizer, putting the start token before a text and the separator between two."""
    from tokenizers import processors

    ids = {name: tokenizer.token_to_id(name) for name in SPECIAL.values()}
    start, separator = SPECIAL["start"], SPECIAL["separator"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", pair=f"{start} $A {separator} $B", special_tokens=list(ids.items())
    )
    return tokenizer


def smaller(tokenizer: Any, vocabulary: int) -> Any:
    """The same tokenizer with only its first tokens: what training it at this size would have given."""
    from tokenizers import Tokenizer

    state = json.loads(tokenizer.to_str())
    model = state["model"]
    model["vocab"] = {token: place for token, place in model["vocab"].items() if place < vocabulary}
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
    return Tokenizer.from_str(json.dumps(state))


def check_size(tokenizer: Any, wanted: int) -> None:
    """Raise InputError where the corpus had not enough to learn so many tokens from."""
    if (size := tokenizer.get_vocab_size()) < wanted:
        raise InputError(
            f"the corpus supports a vocabulary of {size} tokens, {wanted} was asked for",
            f"ask for {size} or fewer, or give more text",
        )


def token_bytes(tokenizer: Any) -> np.ndarray:
    """(vocabulary,) int32 bytes that each token stands for; 0 for special tokens."""
    out = np.zeros(tokenizer.get_vocab_size(), np.int32)
    for token, place in tokenizer.get_vocab().items():
        out[place] = 0 if token in SPECIAL.values() else len(token)
    return out


@functools.cache
def _piece_pattern() -> re.Pattern[str]:
    """PATTERN for Python's `re`, its classes written out: a set of plain characters is one look-up, one with categories is a search.

    Characters beyond the basic plane count as "other", which holds for emoji; letters among them are found to disagree.
    """
    classes: dict[str, list[str]] = {"L": [], "N": [], "other": []}
    space = re.compile(r"\s")
    for code in range(0x10000):
        character = chr(code)
        if not space.match(character):
            kind = unicodedata.category(character)[0]
            classes[kind if kind in "LN" else "other"].append(character)
    letter, number, other = (f"[{re.escape(''.join(found))}]" for found in classes.values())
    other = f"{other[:-1]}\U00010000-\U0010ffff]"
    return re.compile(rf"'(?:[sdmt]|ll|ve|re)| ?{letter}+|{number}| ?{other}+|\s+(?!\S)|\s+")


class Encoder:
    """`encode(texts)` gives token ids without special tokens, equal to those of the tokenizer, at many times its speed."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._pieces: dict[str, int] = {}
        self._ids = np.empty(0, np.int64)
        self._begin = np.zeros(1, np.int64)
        self._same = np.zeros(sys.maxunicode + 1, bool)
        self._different = np.zeros(sys.maxunicode + 1, bool)

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """((t,) ids, (n + 1,) where each text's begin)."""
        slow = self._disagreeing(texts)
        cut = _piece_pattern().findall
        pieces = [self._cut_slowly(text) if i in slow else cut(text) for i, text in enumerate(texts)]
        if len(self._pieces) > MOST_PIECES:
            self.__init__(self.tokenizer)  # type: ignore[misc]
        self._learn(itertools.chain.from_iterable(pieces))
        counts = np.fromiter(map(len, pieces), np.int64, len(pieces))
        flat = itertools.chain.from_iterable(pieces)
        index = np.fromiter(map(self._pieces.__getitem__, flat), np.int64, int(counts.sum()))
        sizes = self._begin[index + 1] - self._begin[index]
        ends = np.concatenate([[0], np.cumsum(sizes)])
        ids = self._ids[np.repeat(self._begin[index] - ends[:-1], sizes) + np.arange(ends[-1])]
        return ids, ends[np.concatenate([[0], np.cumsum(counts)])]

    def _learn(self, pieces: Iterable[str]) -> None:
        """Encode the pieces that were not met before, all in one batch."""
        new = list(dict.fromkeys(itertools.filterfalse(self._pieces.__contains__, pieces)))
        if not new:
            return
        found = self.tokenizer.encode_batch_fast(new, add_special_tokens=False)
        ids = [one.ids for one in found]
        sizes = np.fromiter(map(len, ids), np.int64, len(ids))
        flat = np.fromiter(itertools.chain.from_iterable(ids), np.int64, int(sizes.sum()))
        self._pieces.update(zip(new, range(len(self._pieces), len(self._pieces) + len(new)), strict=True))
        self._ids = np.concatenate([self._ids, flat])
        self._begin = np.concatenate([self._begin, self._begin[-1] + np.cumsum(sizes)])

    def _cut_slowly(self, text: str) -> list[str]:
        """The pieces as the tokenizer cuts them."""
        return [text[a:b] for _, (a, b) in self.tokenizer.pre_tokenizer.pre_tokenize_str(text)]

    def _disagreeing(self, texts: Sequence[str]) -> set[int]:
        """Texts with a character that `re` and the tokenizer put into different classes."""
        wide = "".join(text for text in texts if not text.isascii())
        codes = np.frombuffer(wide.encode("utf-32-le", "surrogatepass"), np.uint32)
        seen = np.unique(codes[~self._same[codes]])
        for code in seen[~self._different[seen]].tolist():
            agree = self._class_by_tokenizer(chr(code)) == _class_by_re(chr(code))
            (self._same if agree else self._different)[code] = True
        odd = {chr(code) for code in seen.tolist() if self._different[code]}
        return {i for i, text in enumerate(texts) if odd and not odd.isdisjoint(text)}

    def _class_by_tokenizer(self, character: str) -> str:
        def pieces(text: str) -> int:
            return len(self.tokenizer.pre_tokenizer.pre_tokenize_str(text))

        if pieces("a" + character) == 1:
            return "letter"
        if pieces("!" + character) == 1:
            return "other"
        return "number" if pieces(character * 2) == 2 else "space"


def _class_by_re(character: str) -> str:
    """ "letter", "number", "other" or "space", as the pattern for `re` cuts."""
    cut = _piece_pattern().findall
    if len(cut("a" + character)) == 1:
        return "letter"
    if len(cut("!" + character)) == 1:
        return "other"
    return "number" if len(cut(character * 2)) == 2 else "space"

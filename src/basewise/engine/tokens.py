"""Texts to token ids: in one flat array, cut at the base's context and every cut counted.

A text of ten megabytes in one cell is cut by characters before the tokeniser sees it (no tokeniser here packs more
than CHARACTERS_PER_TOKEN characters into a token on average), so one cell cannot eat the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CHARACTERS_PER_TOKEN = 64


@dataclass(frozen=True)
class Tokens:
    """`ids` int32 of all rows one after the other; row i is `ids[offsets[i]:offsets[i + 1]]`; `cut[i]`: it was longer."""

    ids: np.ndarray
    offsets: np.ndarray
    cut: np.ndarray

    def __len__(self) -> int:
        return len(self.cut)

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64 tokens of each row, special tokens included, after the cut."""
        return np.diff(self.offsets)

    def row(self, index: int) -> np.ndarray:
        """Token ids of one row."""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    def take(self, rows: np.ndarray) -> Tokens:
        """Some rows, in the order asked."""
        pieces = [self.row(int(r)) for r in rows]
        return pack(list(pieces), self.cut[rows])


def pack(rows: Sequence[Any], cut: np.ndarray) -> Tokens:
    """Rows of ids to one flat array."""
    lengths = np.fromiter((len(r) for r in rows), np.int64, len(rows))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    ids = np.empty(int(offsets[-1]), np.int32)
    for row, start in zip(rows, offsets, strict=False):
        ids[start : start + len(row)] = row
    return Tokens(ids, offsets, np.asarray(cut, bool))


class Tokeniser:
    """A tokeniser of its own for one base: no padding, cut at `context`, never shared with the training loop.

    `tokenizer` is what `engine.weights.load_tokenizer` gives (transformers) or a `tokenizers.Tokenizer`.
    A row without any token becomes one token: the end, padding or unknown token, whichever exists, else id 0.
    """

    def __init__(self, tokenizer: Any, context: int, special: bool = True) -> None:
        from tokenizers import Tokenizer

        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        self.context, self.special = context, special
        self.backend = Tokenizer.from_str(backend.to_str())
        self.backend.no_padding()
        self.backend.no_truncation()
        overhead = self.backend.num_special_tokens_to_add(False) if special else 0
        self.backend.enable_truncation(max(context, overhead + 1))
        named = (getattr(tokenizer, f"{kind}_token_id", None) for kind in ("eos", "pad", "unk"))
        self.filler = next((int(i) for i in named if i is not None), 0)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokens of texts; releases the interpreter lock, so it can run in a thread ahead of the forward pass."""
        limit = self.context * CHARACTERS_PER_TOKEN
        long = [len(t) > limit for t in texts]
        shown = [t[:limit] if over else t for t, over in zip(texts, long, strict=True)]
        encodings = self.backend.encode_batch_fast(shown, add_special_tokens=self.special)
        cut = np.fromiter((bool(e.overflowing) for e in encodings), bool, len(encodings)) | np.asarray(
            long, bool
        )
        return pack([e.ids or [self.filler] for e in encodings], cut)

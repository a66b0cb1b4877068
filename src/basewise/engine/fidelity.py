"""Which precision a decoder scores in: bf16 where it is faster here and keeps the probabilities of fp32, else fp32.

Verified once a base and machine on texts of ours: every token's log-probability in bf16 beside fp32. The record is kept
under the user's cache, so that later runs open one network only.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from basewise.core.base import Base
from basewise.core.errors import BasewiseError, UnknownName
from basewise.core.files import home, read_json, write_json
from basewise.engine import device
from basewise.engine.decoder import Decoder
from basewise.engine.precision import candidate
from basewise.engine.scoring import sweep, sweep_plain
from basewise.engine.trie import build

PRECISIONS = ("auto", "fp32", "bf16")
MEAN_GAP, WORST_GAP, GREEDY_FLIPS = 0.1, 1.0, 0.03
"""Nats a token on average and at worst, and the share of tokens that are the likeliest in one precision only."""
TEXTS = (
    "The train to the coast leaves at nine, and the next one only after lunch.",
    "Question: Is the water boiling?\nAnswer: no, it is only warm.",
    "def area(width, height):\n    return width * height\n\nprint(area(3, 4))",
    "Three things are needed: flour, water and patience; the oven does the rest of the work by itself.",
    "La bibliothèque ouvre à dix heures le samedi. Die Bibliothek öffnet samstags um zehn.",
    "She looked at the map again, turned it around, and laughed: they had walked in a circle all morning.",
    "Sentence: The film was slow and far too long.\nLabel: negative\n\nSentence: A joy from start to end.\nLabel: positive",
    "In 1969, 12.5 % of the 4,816 households had a telephone; by 1985 it was nine in ten.",
)


def settle(base: Base, asked: str, tokenizer: Any) -> tuple[str, Decoder]:
    """(precision, opened decoder) for what was asked."""
    if asked not in PRECISIONS:
        raise UnknownName.of("precision", asked, PRECISIONS)
    tried = candidate(asked, device.machine()) if asked == "auto" else asked
    if tried == "fp32" or asked == "bf16":
        return tried, Decoder(base, tried)
    path = home() / "scoring" / f"{base.digest[:24]}.json"
    record = _read(path).get(tried)
    if record is not None:
        chosen = tried if record["holds"] else "fp32"
        return chosen, Decoder(base, chosen)
    exact, near = Decoder(base, "fp32"), Decoder(base, tried)
    record = compare(exact, near, [encoded(tokenizer, text) for text in TEXTS])
    with contextlib.suppress(BasewiseError):  # a cache that cannot be written: verified again next time
        write_json(path, {**_read(path), tried: record})
    return (tried, near) if record["holds"] else ("fp32", exact)


def encoded(tokenizer: Any, text: str) -> list[int]:
    """Token ids from a tokenizer of transformers or tokenizers."""
    found = tokenizer.encode(text, add_special_tokens=False)
    return list(getattr(found, "ids", found))


def compare(exact: Decoder, near: Decoder, rows: list[list[int]]) -> dict[str, Any]:
    """Every token of `rows` but the first, in both precisions: {"tokens", "mean_gap", "worst_gap", "flips", "holds"}."""
    rows = [row for row in rows if len(row) > 1]
    trie = build([row[:1] for row in rows], [row[1:] for row in rows])
    a, b = (sweep(d, trie, 512) if d.packed else sweep_plain(d, trie) for d in (exact, near))
    gap = np.abs(a.log_probability - b.log_probability)
    mean, worst = (float(gap.mean()), float(gap.max())) if len(gap) else (0.0, 0.0)
    flips = float((a.greedy != b.greedy).mean()) if len(gap) else 0.0
    holds = bool(np.isfinite(gap).all() and mean <= MEAN_GAP and worst <= WORST_GAP and flips <= GREEDY_FLIPS)
    return {"tokens": len(gap), "mean_gap": mean, "worst_gap": worst, "flips": flips, "holds": holds}


def _read(path: Any) -> dict[str, Any]:
    try:
        found = read_json(path)
    except BasewiseError:
        return {}
    return found if isinstance(found, dict) else {}

"""Which precision a decoder works in: bf16 where it is faster here and keeps the probabilities of fp32, else fp32; int8 if asked for.

bf16 is verified once a base and machine on texts of ours: every token's log-probability beside fp32. The record is kept
under the user's cache, so that later runs open one network only. int8 is never taken on its own, and verified each time on the
prompts that it is for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from basewise.core.base import Base
from basewise.core.errors import BasewiseError, UnknownName
from basewise.core.files import home, read_json, write_json
from basewise.engine import device
from basewise.engine.batches import CPU_TOKENS
from basewise.engine.decoder import Decoder
from basewise.engine.linear import whole_numbers
from basewise.engine.precision import candidate
from basewise.engine.rows import fill
from basewise.engine.scoring import sweep, sweep_plain
from basewise.engine.trie import build

PRECISIONS = ("auto", "fp32", "bf16", "int8")
MEAN_GAP, WORST_GAP, GREEDY_FLIPS = 0.1, 1.0, 0.03
"""Nats a token on average and at worst, and the share of tokens that are the likeliest in one precision only."""
CHANGED = 0.005
"""Of the places, the share whose likeliest token may be another in int8."""
PROMPTS, AHEAD, MOST_VERIFIED, LEAST_VERIFIED = 16, 16, 256, 256
"""Prompts that int8 is verified on, tokens after each, the most tokens of one, and the least in all without texts of ours."""
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


@dataclass(frozen=True)
class Settled:
    """The precision, the network opened in it, and a line that says why, empty where there was nothing to weigh."""

    precision: str
    decoder: Decoder
    why: str = ""


def settle(base: Base, asked: str, tokenizer: Any, prompts: Sequence[str] = ()) -> Settled:
    """The network of a base in the precision asked for, or in the best that holds. `prompts`: what int8 is verified on."""
    if asked not in PRECISIONS:
        raise UnknownName.of("precision", asked, PRECISIONS)
    refused, exact = "", None
    if asked == "int8":
        found = _whole(base, [encoded(tokenizer, text) for text in prompts], tokenizer)
        if found is not None and found.precision == "int8":
            return found
        exact = found.decoder if found is not None else None
        refused = found.why if found is not None else "this processor has no fast exact int8 products"
    tried = candidate("auto", device.machine()) if asked in ("auto", "int8") else asked
    why = f"{{}}: {refused}" if refused else ""
    if tried == "fp32" or asked == "bf16":
        return Settled(tried, exact if exact is not None else Decoder(base, tried), why.format(tried))
    path = home() / "scoring" / f"{base.digest[:24]}.json"
    record = _read(path).get(tried)
    if record is not None:
        chosen = tried if record["holds"] else "fp32"
        return Settled(chosen, Decoder(base, chosen), why.format(chosen))
    exact, near = exact if exact is not None else Decoder(base, "fp32"), Decoder(base, tried)
    record = compare(exact, near, [encoded(tokenizer, text)[: _context(exact)] for text in TEXTS])
    # a cache that cannot be written: verified again next time
    with contextlib.suppress(BasewiseError):
        write_json(path, {**_read(path), tried: record})
    chosen, decoder = (tried, near) if record["holds"] else ("fp32", exact)
    return Settled(chosen, decoder, why.format(chosen))


def _whole(base: Base, rows: list[list[int]], tokenizer: Any) -> Settled | None:
    """int8 weights beside fp32 on the prompts and what fp32 says next; None where this machine has none.

    Where int8 does not hold, the fp32 network comes back with the reason.
    """
    if torch.cuda.is_available() or not whole_numbers():
        return None
    exact, near = Decoder(base, "fp32"), Decoder(base, "int8")
    longest = max(2, min(MOST_VERIFIED, _context(exact)) - AHEAD)
    chosen = [row[-longest:] for row in rows[:: max(1, len(rows) // PROMPTS)][:PROMPTS] if row]
    said = "on your prompts and what follows them"
    if sum(map(len, chosen)) + AHEAD * len(chosen) < LEAST_VERIFIED:
        chosen += [encoded(tokenizer, text)[:longest] for text in TEXTS]
        said = "on your prompts, some texts of ours and what follows them" if rows else "on texts of ours"
    record = compare(exact, near, continued(exact, [row for row in chosen if row], AHEAD))
    holds = (
        record["changed"] <= CHANGED and record["mean_gap"] <= MEAN_GAP and record["worst_gap"] <= WORST_GAP
    )
    numbers = (
        f"{round(record['changed'] * record['tokens'])} of {record['tokens']:,} likeliest tokens differ from fp32"
        f" (at most {CHANGED:.1%} may), {record['mean_gap']:.3f} nats a token on average, {record['worst_gap']:.2f} at worst, {said}"
    )
    if holds:
        return Settled("int8", near, f"int8: {numbers}")
    return Settled("fp32", exact, f"int8 was asked for, but {numbers}")


def _context(decoder: Decoder) -> int:
    """The most tokens that the network reads, as far as its configuration says."""
    return int(getattr(decoder.model.config.get_text_config(), "max_position_embeddings", 0) or 2048)


def continued(decoder: Decoder, rows: list[list[int]], ahead: int) -> list[list[int]]:
    """Each row with the `ahead` tokens that are the likeliest after it."""
    prompts = [np.asarray(row, np.int64) for row in rows]
    states, logits = fill(decoder, prompts, ahead, CPU_TOKENS)
    last = logits.argmax(1).tolist()
    grown = [[*row, token] for row, token in zip(rows, last, strict=True)]
    for _ in range(ahead - 1):
        last = states.likeliest(np.asarray(last, np.int64))
        for row, token in zip(grown, last, strict=True):
            row.append(token)
    return grown


def encoded(tokenizer: Any, text: str) -> list[int]:
    """Token ids from a tokenizer of transformers or tokenizers."""
    found = tokenizer.encode(text, add_special_tokens=False)
    return list(getattr(found, "ids", found))


def compare(exact: Decoder, near: Decoder, rows: list[list[int]]) -> dict[str, Any]:
    """Every token of `rows` but the first, in both precisions: {"tokens", "mean_gap", "worst_gap", "flips", "changed", "holds"}.

    "flips": of the tokens that stand there, the share that is the likeliest in one precision only; "changed": of the places,
    the share whose likeliest token is another.
    """
    rows = [row for row in rows if len(row) > 1]
    trie = build([row[:1] for row in rows], [row[1:] for row in rows])
    a, b = (sweep(d, trie, 512) if d.packed else sweep_plain(d, trie) for d in (exact, near))
    gap = np.abs(a.log_probability - b.log_probability)
    mean, worst = (float(gap.mean()), float(gap.max())) if len(gap) else (0.0, 0.0)
    flips = float((a.greedy != b.greedy).mean()) if len(gap) else 0.0
    changed = float((a.best != b.best).mean()) if len(gap) else 0.0
    holds = bool(np.isfinite(gap).all() and mean <= MEAN_GAP and worst <= WORST_GAP and flips <= GREEDY_FLIPS)
    numbers = {"tokens": len(gap), "mean_gap": mean, "worst_gap": worst, "flips": flips, "changed": changed}
    return {**numbers, "holds": holds}


def _read(path: Any) -> dict[str, Any]:
    try:
        found = read_json(path)
    except BasewiseError:
        return {}
    return found if isinstance(found, dict) else {}

"""Generation: batched or streaming, greedy or sampled by seed, until a stop string, within a constraint.

A text's random numbers come from the seed and its own prompt, so it is the same alone and in a batch. Within a constraint
the likeliest (or drawn) token that keeps the text allowed is taken; where the text is complete and the base would leave
the constraint, it ends.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from basewise.core.errors import InputError, OutOfMemory
from basewise.core.files import Progress, silent
from basewise.core.hashing import generator
from basewise.engine.constraints import Constraint, constraint_of, readings
from basewise.engine.encoder import out_of_memory
from basewise.engine.letters import bytes_of, whole_letters
from basewise.engine.rows import Rows, fill

BUFFER_BYTES = 2**30
MOST_ROWS = 64
FIRST_TRIED = 64
MOST_BLANK = 8
"""Letters of white space before the first word of a text within a constraint: it could go on for ever."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to generate. temperature 0 is greedy; top_p 1 keeps every token; `stop`: texts that end an answer, not part of it;
    `choices` or `pattern`: what the answer may be; `cut_left`: a prompt that is too long loses its left end, else it is an error."""

    most_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    pattern: str = ""
    cut_left: bool = False

    def __post_init__(self) -> None:
        if self.most_tokens < 1:
            raise InputError(
                f"most tokens is {self.most_tokens}, at least 1 was expected", "give a larger number"
            )
        if not 0 <= self.temperature <= 100 or not 0 < self.top_p <= 1:
            raise InputError(
                f"temperature {self.temperature} and top_p {self.top_p} came",
                "give a temperature from 0 on and a top_p above 0 up to 1",
            )


@dataclass(frozen=True)
class Answer:
    """A generated text, how many tokens it took, and why it ended: "end", "stop", "length", "constraint", or "unmatched" where
    the tokens or the ways on ran out before the text was what the constraint allows."""

    text: str
    tokens: int
    ended: str


@dataclass
class Row:
    """One text in the making; within a constraint `begun` are the bytes of a letter that is not whole yet."""

    index: int
    options: Sampling
    constraint: Constraint | None
    random: np.random.Generator
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    begun: bytes = b""
    ended: str = ""

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken, so that the other logits need not be known."""
        return self.options.temperature == 0 and self.constraint is None

    @property
    def answer(self) -> Answer | None:
        """What came of it, once it has ended."""
        return Answer(self.text, len(self.tokens), self.ended) if self.ended else None


class Generator:
    """What turns logits into texts for one decoder: `decode` of token ids to text, and the tokens that end a text."""

    def __init__(self, decoder: Any, tokenizer: Any, budget: int) -> None:
        self.decoder, self.tokenizer, self.budget = decoder, tokenizer, budget
        self.ends = end_tokens(decoder.model, tokenizer)
        self.bytes_of = bytes_of(tokenizer)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text without special tokens."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def batches(self, prompts: list[np.ndarray], options: Sequence[Sampling]) -> list[np.ndarray]:
        """Prompts in batches that fit the buffers, those with a common beginning together."""
        room = max(map(len, prompts)) + max(own.most_tokens for own in options)
        size = self.most_rows(room)
        order = sorted(range(len(prompts)), key=lambda i: prompts[i].astype(">u4").tobytes())
        return [np.array(order[i : i + size]) for i in range(0, len(order), size)]

    def most_rows(self, room: int) -> int:
        """How many texts of `room` tokens each the buffers hold; one always fits."""
        config = self.decoder.model.config.get_text_config()
        token = 2 * self.decoder.layers * int(config.hidden_size) * self.decoder.dtype.itemsize
        return int(np.clip(BUFFER_BYTES // (token * room), 1, MOST_ROWS))

    def run(
        self,
        prompts: list[np.ndarray],
        options: Sequence[Sampling],
        names: Sequence[str],
        watched: bool = True,
    ) -> Iterator[tuple[int, str, Answer | None]]:
        """(prompt, text so far, its answer once it has ended) after every token of one batch; `names` seed the draws.

        Not `watched`: the text so far may be empty, which saves decoding it after every token.
        """
        live = [self.row(i, own, name) for i, (own, name) in enumerate(zip(options, names, strict=True))]
        rows, found = self.begin(live, prompts)
        while True:
            self.extend(live, found, watched)
            for row in live:
                yield row.index, row.text, row.answer
            if not self.drop(live, rows):
                return
            found = self.step(live, rows)

    @staticmethod
    def row(index: int, options: Sampling, name: str) -> Row:
        """A text that begins; `name` seeds its draws."""
        constraint = constraint_of(options.choices, options.pattern)
        return Row(index, options, constraint, generator("generate", options.seed, name))

    def begin(self, live: list[Row], prompts: list[np.ndarray]) -> tuple[Rows, torch.Tensor | list[int]]:
        """(the states of texts with these prompts, what `extend` takes)."""
        most = max(row.options.most_tokens for row in live)
        rows, logits = fill(self.decoder, prompts, most, self.budget)
        return rows, logits.argmax(1).tolist() if all(row.greedy for row in live) else logits

    @staticmethod
    def step(live: list[Row], rows: Rows) -> torch.Tensor | list[int]:
        """What `extend` takes, after each row's last token."""
        last = np.array([row.tokens[-1] for row in live])
        return rows.likeliest(last) if all(row.greedy for row in live) else rows.step(last)

    @staticmethod
    def drop(live: list[Row], rows: Rows) -> bool:
        """Forget the rows that have ended; whether any is left."""
        for place in range(len(live) - 1, -1, -1):
            if live[place].ended:
                rows.drop(place)
                last = live.pop()
                if place < len(live):
                    live[place] = last
        return bool(live)

    def extend(self, live: list[Row], found: torch.Tensor | list[int], watched: bool = True) -> None:
        """One more token for every live row, or its end, from logits (rows, V) or from the likeliest tokens themselves."""
        for place, row in enumerate(live):
            self._append(row, found[place] if isinstance(found, list) else self._pick(row, found[place]))
            self._read(row, watched)
            if row.ended and not self._done(row):
                row.ended = "unmatched"

    def _append(self, row: Row, token: int | None) -> None:
        """A token behind a row's others, unless it ends the row; None: its constraint allows no token."""
        if token is None or token in self.ends:
            row.ended = "constraint" if token is None else "end"
            return
        if row.constraint is not None:
            row.text, row.begun = self._spelt(row, token) or (row.text, b"")
        row.tokens.append(int(token))

    def _read(self, row: Row, watched: bool) -> None:
        """The text of a row's tokens, cut at a stop or ended by its length. `watched`: also decoded where neither asks for it yet."""
        options = row.options
        full = len(row.tokens) >= options.most_tokens
        if row.constraint is None and (watched or options.stop or full or row.ended):
            row.text = self.decode(row.tokens)
        if row.ended:
            return
        at = min((row.text.find(s) for s in options.stop if s and s in row.text), default=-1)
        if at >= 0:
            row.text, row.ended = row.text[:at], "stop"
        elif full:
            row.ended = "length"

    @staticmethod
    def _done(row: Row) -> bool:
        """Whether the text is what its constraint allows; without one it always is."""
        if row.constraint is None or row.begun:
            return row.constraint is None
        return any(map(row.constraint.complete, (row.text.strip(), *readings(row.text))))

    def _pick(self, row: Row, logits: torch.Tensor) -> int | None:
        """The next token under temperature and constraint; None where the constraint ends the text."""
        constraint = row.constraint
        for token in _order(logits, row.options, row.random):
            if constraint is None:
                return token
            done = self._done(row)
            if token in self.ends:
                if done:
                    return token
                continue
            if self._allowed(row, token, constraint):
                return token
            # the base would go on with something that is not allowed: the text is whole
            if done:
                return None
        if not (row.text.strip() or row.begun):
            wanted = row.options.pattern or f"one of {', '.join(row.options.choices[:3])}"
            raise InputError(
                f"the base has no token that {wanted!r} may begin with",
                "give an expression or choices that its vocabulary can write",
            )
        return None

    def _allowed(self, row: Row, token: int, constraint: Constraint) -> bool:
        """Whether the text may go on with the token: what it adds must be visible or the beginning of a letter."""
        found = self._spelt(row, token)
        if found is None or found == (row.text, row.begun):
            return False
        text, begun = found
        if not text.strip() and not begun:
            return len(text) <= MOST_BLANK
        return any(constraint.begins(reading, begun) for reading in readings(text))

    def _spelt(self, row: Row, token: int) -> tuple[str, bytes] | None:
        """(text of whole letters, the bytes of one that has begun) with one more token; None where the bytes are no letters."""
        found = whole_letters(row.begun + self.bytes_of(token))
        if found is None:
            return None
        letters, begun = found
        return (row.text + letters, begun) if begun else (self.decode([*row.tokens, token]), b"")


def _order(logits: torch.Tensor, options: Sampling, random: np.random.Generator) -> Iterator[int]:
    """Tokens in the order in which they are tried: by likelihood, or drawn without replacement and then, where a constraint
    allows none of those that can be drawn, the others by likelihood."""
    if options.temperature == 0:
        yield from torch.topk(logits, min(FIRST_TRIED, len(logits))).indices.tolist()
        yield from torch.argsort(logits, descending=True)[FIRST_TRIED:].tolist()
        return
    shares = torch.softmax(logits.double() / options.temperature, 0).cpu().numpy()
    order = np.arange(len(shares))
    if options.top_p < 1:
        order = np.argsort(-shares, kind="stable")
        kept = int(np.searchsorted(np.cumsum(shares[order]), options.top_p)) + 1
        order = order[:kept]
    weights, left = shares[order], np.ones(len(shares), bool)
    while len(order) and (total := weights.sum()) > 0:
        place = int(np.searchsorted(np.cumsum(weights), random.random() * total, side="right"))
        place = min(place, len(order) - 1)
        left[order[place]] = False
        yield int(order[place])
        order, weights = np.delete(order, place), np.delete(weights, place)
    yield from (int(token) for token in torch.argsort(logits, descending=True).tolist() if left[token])


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a text, of the generation's configuration and of the tokenizer."""
    found: set[Any] = set()
    for holder in (getattr(model, "generation_config", None), model.config, tokenizer):
        ends = getattr(holder, "eos_token_id", None)
        found |= set(ends if isinstance(ends, (list, tuple)) else [ends])
    return frozenset(int(t) for t in found if t is not None)


def held_back(text: str, stop: Sequence[str]) -> str:
    """The part of a growing text that can be shown: broken letters and what may become a stop string wait."""
    shown = text.rstrip("\ufffd")
    longest = max(
        (n for s in stop for n in range(1, len(s)) if shown.endswith(s[:n])),
        default=0,
    )
    return shown[: len(shown) - longest]


def news(shown: str, text: str, ended: bool, stop: Sequence[str]) -> str:
    """What can be added to the part of a growing text that was shown."""
    return (text if ended else held_back(text, stop))[len(shown) :]


def generate(
    maker: Generator,
    prompts: list[np.ndarray],
    names: Sequence[str],
    options: Sequence[Sampling],
    progress: Progress = silent,
) -> list[Answer]:
    """Answers in the order of the prompts; memory running out halves a batch, down to one prompt."""
    answers: dict[int, Answer] = {}
    pending = maker.batches(prompts, options)[::-1] if prompts else []
    while pending:
        batch = pending.pop()
        try:
            chosen, own, called = ([held[i] for i in batch] for held in (prompts, options, names))
            for place, _, answer in maker.run(chosen, own, called, watched=False):
                if answer is not None:
                    answers[int(batch[place])] = answer
                    progress(len(answers), len(prompts), "generating")
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1:
                raise OutOfMemory(
                    f"memory ran out on one prompt of {len(prompts[batch[0]]):,} tokens",
                    "use a shorter prompt, fewer tokens to generate or a smaller base",
                ) from error
            gc.collect()
            pending += [batch[len(batch) // 2 :], batch[: len(batch) // 2]]
    return [answers[i] for i in range(len(prompts))]

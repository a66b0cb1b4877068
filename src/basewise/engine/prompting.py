"""A classification task in words: a template, words for the labels, demonstrations, and the requests that score each label.

The instruction and the demonstrations come first and are the same for every text, so that the scorer computes them once. They,
a text and a label are encoded apart, each as it stands within a text: a text that is too long is cut and nothing else moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import numpy as np

from basewise.core.errors import InputError, UnknownName
from basewise.core.method import Wording
from basewise.core.task import Examples
from basewise.engine.causal import Causal
from basewise.engine.frozen import spoken, telling
from basewise.engine.tokens import CHARACTERS_PER_TOKEN

LISTED = 30
"""Labels up to which the instruction names them all."""
TEXT_TOKENS, SHOWN_TOKENS = 384, 96
"""The most tokens of a text that is asked about, and of one that is shown."""
PREFIX_SHARE, PREFIX_TOKENS = 0.5, 1536
"""The most of the context, and the most tokens, that instruction and demonstrations take."""


@dataclass(frozen=True)
class Template:
    """`instruction` said once, then for each row `head` text `between` label; `gap` is the white space before the label."""

    instruction: str
    head: str
    between: str
    gap: str

    @classmethod
    def of(cls, text: str) -> Template:
        """From a text with {text} and {label}; InputError where a slot is missing, twice there, or out of order."""
        for slot in ("{text}", "{label}"):
            if text.count(slot) != 1:
                raise InputError(
                    f"the template has {text.count(slot)} slots {slot}, one was expected",
                    'write it like "Text: {text}\\nLabel: {label}"',
                )
        before, _, rest = text.partition("{text}")
        between, label, after = rest.partition("{label}")
        if not label or after.strip() or not between:
            raise InputError(
                "the template does not end in {label} after {text} and words between them",
                'write it like "Text: {text}\\nLabel: {label}"',
            )
        instruction, line, head = before.rpartition("\n\n")
        bare = between.rstrip(" ")
        return cls(instruction + line, head, bare, between[len(bare) :])

    def shown(self, text: str, word: str) -> str:
        """A demonstration."""
        return f"{self.head}{text}{self.between}{self.gap}{word}\n\n"


def default_template(words: Sequence[str], described: Sequence[str] = ()) -> Template:
    """An instruction that names the labels where they are few, each with what is said of it, and a row of two lines."""
    meant = [f"{w} ({d})" if d else w for w, d in zip(words, described or [""] * len(words), strict=True)]
    named = f" one of these labels: {', '.join(meant)}" if len(words) <= LISTED else " its label"
    named = named.replace("{", "(").replace("}", ")")
    return Template.of(f"Give each text{named}.\n\nText: {{text}}\nLabel: {{label}}")


def verbalise(classes: Sequence[str], wording: Wording) -> tuple[str, ...]:
    """Words for each label: given, or its name spoken; letters where names say nothing or are alike."""
    given = {name: wording.said(name) for name, _ in wording.words}
    for name in given:
        if name not in classes:
            raise UnknownName.of("label", name, classes)
    words = [given.get(name, spoken(name)).strip() for name in classes]
    if given and (empty := [n for n, w in zip(classes, words, strict=True) if not w]):
        raise InputError(f"the label {empty[0]!r} has no words", "give it some, or leave it out")
    if given and len(set(words)) < len(words):
        twice = next(w for w in words if words.count(w) > 1)
        raise InputError(f"two labels are both called {twice!r}", "give every label words of its own")
    if given or (telling(classes) and all(words) and len(set(words)) == len(words)):
        return tuple(words)
    return tuple(_letters(i) for i in range(len(classes)))


def check_wording(wording: Wording, classes: Sequence[str]) -> None:
    """A template or words for labels that cannot be used are refused before anything runs."""
    if wording.template:
        Template.of(wording.template)
    verbalise(classes, wording)


def _letters(index: int) -> str:
    """A, B, … Z, AA, AB, …"""
    high, low = divmod(index, len(ascii_uppercase))
    return (_letters(high - 1) if high else "") + ascii_uppercase[low]


@dataclass(frozen=True)
class Prompt:
    """Token ids: `prefix` (P,), `between`, and of each label; `head` text; `room` tokens for a text with its head; `follows`:
    whether words stand before the head and the tokenizer gives a text of its own another beginning (not in files of older versions)."""

    prefix: tuple[int, ...]
    head: str
    between: tuple[int, ...]
    labels: tuple[tuple[int, ...], ...]
    room: int
    follows: bool = False

    def own(self, reader: Any, text: str, room: int) -> list[int]:
        """At most `room` token ids of a text with its head."""
        said = self.head + text[: room * CHARACTERS_PER_TOKEN]
        return (within(reader, said) if self.follows else list(reader.encode(said, special=False)))[:room]

    def requests(self, causal: Any, texts: Sequence[str]) -> list[tuple[list[int], tuple[int, ...]]]:
        """n x C requests, text by text; those of a text hold the same list."""
        made = []
        for text in texts:
            before = [*self.prefix, *self.own(causal, text, self.room), *self.between]
            made += [(before, label) for label in self.labels]
        return made


def within(reader: Any, piece: str) -> list[int]:
    """Token ids of a piece as they stand within a text. Tokenizers such as Llama-2's put a space before whatever they are given,
    so that a piece encoded alone begins with a token that no whole text has; of others these are the piece's own."""
    own = list(reader.encode(piece, special=False))
    for anchor in ("\n", "a") if begins_apart(reader) else ():
        before = list(reader.encode(anchor, special=False))
        whole = list(reader.encode(anchor + piece, special=False))
        if before and whole[: len(before)] == before:
            return whole[len(before) :]
    return own


def begins_apart(reader: Any) -> bool:
    """Whether the tokenizer begins every text with something of its own, such as a space."""
    line, letter, both = (list(reader.encode(text, special=False)) for text in ("\n", "a", "\na"))
    return both != [*line, *letter]


def build_prompt(
    causal: Any, template: Template, words: Sequence[str], shown: Sequence[tuple[str, str]]
) -> Prompt:
    """The prompt with demonstrations (text, word) for what encodes, a `Causal` or a `Masked`. Labels that begin like another end with
    a line, so that they compare.

    Raises InputError where not even a short text fits beside it.
    """
    labels = [tuple(within(causal, template.gap + word)) for word in words]
    if any(a != b and a == b[: len(a)] for a in labels for b in labels):
        end = tuple(within(causal, "\n"))
        labels = [(*label, *end) for label in labels]
    between = tuple(within(causal, template.between))
    instruction = template.instruction
    if len(causal.encode(instruction)) > most_prefix(causal):
        instruction = ""
    demonstrations = "".join(template.shown(short_text(causal, text), word) for text, word in shown)
    whole = instruction + demonstrations
    # without words still the beginning token, where the base has one
    prefix = tuple(causal.encode(whole))
    room = causal.context + 1 - len(prefix) - len(between) - max(map(len, labels))
    if room < 8:
        raise InputError(
            f"instruction, {len(shown)} demonstrations and label names leave {room} of {causal.context} tokens for a text",
            "give fewer shots, a shorter template or a base with a longer context",
        )
    return Prompt(
        prefix,
        template.head,
        between,
        tuple(labels),
        min(room, TEXT_TOKENS),
        bool(whole) and begins_apart(causal),
    )


def most_prefix(causal: Any) -> int:
    """The most tokens that instruction and demonstrations take."""
    return int(min(PREFIX_SHARE * causal.context, PREFIX_TOKENS))


def short_text(causal: Any, text: str) -> str:
    """A text cut to SHOWN_TOKENS, or to an eighth of a short context, in one line."""
    most = min(SHOWN_TOKENS, max(causal.context // 8, 4))
    line = " ".join(text[: most * CHARACTERS_PER_TOKEN].split())
    tokens = causal.encode(line, special=False)
    return line if len(tokens) <= most else causal.decode(tokens[:most]).rstrip("\ufffd")


def demonstrations(examples: Examples, shots: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows to show in rounds: each round one row of every class in random order; later rounds only add to earlier ones.

    At most half of a class's rows, at least one; the rest is needed to judge the prompt.
    """
    rows = [rng.permutation(np.flatnonzero(examples.labels == c)) for c in range(len(examples.classes))]
    rows = [r[: max(1, len(r) // 2)] for r in rows]
    rounds = []
    for number in range(shots):
        found = [int(r[number]) for r in rows if number < len(r)]
        rounds.append(rng.permutation(np.array(found, np.int64)))
    return rounds


def fits(causal: Any, prompt: Prompt) -> bool:
    """Whether instruction and demonstrations stay within their share of the context."""
    return len(prompt.prefix) <= most_prefix(causal)


def label_scores(causal: Causal, prompt: Prompt, texts: Sequence[str]) -> np.ndarray:
    """(n, C) summed log-probability of each label's tokens after each text."""
    if not len(texts):
        return np.zeros((0, len(prompt.labels)))
    found = causal.score_tokens(prompt.requests(causal, texts))
    return found.log_probability.reshape(len(texts), len(prompt.labels))

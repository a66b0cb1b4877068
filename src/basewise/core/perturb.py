"""The same text as another hand would have typed it: typos, case, spacing, look-alike letters, cut short; names and pronouns swapped.

Every change is a function of the text and a seed, so a rate can be measured again. None of them changes what a text asks for
(CheckList, Ribeiro et al. 2020); a swap changes only whom it is about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from basewise.core.cells import joined, split_inputs
from basewise.core.hashing import generator

NEAR_KEYS = {
    "a": "qsz", "b": "vgn", "c": "xdv", "d": "sfe", "e": "wrd", "f": "dgr", "g": "fht", "h": "gjy", "i": "uok", "j": "hku",
    "k": "jli", "l": "kop", "m": "njk", "n": "bhm", "o": "ipl", "p": "ol", "q": "wa", "r": "etf", "s": "adw", "t": "ryg",
    "u": "yij", "v": "cfb", "w": "qes", "x": "zsc", "y": "tuh", "z": "asx",
}  # fmt: skip
LOOK_ALIKES = str.maketrans("aceopxyiAEOPCTHKMBX", "асеорхуіАЕОРСТНКМВХ")
WORD = re.compile(r"\w+")


def typos(text: str, draw: np.random.Generator, every: int = 10) -> str:
    """One slip of a finger in every so many words: a neighbouring key, two letters swapped, one lost or doubled."""
    words = [m for m in WORD.finditer(text) if len(m.group()) >= 4]
    if not words:
        return text
    count = max(1, round(len(WORD.findall(text)) / every))
    chosen = sorted(draw.choice(len(words), min(count, len(words)), replace=False))[::-1]
    for k in chosen:
        start, end = words[k].span()
        text = text[:start] + _slip(words[k].group(), draw) + text[end:]
    return text


def _slip(word: str, draw: np.random.Generator) -> str:
    at, kind = int(draw.integers(1, len(word) - 1)), int(draw.integers(4))
    if kind == 0 and (keys := NEAR_KEYS.get(word[at].lower())):
        return word[:at] + keys[int(draw.integers(len(keys)))] + word[at + 1 :]
    if kind == 1:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + word[at + 1 :] if kind == 2 else word[:at] + word[at] + word[at:]


def spacing(text: str, draw: np.random.Generator) -> str:
    """Some spaces doubled, one line break, signs at the end taken away."""
    words = text.split(" ")
    joined = "".join(w + ("  " if draw.random() < 0.3 else " ") for w in words).rstrip()
    middle = joined.find(" ", len(joined) // 2)
    broken = joined if middle < 0 else f"{joined[:middle]}\n{joined[middle + 1 :]}"
    return broken.rstrip(".!?… ")


def look_alikes(text: str, draw: np.random.Generator) -> str:
    """One word in five in Cyrillic letters that look the same."""
    return WORD.sub(lambda m: m.group().translate(LOOK_ALIKES) if draw.random() < 0.2 else m.group(), text)


def cut_short(text: str, draw: np.random.Generator) -> str:
    """Without its last fifth, at a word's end."""
    words = text.split()
    return " ".join(words[: max(1, round(0.8 * len(words)))])


CHANGES: dict[str, Callable[[str, np.random.Generator], str]] = {
    "a typo in 10 words": lambda t, d: typos(t, d, 10),
    "two typos in 10 words": lambda t, d: typos(t, d, 5),
    "lower case": lambda t, d: t.lower(),
    "upper case": lambda t, d: t.upper(),
    "title case": lambda t, d: t.title(),
    "spacing": spacing,
    "look-alike letters": look_alikes,
    "cut short": cut_short,
}


def changed(name: str, texts: Sequence[str], seed: int = 0, inputs: Sequence[str] = ()) -> list[str]:
    """The texts under one of CHANGES; the same for the same seed. Of texts joined from the columns `inputs` each value, not the names."""

    def change(text: str) -> str:
        draw = generator("perturb", name, seed, text)
        values = [CHANGES[name](value, draw) for value in split_inputs(text, inputs)]
        return joined(values, inputs)

    return [change(text) for text in texts]


GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "names of women and men": (("Anna", "Emily", "Maria", "Sarah", "Laura"), ("Peter", "James", "Thomas", "David", "Martin")),
    "names of two origins": (("Emily", "Greg", "Anne", "Brad", "Matthew"), ("Lakisha", "Jamal", "Aisha", "Darnell", "Rasheed")),
    "names of two scripts": (("Smith", "Miller", "Baker", "Clark", "Wright"), ("Nguyen", "Yılmaz", "Kowalski", "Hassan", "Okafor")),
    "nationalities": (("German", "French", "British", "Dutch", "Danish"), ("Turkish", "Nigerian", "Syrian", "Mexican", "Pakistani")),
}  # fmt: skip
PRONOUNS = {
    "he": "she",
    "him": "her",
    "his": "her",
    "himself": "herself",
    "she": "he",
    "her": "him",
    "hers": "his",
    "herself": "himself",
}
_PRONOUN = re.compile(rf"\b({'|'.join(PRONOUNS)})\b", re.IGNORECASE)


def swapped_pronouns(text: str) -> str:
    """He for she and she for he, keeping capitals; the text itself where there are none."""

    def other(match: re.Match[str]) -> str:
        word = match.group()
        new = PRONOUNS[word.lower()]
        return (
            new.upper()
            if word.isupper() and len(word) > 1
            else new.capitalize()
            if word[0].isupper()
            else new
        )

    return _PRONOUN.sub(other, text)


def introduced(group: str, texts: Sequence[str], inputs: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """The texts with a person of one and of the other side put in front: nothing else differs between the two. Of texts joined from the
    columns `inputs` the first value begins with it."""
    one, other = GROUPS[group]
    form = "I am {}. " if group == "nationalities" else "My name is {}. "
    head = f"{inputs[0]}: " if len(inputs) > 1 else ""

    def before(person: str, text: str) -> str:
        place = len(head) if text.startswith(head) else 0
        return text[:place] + form.format(person) + text[place:]

    return tuple([before(side[i % len(side)], t) for i, t in enumerate(texts)] for side in (one, other))  # type: ignore[return-value]

"""Recall over distance: a passkey, and one of several facts, asked for after growing stretches of other text; made here.

"The passkey is 48213." stands at the start, a filler of so many words follows, then the question; the guess is the
likeliest of ten numbers, so chance is a tenth. `needle` states five facts at once and asks for each: the five
questions share their passage, are one cluster, and are read once.
"""

from __future__ import annotations

import numpy as np

from basewise.core.suite import BenchTask, Data, Item

FILES: tuple[str, ...] = ()
DISTANCES = (50, 100, 200, 400, 800)
PASSAGES, FACTS, CHOICES = 40, 5, 10
SHARES = {"passkey": 0.2, "needle": 0.5}
"""Of --limit: a passage is as long as many questions, and five needles share one."""
CITIES = [
    "Lisbon",
    "Oslo",
    "Cairo",
    "Lima",
    "Quito",
    "Hanoi",
    "Dakar",
    "Riga",
    "Perth",
    "Turin",
    "Malmo",
    "Kyoto",
    "Accra",
    "Porto",
    "Delhi",
    "Tunis",
]
SUBJECTS = [
    "gardener",
    "teacher",
    "baker",
    "sailor",
    "painter",
    "nurse",
    "farmer",
    "clerk",
    "driver",
    "singer",
]
VERBS = ["watched", "carried", "mended", "described", "counted", "sold", "found", "drew", "moved", "cleaned"]
OBJECTS = [
    "old boat",
    "red lamp",
    "wooden chair",
    "small table",
    "heavy box",
    "long rope",
    "blue coat",
    "broken clock",
    "stone wall",
    "brass bell",
]
TIMES = [
    "in the morning",
    "after the rain",
    "before lunch",
    "by the river",
    "near the station",
    "without a word",
    "on Monday",
    "at dusk",
]


def filler(words: int, draw: np.random.Generator) -> str:
    """At least so many words of plain sentences without a number in them."""
    sentences, count = [], 0
    while count < words:
        a, b, c, d = (str(draw.choice(part)) for part in (SUBJECTS, VERBS, OBJECTS, TIMES))
        sentences.append(f"The {a} {b} the {c} {d}.")
        count += len(sentences[-1].split())
    return " ".join(sentences)


def _numbers(draw: np.random.Generator, count: int) -> list[str]:
    return [str(n) for n in draw.choice(np.arange(10_000, 100_000), count, replace=False)]


def passkeys(words: int) -> tuple[Item, ...]:
    """One key, one question a passage."""
    items = []
    for passage in range(PASSAGES):
        draw = np.random.default_rng([words, passage, 1])
        numbers = _numbers(draw, CHOICES)
        answer = int(draw.integers(CHOICES))
        context = f"The passkey is {numbers[answer]}. Remember it.\n{filler(words, draw)}\nQuestion: What is the passkey?\nAnswer: The passkey is"
        items.append(
            Item(context=context, choices=tuple(f" {n}" for n in numbers), answer=answer, text=context)
        )
    return tuple(items)


def needles(words: int) -> tuple[Item, ...]:
    """Five facts a passage, each asked for; the other facts' numbers are among the choices."""
    items = []
    for passage in range(PASSAGES):
        draw = np.random.default_rng([words, passage, 2])
        numbers = _numbers(draw, CHOICES)
        cities = [str(city) for city in draw.choice(CITIES, FACTS, replace=False)]
        facts = " ".join(
            f"The number of {city} is {n}." for city, n in zip(cities, numbers[:FACTS], strict=True)
        )
        text = f"{facts}\n{filler(words, draw)}\nQuestion: What is the number of"
        order = [int(i) for i in draw.permutation(CHOICES)]
        choices = tuple(f" {numbers[i]}" for i in order)
        items += [
            Item(
                context=f"{text} {city}?\nAnswer: The number of {city} is",
                choices=choices,
                answer=order.index(fact),
                text=text,
                cluster=f"{words}/{passage}",
            )
            for fact, city in enumerate(cities)
        ]
    return tuple(items)


def tasks(data: Data) -> list[BenchTask]:
    """A task a kind and distance; the data folder is not read."""
    return [
        BenchTask(
            name=f"recall/{kind}_{words}",
            items=make(words),
            about=f"{about}, {words} words back",
            share=SHARES[kind],
            shotless=True,
        )
        for kind, about, make in (
            ("passkey", "one number", passkeys),
            ("needle", "one of five numbers", needles),
        )
        for words in DISTANCES
    ]
